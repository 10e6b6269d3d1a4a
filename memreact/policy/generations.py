"""What the ages of a memcg's generations prove about its pages."""

from __future__ import annotations

from memreact.events import Generation

__all__ = ["agings_until_cold", "cold_seq", "emptied_seq", "pages_up_to", "spacing_us", "too_young"]

# The kernel keeps at most four generations, so three spans between agings.
_SPANS = 3
# The kernel counts ages in jiffies and prints milliseconds.
_ROUNDING_US = 50_000
_HORIZON = 64


def spacing_us(period_us: int, count_min: int) -> int:
    """Time between two agings, so that the oldest of four generations can reach the wanted age."""
    return max(period_us, count_min * period_us // _SPANS)


def cold_seq(generations: tuple[Generation, ...], cold_us: int) -> int | None:
    """The youngest generation whose pages nobody touched for `cold_us`; None when there is none.

    A page of generation s was last touched before s+1 was made, and that only says something
    where an aging made s+1: a new memcg is born with four generations of one age. The kernel
    never evicts the two youngest.
    """
    for at in range(len(generations) - 3, -1, -1):
        made_after = generations[at + 1].age_us
        if made_after + _ROUNDING_US >= cold_us and made_after < generations[at].age_us:
            return generations[at].seq
    return None


def emptied_seq(generations: tuple[Generation, ...]) -> int | None:
    """The youngest generation that may go when no process is left to miss it."""
    return generations[-3].seq if len(generations) >= _SPANS else None


def pages_up_to(generations: tuple[Generation, ...], seq: int) -> tuple[int, int]:
    """Anon and file pages of the generations up to and with `seq`."""
    old = [generation for generation in generations if generation.seq <= seq]
    return sum(g.anon_pages for g in old), sum(g.file_pages for g in old)


def too_young(generations: tuple[Generation, ...], wanted_us: int) -> bool:
    """Whether the last aging is so recent that another would only blur the ages."""
    return generations[-1].age_us + _ROUNDING_US < wanted_us


def agings_until_cold(generations: tuple[Generation, ...], period_us: int, count_min: int) -> int:
    """How many periods from now, with an aging at each when due, until something is cold.

    Zero means now. The answer is capped at 64, which stands for "not within that".
    """
    cold_us, spacing = count_min * period_us, spacing_us(period_us, count_min)
    ages = list(generations)
    for periods in range(_HORIZON):
        if cold_seq(tuple(ages), cold_us) is not None:
            return periods
        if not too_young(tuple(ages), spacing):
            ages = [*ages, Generation(ages[-1].seq + 1, 0, 0, 0)][-_SPANS - 1 :]
        ages = [Generation(g.seq, g.age_us + period_us, 0, 0) for g in ages]
    return _HORIZON
