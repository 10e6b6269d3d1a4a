"""How much of an eviction may be anonymous memory."""

from __future__ import annotations

from memreact.events import Inspection
from memreact.rules import MemcgRules

__all__ = [
    "ANON_FIRST",
    "ANON_ONLY",
    "FILE_ONLY",
    "ZRAM_WORTH_PERCENT",
    "anon_refused",
    "anon_room_pages",
    "swappiness",
]

FILE_ONLY = 0
ANON_FIRST = 200
"""Anonymous pages as long as there are some: before Linux 6.14 that is the same as alone."""
ANON_ONLY = 201
"""Written as `max`, from Linux 6.16 on; older kernels refuse it."""
# Under this much free swap anonymous pages only go round in circles; the original's margin.
_SWAP_MARGIN_PAGES = 256
# zram that stores pages in more than this share of their size gives too little back.
ZRAM_WORTH_PERCENT = 90
# Less stored than this says nothing about how well the guest's pages compress.
_ZRAM_SAMPLE_BYTES = 16 << 20


def swappiness(anon_pages: int, file_pages: int, limit: int) -> int:
    """The kernel's 0 to 200 for this mix of cold pages, anon's share capped at `limit` of 200.

    With no file pages left anonymous memory may go all the same, unless the limit is 0.
    """
    if not anon_pages or not limit:
        return FILE_ONLY
    if not file_pages:
        return ANON_FIRST
    total = anon_pages + file_pages
    return min((400 * anon_pages + total) // (2 * total), limit)


def anon_refused(rules: MemcgRules, saw: Inspection, page_bytes: int) -> str | None:
    """Why no anonymous page of this memcg may be evicted now; None when it may."""
    if not rules.swap:
        return "swap_not_asked_for"
    if not rules.swappiness_max:
        return "swappiness_max_is_0"
    if saw.swap_free_bytes <= _SWAP_MARGIN_PAGES * page_bytes:
        return "swap_exhausted" if saw.swap_limit_path is None else "swap_limit_reached"
    if not anon_room_pages(saw, page_bytes):
        return "zram_full"
    stored = saw.zram_stored_bytes
    if stored >= _ZRAM_SAMPLE_BYTES and saw.zram_used_bytes * 100 >= stored * ZRAM_WORTH_PERCENT:
        return "zram_saves_nothing"
    return None


def anon_room_pages(saw: Inspection, page_bytes: int) -> int:
    """Anonymous pages that fit into the swap this memcg can use, short of the margin.

    Where zram may take only so much, they count there as if they were not compressed: what they
    really took shows in the next reading.
    """
    left = saw.swap_free_bytes
    if saw.zram_left_bytes is not None:
        left = min(left, saw.zram_left_bytes)
    return max(0, left // page_bytes - _SWAP_MARGIN_PAGES)
