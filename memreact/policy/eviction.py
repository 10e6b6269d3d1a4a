"""The eviction of one memcg on one node: how large the next write is, and when it is over.

A write takes file pages alone, anonymous pages alone, or, where there is much of both, a mix that
the kernel makes by the swappiness. Before Linux 6.14 a write that may take anonymous pages ends
with their old generations. From then on it ends when the old ones of both kinds are gone, and until
then goes on with younger anonymous pages: no mixes there, and anonymous pages go by the word `max`
(6.16), which counts them alone, or, without it, when no old file page is left.
"""

from __future__ import annotations

from memreact.actions import Because, Evict, Reclaim
from memreact.events import BatchEnded, CapabilitiesRead, Inspection, Instant
from memreact.policy.plan import LEAST_PAGES, RECLAIM_SEQ
from memreact.policy.protection import overshoot_bytes, reclaimable_bytes
from memreact.policy.state import Candidate, Eviction
from memreact.policy.swappiness import (
    ANON_FIRST,
    ANON_ONLY,
    FILE_ONLY,
    anon_refused,
    anon_room_pages,
    swappiness,
)
from memreact.rules import MemcgRules
from memreact.value import replace

__all__ = [
    "BATCH_BYTES",
    "EVICTION_ENDS_US",
    "RECLAIM_BATCH_BYTES",
    "WRITE_ENDS_US",
    "accounted",
    "next_write",
    "opened",
]

BATCH_BYTES = 64 << 20
# memory.reclaim looks at signals only between its own batches, so the request is the brake.
RECLAIM_BATCH_BYTES = 8 << 20
WRITE_ENDS_US = 2_000_000
EVICTION_ENDS_US = 60_000_000
# Less than this share of what was asked for: the kernel stopped because it found no more. What it
# counted may lag behind by 64 events for each CPU, so a little less says nothing.
_DRY = 8
# One kind that is less than a quarter of the other is left for a write of its own.
_COMPARABLE = 4
# memory.reclaim without a swappiness of its own.
_KERNELS_CHOICE = -1


def opened(candidate: Candidate, allowed_pages: int, saw: Inspection, now: Instant) -> Eviction:
    """An eviction that begins with what its memcg looks like now."""
    return Eviction(
        candidate,
        started_at=now,
        first=saw,
        last=saw,
        fresh=True,
        allowed_pages=allowed_pages,
        anon_left=candidate.anon_pages,
        file_left=candidate.file_pages,
    )


def next_write(
    eviction: Eviction, rules: MemcgRules, guest: CapabilitiesRead, now: Instant
) -> Evict | Reclaim | Because:
    """The next write of this eviction, or why there is none."""
    saw = eviction.last
    if saw is None:
        return Because("vanished")
    ended = eviction.ends or _ended(eviction, saw, now)
    if ended is not None:
        return ended
    if eviction.candidate.seq == RECLAIM_SEQ:
        found = _reclaim_share(eviction, saw, rules, guest)
    else:
        found = _evict_share(eviction, saw, rules, guest)
    if isinstance(found, Because):
        return found
    (share, most), page_bytes = found, guest.page_bytes
    pages = _pages(eviction, saw, rules, page_bytes, anon=share != FILE_ONLY)
    if isinstance(pages, Because):
        return pages
    return _write(eviction.candidate, share, min(pages, most), page_bytes)


def accounted(
    eviction: Eviction, event: BatchEnded, write: Evict | Reclaim, page_bytes: int
) -> Eviction:
    """The eviction after a write: what it took of each kind, and whether the kernel found no more.

    The counter holds what others evict too, in the memcg and below it: no more counts than the
    write can have taken.

    The kernel stops by itself when the generations are gone or a batch finds nothing; a write that
    was broken off says nothing about that.
    """
    after, before = event.after, eviction.last
    if after is None or before is None:
        return eviction
    most = write.pages + overshoot_bytes(before, page_bytes) // page_bytes
    got = min(most, max(0, after.evicted_total_pages - before.evicted_total_pages))
    anon, file = _split(got, before, after, write)
    took = replace(
        eviction,
        last=after,
        evicted_pages=eviction.evicted_pages + got,
        anon_left=max(0, eviction.anon_left - anon),
        file_left=max(0, eviction.file_left - file),
    )
    dry = event.exhausted or (event.outcome == "done" and got * _DRY < write.pages)
    return _without_dry(took, write) if dry else took


def _split(
    got: int, before: Inspection, after: Inspection, write: Evict | Reclaim
) -> tuple[int, int]:
    """Anon and file pages of what a write took; of a mix, by what memory.stat lost of either."""
    if isinstance(write, Reclaim) or write.swappiness == FILE_ONLY:
        return 0, got
    if write.swappiness >= ANON_FIRST:
        return got, 0
    anon_bytes = max(0, before.swappable_bytes - after.swappable_bytes)
    file_bytes = max(0, before.droppable_bytes - after.droppable_bytes)
    lost = anon_bytes + file_bytes
    anon = got * anon_bytes // lost if lost else got // 2
    return anon, got - anon


def _without_dry(eviction: Eviction, write: Evict | Reclaim) -> Eviction:
    """Ask no more for what was just not given; of a mix that is the file pages at first."""
    if write.swappiness >= ANON_FIRST and isinstance(write, Evict):
        stuck = eviction.stuck_pages + eviction.anon_left
        return replace(eviction, anon_left=0, stuck_pages=stuck)
    stuck = eviction.stuck_pages + eviction.file_left
    return replace(eviction, file_left=0, stuck_pages=stuck)


def _ended(eviction: Eviction, saw: Inspection, now: Instant) -> Because | None:
    first = eviction.first or saw
    if saw.frozen:
        return Because("frozen")
    if saw.oom_total > first.oom_total:
        return Because("oom", {"times": saw.oom_total - first.oom_total})
    if saw.throttled_total > first.throttled_total:
        return Because("limit_hit", {"times": saw.throttled_total - first.throttled_total})
    if now - eviction.started_at > EVICTION_ENDS_US:
        return Because("out_of_time", {"after_us": now - eviction.started_at})
    return None


def _evict_share(
    eviction: Eviction, saw: Inspection, rules: MemcgRules, guest: CapabilitiesRead
) -> tuple[int, int] | Because:
    """The swappiness of the next write and the most that it may ask for; or why nothing is left."""
    page_bytes = guest.page_bytes
    refused = _refused(eviction, saw, rules, page_bytes)
    room = 0 if refused else anon_room_pages(saw, page_bytes)
    anon, file = min(eviction.anon_left, room), eviction.file_left
    if guest.anon_alone == "after_file" and anon >= LEAST_PAGES:
        if eviction.stuck_pages and not file:
            anon, refused = 0, "file_pages_stay"
        elif file:
            return FILE_ONLY, file
    if max(anon, file) < LEAST_PAGES:
        return _nothing_left(eviction, saw, refused, page_bytes)
    if guest.anon_alone == "max":
        return (ANON_ONLY, anon) if anon > file else (FILE_ONLY, file)
    if min(anon, file) < LEAST_PAGES or min(anon, file) * _COMPARABLE < max(anon, file):
        return (ANON_FIRST, anon) if anon > file else (FILE_ONLY, file)
    return swappiness(anon, file, rules.swappiness_max), min(anon, file)


def _reclaim_share(
    eviction: Eviction, saw: Inspection, rules: MemcgRules, guest: CapabilitiesRead
) -> tuple[int, int] | Because:
    """The same on the rung below, where the kernel chooses by itself which pages are old."""
    page_bytes = guest.page_bytes
    refused = _refused(eviction, saw, rules, page_bytes)
    if eviction.stuck_pages:
        return _nothing_left(eviction, saw, refused, page_bytes)
    room = 0 if refused else anon_room_pages(saw, page_bytes)
    anon, file = min(saw.swappable_bytes // page_bytes, room), saw.droppable_bytes // page_bytes
    if anon + file < LEAST_PAGES:
        return Because("nothing_may_go", _anon_figures(eviction, saw, refused))
    if not saw.swap_free_bytes:
        return _KERNELS_CHOICE, anon + file
    if not guest.reclaim_takes_swappiness:
        if refused not in {None, "swap_exhausted", "swap_limit_reached"}:
            return Because("would_swap_too", _anon_figures(eviction, saw, refused))
        return _KERNELS_CHOICE, anon + file
    return swappiness(anon, file, rules.swappiness_max), anon + file


def _refused(eviction: Eviction, saw: Inspection, rules: MemcgRules, page_bytes: int) -> str | None:
    """Why no anonymous page may go, by what the memcg looks like and by what came back to it."""
    refused = anon_refused(rules, saw, page_bytes)
    if refused is None and eviction.candidate.promoted is not None:
        return "promotions_over_limit"
    return refused


def _anon_figures(eviction: Eviction, saw: Inspection, refused: str | None) -> dict[str, int | str]:
    """Why anonymous memory stays, and the figures behind it."""
    if refused is None:
        return {}
    found = eviction.candidate.promoted
    match refused:
        case "promotions_over_limit" if found is not None:
            return {"anon": refused, **found.figures()}
        case "swap_exhausted":
            return {"anon": refused, "swap_free_bytes": saw.swap_free_bytes}
        case "swap_limit_reached":
            limit = {"limit_of": saw.swap_limit_path or ""}
            return {"anon": refused, **limit, "swap_left_bytes": saw.swap_free_bytes}
    return {"anon": refused}


def _pages(
    eviction: Eviction, saw: Inspection, rules: MemcgRules, page_bytes: int, *, anon: bool
) -> int | Because:
    left = eviction.allowed_pages - eviction.evicted_pages
    if left <= 0:
        return _took_all(eviction)
    most = BATCH_BYTES if eviction.candidate.seq != RECLAIM_SEQ else RECLAIM_BATCH_BYTES
    spare, guard = reclaimable_bytes(saw, rules, page_bytes, anon=anon)
    if spare is None or guard is None:
        return min(left, most // page_bytes)
    if spare < min(LEAST_PAGES, left) * page_bytes:
        figures: dict[str, int | str] = {"guard": guard.path, "current_bytes": guard.current_bytes}
        return Because("protected", {**figures, "protected_bytes": guard.protected_bytes})
    return min(left, min(most, spare) // page_bytes)


def _took_all(eviction: Eviction) -> Because:
    cold = eviction.candidate.pages
    code = "refaults" if eviction.allowed_pages < cold else "cold_gone"
    return Because(code, {"cold_pages": cold})


def _write(to: Candidate, share: int, pages: int, page_bytes: int) -> Evict | Reclaim:
    if to.seq == RECLAIM_SEQ:
        return Reclaim(to.path, to.inode, pages, page_bytes, share)
    return Evict(to.path, to.inode, to.memcg_id, to.node, to.seq, share, pages)


def _nothing_left(
    eviction: Eviction, saw: Inspection, refused: str | None, page_bytes: int
) -> Because:
    """The kernel found no more: the generations are gone, or what is left cannot go."""
    figures: dict[str, int | str] = {"cold_pages": eviction.candidate.pages}
    stuck = eviction.stuck_pages
    if stuck >= max(LEAST_PAGES, eviction.candidate.pages // _DRY):
        return _stuck(saw, stuck, page_bytes, figures)
    if eviction.anon_left >= LEAST_PAGES:
        refused = refused or "swap_exhausted"
        return Because("anon_stays", {**figures, **_anon_figures(eviction, saw, refused)})
    return Because("cold_gone", figures)


def _stuck(saw: Inspection, stuck: int, page_bytes: int, figures: dict[str, int | str]) -> Because:
    figures = {**figures, "left_pages": stuck}
    for code, held_bytes in (
        ("no_progress_dirty", saw.dirty_bytes),
        ("no_progress_pinned", saw.unevictable_bytes),
    ):
        if held_bytes // page_bytes * 2 >= stuck:
            return Because(code, {**figures, "held_bytes": held_bytes})
    return Because("no_progress_in_use", figures)
