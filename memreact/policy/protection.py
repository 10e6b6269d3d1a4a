"""How much of a memcg may go before a promise to it, or to one above it, is broken."""

from __future__ import annotations

from memreact.events import Guard, Inspection
from memreact.rules import MemcgRules

__all__ = ["floor_bytes", "overshoot_bytes", "reclaimable_bytes"]

# The kernel isolates folios until they are this many pages, and only then looks at what it was
# asked for: MIN_LRU_BATCH and scan_folios() in mm/vmscan.c.
_BATCH_PAGES = 64


def floor_bytes(rules: MemcgRules, limit_bytes: int | None) -> int:
    """What the rules keep for this memcg, whatever the kernel protects."""
    share = 0 if limit_bytes is None else limit_bytes * rules.floor_ppm // 1_000_000
    return max(rules.floor_bytes, share)


def overshoot_bytes(saw: Inspection, page_bytes: int, *, anon: bool = True) -> int:
    """How much more than it was asked for a write may take: a batch, whose last folio is large."""
    largest = max(saw.folio_bytes, saw.anon_folio_bytes) if anon else saw.folio_bytes
    return (_BATCH_PAGES - 1) * page_bytes + largest


def reclaimable_bytes(
    saw: Inspection, rules: MemcgRules, page_bytes: int, *, anon: bool = True
) -> tuple[int | None, Guard | None]:
    """Bytes that may be asked for, and the guard that sets the bound; None where none does.

    For the memcg and each ancestor: current - asked - overshoot >= protected.

    Args:
        saw: The memcg.
        rules: What holds for it.
        page_bytes: Of one page.
        anon: Whether anonymous folios may be taken, which can be larger than those of files.
    """
    overshoot = overshoot_bytes(saw, page_bytes, anon=anon)
    floor = floor_bytes(rules, saw.limit_bytes)
    least: tuple[int | None, Guard | None] = (None, None)
    for at, guard in enumerate(saw.guards):
        kept = max(guard.protected_bytes, floor) if at == 0 else guard.protected_bytes
        if not kept:
            continue
        spare = max(0, guard.current_bytes - kept - overshoot)
        if least[0] is None or spare < least[0]:
            least = (spare, Guard(guard.path, guard.current_bytes, kept))
    return least
