"""The rule of Kata's agent: compact when free memory fell, or its fragments grew, by so much.

What it compares with is what the last whole compaction left, and nothing before the first. One that
was broken off is no new baseline.
"""

from __future__ import annotations

from memreact.actions import Because
from memreact.events import Fragmentation
from memreact.policy.gain import fragment_pages
from memreact.policy.state import Baseline
from memreact.rules import CompactRules

__all__ = ["baseline", "fallen", "forced", "grown"]


def forced(rules: CompactRules, skips: int) -> Because | None:
    """Whether so many checks in a row went by without a compaction that one is made anyway."""
    if rules.force_times is None or skips < rules.force_times:
        return None
    return Because("forced", {"skips": skips, "force_times": rules.force_times})


def fallen(rules: CompactRules, seen: Fragmentation, base: Baseline) -> Because | None:
    """Whether free memory fell by more than the threshold."""
    by_bytes = rules.threshold_pages * seen.page_bytes
    if base.memfree_bytes <= seen.memfree_bytes + by_bytes:
        return None
    figures: dict[str, int | str] = {"memfree_bytes": seen.memfree_bytes}
    return Because("free_memory_fell", {**figures, "then_bytes": base.memfree_bytes})


def grown(rules: CompactRules, seen: Fragmentation, base: Baseline) -> tuple[bool, Because]:
    """Whether what lies in blocks below the order grew by more than the threshold.

    That is of the movable kind, or, where pagetypeinfo cannot be read, of every kind.
    """
    pages = seen.movable_small_pages
    then = base.small_pages if pages is None or base.movable_pages is None else base.movable_pages
    if pages is None:
        pages = _small_pages(seen)
    figures: dict[str, int | str] = {"small_pages": pages, "then_pages": then}
    figures["threshold_pages"] = rules.threshold_pages
    if pages > rules.threshold_pages + then:
        return True, Because("fragments_grew", figures)
    return False, Because("below_threshold", figures)


def baseline(seen: Fragmentation) -> Baseline:
    """What the next checks compare with."""
    return Baseline(seen.memfree_bytes, _small_pages(seen), seen.movable_small_pages)


def _small_pages(seen: Fragmentation) -> int:
    return sum(fragment_pages(zone, seen.order) for zone in seen.zones)
