"""How much of what was swapped out comes back, and where that is too much for more to go.

The rate is counted from one turn to the next, as a share of what the memcg touches: all that is not
cold by its settings. It is a ceiling over what refaults teach: while it is crossed no anonymous
memory goes, and page cache goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from memreact.events import Generation, Instant, MemcgView
from memreact.policy.generations import cold_seq, pages_up_to
from memreact.rules import MemcgRules
from memreact.value import Struct, replace

__all__ = [
    "PromotionLore",
    "Promotions",
    "judged",
    "measured",
    "own_promotions",
    "with_gone_child",
    "workingset_pages",
]

_PPM = 1_000_000
_MINUTE_US = 60_000_000
# Less that comes back says nothing: the kernel reads pages beside the one that is asked for.
_FEW_PAGES = 64
_NEVER = Instant(0)


class Promotions(NamedTuple):
    """What came back to one memcg from swap between two turns.

    Args:
        pages: So many did.
        over_us: In so long.
        workingset_pages: What it touches, at the later one.
        limit_ppm_per_min: Of that, what may come back in a minute, per million; 0 is no limit.
    """

    pages: int
    over_us: int
    workingset_pages: int
    limit_ppm_per_min: int

    @property
    def over_limit(self) -> bool:
        """Whether so much came back that no more may go; a burst is spread over a minute."""
        if not self.limit_ppm_per_min or self.pages < _FEW_PAGES:
            return False
        allowed = self.limit_ppm_per_min * self.workingset_pages
        return self.pages * _PPM * _MINUTE_US > allowed * max(self.over_us, _MINUTE_US)

    def figures(self) -> dict[str, int | str]:
        """What a decision by it is made on."""
        return {
            "promoted_pages": self.pages,
            "over_us": self.over_us,
            "workingset_pages": self.workingset_pages,
            "limit_ppm_per_min": self.limit_ppm_per_min,
        }


class PromotionLore(Struct, frozen=True):
    """What is remembered of one memcg.

    Args:
        total_pages: What had come back when its counting began; None while nobody counts.
        since: When that was.
        last: What its last turn judged by.
    """

    total_pages: int | None = None
    since: Instant = _NEVER
    last: Promotions | None = None


def own_promotions(views: Iterable[MemcgView]) -> dict[str, int | None]:
    """Each memcg's total without its children's, by path, never below 0; None was not read."""
    seen = {view.path: view.promoted_total_pages for view in views}
    children: dict[str, int] = {}
    for path, total in seen.items():
        if path != "/":
            parent = path.rpartition("/")[0] or "/"
            children[parent] = children.get(parent, 0) + (total or 0)
    return {
        path: None if total is None else max(0, total - children.get(path, 0))
        for path, total in seen.items()
    }


def workingset_pages(view: MemcgView, rules: MemcgRules, page_bytes: int) -> int:
    """What a memcg touches within the time after which memory is cold, on all nodes.

    Without generations nobody knows: it is all that it uses.
    """
    if not view.nodes:
        return view.current_bytes // page_bytes
    return sum(_warm_pages(node.generations, rules) for node in view.nodes)


def _warm_pages(generations: tuple[Generation, ...], rules: MemcgRules) -> int:
    seq = cold_seq(generations, rules.aging_count_min * rules.period_us)
    cold = 0 if seq is None else sum(pages_up_to(generations, seq))
    return sum(generation.pages for generation in generations) - cold


def measured(  # noqa: PLR0913  # two readings, and what they are compared by
    lore: PromotionLore,
    total_pages: int | None,
    touched_pages: int,
    limit_ppm_per_min: int,
    *,
    began: Instant,
    now: Instant,
) -> Promotions | None:
    """What came back since the memcg's last turn; None where there are no two readings.

    Args:
        lore: What is remembered.
        total_pages: The counter now.
        touched_pages: The memcg's working set.
        limit_ppm_per_min: What may come back of it.
        began: When this turn did; it judges once, and what by is kept to its end.
        now: The moment.
    """
    if lore.total_pages is None or total_pages is None:
        return None
    if lore.since >= began:
        return lore.last
    pages = max(0, total_pages - lore.total_pages)
    return Promotions(pages, max(1, now - lore.since), touched_pages, limit_ppm_per_min)


def judged(
    lore: PromotionLore, total_pages: int | None, found: Promotions | None, now: Instant
) -> PromotionLore:
    """Remember what a turn judged by; the next one counts from here, over a minute at least."""
    if total_pages is None:
        return PromotionLore()
    if lore.total_pages is not None and now - lore.since < _MINUTE_US:
        return replace(lore, last=found)
    return PromotionLore(total_pages, now, found)


def with_gone_child(lore: PromotionLore, child_pages: int | None) -> PromotionLore:
    """What a removed child has counted is its parent's from now on, and no promotion of its own."""
    if lore.total_pages is None:
        return lore
    return replace(lore, total_pages=lore.total_pages + (child_pages or 0))
