"""The eviction of one memcg on one node: how large the next write is, and when it is over."""

from __future__ import annotations

from dataclasses import replace

from memreact.actions import Action, Because, Evict, Reclaim
from memreact.events import BatchEnded, Inspection, Instant
from memreact.policy.plan import LEAST_PAGES
from memreact.policy.protection import reclaimable_bytes
from memreact.policy.state import Eviction
from memreact.policy.swappiness import ANON_ONLY, FILE_ONLY, anon_refused, swappiness
from memreact.rules import MemcgRules

__all__ = ["BATCH_BYTES", "EVICTION_ENDS_US", "WRITE_ENDS_US", "after_batch", "next_write"]

BATCH_BYTES = 64 << 20
# memory.reclaim looks at signals only between its own batches, so the request is the brake.
RECLAIM_BATCH_BYTES = 8 << 20
WRITE_ENDS_US = 2_000_000
EVICTION_ENDS_US = 60_000_000
# memory.stat may lag by the kernel's per-CPU batches.
_LAG_PAGES = 128
RECLAIM_SEQ = -1


def next_write(
    eviction: Eviction, saw: Inspection, rules: MemcgRules, page_bytes: int, now: Instant
) -> Action | Because:
    """The next write of this eviction, or why there is none."""
    ended = _ended(eviction, saw, now)
    if ended is not None:
        return ended
    pages = _pages(eviction, saw, rules, page_bytes)
    if isinstance(pages, Because):
        return pages
    return _write(eviction, saw, rules, pages, page_bytes)


def after_batch(
    eviction: Eviction, event: BatchEnded, rules: MemcgRules, page_bytes: int
) -> Eviction | Because:
    """What a write that ran to its own end says about the next.

    The kernel stops by itself when the generation is gone or a batch finds nothing.
    """
    after, before = event.after, eviction.last
    if after is None or before is None:
        return Because("vanished")
    got = max(0, after.evicted_total_pages - before.evicted_total_pages)
    eviction = replace(eviction, last=after)
    if got >= max(1, event.asked_pages - _LAG_PAGES):
        return eviction
    if _anon_left(eviction, after, rules, page_bytes) >= LEAST_PAGES and not eviction.anon_only:
        return replace(eviction, anon_only=True)
    return _ran_dry(eviction, after, page_bytes)


def _ended(eviction: Eviction, saw: Inspection, now: Instant) -> Because | None:
    first = eviction.first or saw
    if saw.frozen:
        return Because("frozen")
    if saw.throttled_total > first.throttled_total:
        return Because("limit_hit", {"times": saw.throttled_total - first.throttled_total})
    if saw.oom_total > first.oom_total:
        return Because("oom", {"times": saw.oom_total - first.oom_total})
    if now - eviction.started_at > EVICTION_ENDS_US:
        return Because("out_of_time", {"after_us": now - eviction.started_at})
    return None


def _pages(
    eviction: Eviction, saw: Inspection, rules: MemcgRules, page_bytes: int
) -> int | Because:
    spare, guard = reclaimable_bytes(saw, rules)
    if spare is not None and guard is not None and spare < page_bytes:
        figures: dict[str, int | str] = {"guard": guard.path, "current_bytes": guard.current_bytes}
        return Because("protected", {**figures, "protected_bytes": guard.protected_bytes})
    left = eviction.allowed_pages - eviction.evicted_pages
    if left <= 0:
        return _took_all(eviction)
    most = BATCH_BYTES if eviction.candidate.seq != RECLAIM_SEQ else RECLAIM_BATCH_BYTES
    spare = most if spare is None else min(most, spare)
    return max(1, min(left, spare // page_bytes))


def _took_all(eviction: Eviction) -> Because:
    cold, took = eviction.candidate.pages, eviction.evicted_pages
    code = "refaults" if eviction.allowed_pages < cold else "cold_gone"
    return Because(code, {"evicted_pages": took, "cold_pages": cold})


def _write(
    eviction: Eviction, saw: Inspection, rules: MemcgRules, pages: int, page_bytes: int
) -> Action | Because:
    refused = anon_refused(rules, saw, page_bytes)
    anon = _anon_left(eviction, saw, rules, page_bytes)
    file = 0 if eviction.anon_only else _file_left(eviction, saw, page_bytes)
    if not anon and not file:
        saw_why: dict[str, int | str] = {"evicted_pages": eviction.evicted_pages}
        return Because("cold_gone", {**saw_why, "anon": refused} if refused else saw_why)
    share = swappiness(anon, file, rules.swappiness_max)
    if share == ANON_ONLY:
        pages = min(pages, saw.swap_free_bytes // page_bytes)
    candidate = eviction.candidate
    if candidate.seq == RECLAIM_SEQ:
        share = share if saw.swap_free_bytes else -1
        return Reclaim(candidate.path, candidate.inode, pages, page_bytes, share)
    return Evict(
        candidate.path,
        candidate.inode,
        candidate.memcg_id,
        candidate.node,
        candidate.seq,
        share if refused is None else FILE_ONLY,
        pages,
    )


def _anon_left(eviction: Eviction, saw: Inspection, rules: MemcgRules, page_bytes: int) -> int:
    """Cold anonymous pages that are still there and may go; an estimate from memory.stat."""
    if anon_refused(rules, saw, page_bytes) is not None or not rules.swappiness_max:
        return 0
    first = eviction.first or saw
    gone = max(0, first.anon_bytes - saw.anon_bytes) // page_bytes
    return max(0, eviction.candidate.anon_pages - gone)


def _file_left(eviction: Eviction, saw: Inspection, page_bytes: int) -> int:
    first = eviction.first or saw
    gone = max(0, first.file_bytes - saw.file_bytes) // page_bytes
    return max(0, eviction.candidate.file_pages - gone)


def _ran_dry(eviction: Eviction, after: Inspection, page_bytes: int) -> Because:
    """The kernel found no more: the generation is gone, or what is left cannot go."""
    left = eviction.candidate.pages - eviction.evicted_pages
    saw: dict[str, int | str] = {"evicted_pages": eviction.evicted_pages, "left_pages": left}
    if left < max(LEAST_PAGES, eviction.candidate.pages // 8):
        return Because("cold_gone", saw)
    for code, held_bytes in (
        ("no_progress_dirty", after.dirty_bytes),
        ("no_progress_pinned", after.unevictable_bytes),
    ):
        if held_bytes // page_bytes * 2 >= left:
            return Because(code, {**saw, "held_bytes": held_bytes})
    return Because("no_progress_in_use", saw)
