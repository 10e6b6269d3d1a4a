"""Pages that come back prove that they were not cold: the next turn takes less."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Appetite", "allowance_pages", "evicted", "learn"]

# More than a tenth of what was evicted came back: too deep. Less than a fiftieth: too careful.
_TOO_MANY = 10
_FEW = 50
_STEP_DOWN = 2
_DEEPEST = 16
# What is still tried at the deepest, so that a change of the workload is noticed: 1 MiB of 4 KiB.
_PROBE_PAGES = 256


@dataclass(frozen=True, slots=True)
class Appetite:
    """How boldly one memcg is evicted, learnt from its own refaults."""

    halvings: int = 0
    evicted_pages: int = 0
    refaults_then: int = 0


def learn(appetite: Appetite, refault_total_pages: int) -> Appetite:
    """Judge the last turn by what came back since; nothing evicted teaches nothing."""
    pages = appetite.evicted_pages
    if not pages:
        return appetite
    came_back = max(0, refault_total_pages - appetite.refaults_then)
    halvings = appetite.halvings
    if came_back * _TOO_MANY > pages:
        halvings = min(_DEEPEST, halvings + _STEP_DOWN)
    elif came_back * _FEW <= pages:
        halvings = max(0, halvings - 1)
    return Appetite(halvings, 0, refault_total_pages)


def allowance_pages(appetite: Appetite, cold_pages: int) -> int:
    """How many of the cold pages this turn may take."""
    if not appetite.halvings:
        return cold_pages
    return min(cold_pages, max(_PROBE_PAGES, cold_pages >> appetite.halvings))


def evicted(appetite: Appetite, pages: int, refault_total_pages: int) -> Appetite:
    """Remember what this turn took, and where the counter stood then."""
    return replace(appetite, evicted_pages=pages, refaults_then=refault_total_pages)
