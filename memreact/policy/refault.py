"""Pages that come back prove that they were not cold: the next turn takes less."""

from __future__ import annotations

from memreact.events import Instant
from memreact.value import Struct, replace

__all__ = ["Appetite", "allowance_pages", "evicted", "learn"]

# More than a tenth of what was evicted came back: too deep. Less than a fiftieth: too careful.
_TOO_MANY = 10
_FEW = 50
_STEP_DOWN = 2
_DEEPEST = 16
# What is still tried at the deepest, so that a change of the workload is noticed: 1 MiB of 4 KiB.
_PROBE_PAGES = 256
_NEVER = Instant(0)


class Appetite(Struct, frozen=True):
    """How boldly one memcg is evicted, learnt from its own refaults.

    Args:
        halvings: How often what may go was halved.
        evicted_pages: What went since the last judgement.
        refaults_then: The memcg's counter before any of that came back.
        since: When the first of it went.
    """

    halvings: int = 0
    evicted_pages: int = 0
    refaults_then: int = 0
    since: Instant = _NEVER


def learn(appetite: Appetite, refault_total_pages: int, after_us: int, now: Instant) -> Appetite:
    """Judge what was evicted by what came back since.

    Nothing evicted teaches nothing, and a time shorter than `after_us` not yet: another node of
    the same memcg may have had its eviction a moment ago.
    """
    pages = appetite.evicted_pages
    if not pages or now - appetite.since < after_us:
        return appetite
    came_back = max(0, refault_total_pages - appetite.refaults_then)
    halvings = appetite.halvings
    if came_back * _TOO_MANY > pages:
        halvings = min(_DEEPEST, halvings + _STEP_DOWN)
    elif came_back * _FEW <= pages:
        halvings = max(0, halvings - 1)
    return Appetite(halvings)


def allowance_pages(appetite: Appetite, cold_pages: int) -> int:
    """How many of the cold pages this turn may take."""
    if not appetite.halvings:
        return cold_pages
    return min(cold_pages, max(_PROBE_PAGES, cold_pages >> appetite.halvings))


def evicted(appetite: Appetite, pages: int, refault_total_pages: int, now: Instant) -> Appetite:
    """Remember what went, and where the counter stood when the first of it did."""
    if not pages:
        return appetite
    if not appetite.evicted_pages:
        return replace(appetite, evicted_pages=pages, refaults_then=refault_total_pages, since=now)
    return replace(appetite, evicted_pages=appetite.evicted_pages + pages)
