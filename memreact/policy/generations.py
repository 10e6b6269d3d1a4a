"""What the ages of a memcg's generations prove about its pages.

What was touched since the last aging still sits in its old generation: its accessed bit is looked
at by the next aging, or by the eviction itself, which lets go of such a page. So an old generation
is where to look, and the kernel has the last word on each mapped page. Only page cache used
through fds has no accessed bit: refaults speak for it.
"""

from __future__ import annotations

from memreact.events import Generation

__all__ = [
    "KEPT",
    "NEVER_US",
    "NEVER_WITHIN",
    "agings_until_cold",
    "cold_holds_us",
    "cold_seq",
    "emptied_seq",
    "pages_up_to",
    "periods_hold_us",
    "periods_until_cold",
    "ripe",
    "spacing_us",
    "too_young",
]

# The kernel keeps at most four generations, so three spans between agings.
_SPANS = 3
KEPT = 2
"""The two youngest are never evicted."""

# The kernel counts ages in jiffies and prints milliseconds.
_ROUNDING_US = 50_000
NEVER_US = 2**63 - 1
NEVER_WITHIN = 64
"""Periods that nobody looks beyond."""


def spacing_us(period_us: int, count_min: int) -> int:
    """Time between two agings, so that the oldest of four generations can reach the wanted age."""
    return max(period_us, count_min * period_us // _SPANS)


def cold_seq(generations: tuple[Generation, ...], cold_us: int) -> int | None:
    """The youngest generation whose pages nobody touched for `cold_us`; None when there is none.

    A page of generation s was last touched before s+1 was made, and that only says something
    where an aging made s+1: a new memcg is born with four generations of one age. The kernel
    never evicts the two youngest.
    """
    at = _oldest_enough(_ages(generations), cold_us)
    return None if at is None else generations[at].seq


def ripe(generations: tuple[Generation, ...], cold_us: int) -> bool:
    """Whether one more aging, now, would make more of this memcg cold, now.

    The second youngest generation may be old enough, and only waits for a successor to its
    successor: always so where one period is enough, else after agings that did not happen.
    """
    return _ripe(_ages(generations), cold_us)


def _ages(generations: tuple[Generation, ...]) -> list[int]:
    return [generation.age_us for generation in generations]


def _oldest_enough(ages: list[int], cold_us: int) -> int | None:
    for at in range(len(ages) - KEPT - 1, -1, -1):
        if _untouched(ages, at, cold_us):
            return at
    return None


def _ripe(ages: list[int], cold_us: int) -> bool:
    return len(ages) >= KEPT and _untouched(ages, len(ages) - KEPT, cold_us)


def _untouched(ages: list[int], at: int, cold_us: int) -> bool:
    made_after = ages[at + 1]
    return made_after + _ROUNDING_US >= cold_us and made_after < ages[at]


def emptied_seq(generations: tuple[Generation, ...]) -> int | None:
    """The youngest generation that may go when no process is left to miss it."""
    return generations[-KEPT - 1].seq if len(generations) > KEPT else None


def pages_up_to(generations: tuple[Generation, ...], seq: int) -> tuple[int, int]:
    """Anon and file pages of the generations up to and with `seq`."""
    anon = file = 0  # by hand: it is asked of each memcg on each node
    for generation in generations:
        if generation.seq <= seq:
            anon += generation.anon_pages
            file += generation.file_pages
    return anon, file


def too_young(generations: tuple[Generation, ...], wanted_us: int) -> bool:
    """Whether the last aging is so recent that another would only blur the ages.

    A newborn memcg has nothing to blur: the sooner it is aged, the sooner its ages say something.
    """
    return _too_young(_ages(generations), wanted_us)


def _too_young(ages: list[int], wanted_us: int) -> bool:
    return bool(ages) and ages[-1] + _ROUNDING_US < wanted_us and ages[0] > ages[-1]


def agings_until_cold(
    generations: tuple[Generation, ...], period_us: int, count_min: int, *, since_us: int = 0
) -> int:
    """How many periods from now, with an aging at each when due, until something is cold.

    Zero means now. The answer is capped at NEVER_WITHIN. `since_us` is how long ago they were read.
    """
    ages = [generation.age_us + since_us for generation in generations]
    return _periods_until_cold(ages, 0, period_us, count_min)


def periods_until_cold(
    generations: tuple[Generation, ...], place: int, period_us: int, count_min: int
) -> int:
    """How many periods from now until one generation is cold, if nobody touches what is in it.

    Args:
        generations: Oldest first.
        place: Which of them, from 0.
        period_us: Between two turns.
        count_min: Periods that memory is untouched before it is cold.
    """
    return _periods_until_cold(_ages(generations), place, period_us, count_min)


def _periods_until_cold(ages: list[int], at: int, period_us: int, count_min: int) -> int:
    cold_us, spacing = count_min * period_us, spacing_us(period_us, count_min)
    for periods in range(NEVER_WITHIN):
        oldest_enough = _oldest_enough(ages, cold_us)
        if not ages or (oldest_enough is not None and at <= oldest_enough):
            return periods
        if _ripe(ages, cold_us) and at <= len(ages) - KEPT:
            return periods
        if not _too_young(ages, spacing):
            at = max(0, at - (len(ages) > _SPANS))  # the oldest is merged into the next
            ages = [*ages, 0][-_SPANS - 1 :]
        ages = [age + period_us for age in ages]
    return NEVER_WITHIN


def cold_holds_us(generations: tuple[Generation, ...], since_us: int, cold_us: int) -> int:
    """How long, at least, time alone makes no more of them cold; NEVER_US where it never does.

    Args:
        generations: As they were read.
        since_us: Since then.
        cold_us: How long nobody touched what is cold.
    """
    left = [cold_us - _ROUNDING_US - since_us - age for age in _ages(generations)]
    return min((each for each in left if each > 0), default=NEVER_US)


def periods_hold_us(
    generations: tuple[Generation, ...], since_us: int, period_us: int, count_min: int
) -> int:
    """How long, at least, time alone changes nothing of what is said here of them.

    In how many periods something is cold changes as an age crosses a limit, now or whole periods
    later. It is 1 at the least.

    Args:
        generations: As they were read.
        since_us: Since then.
        period_us: Between two turns.
        count_min: Periods that memory is untouched before it is cold.
    """
    older, ages = since_us + 1 + _ROUNDING_US, _ages(generations)
    if -since_us in ages:  # one that is made at this moment is not younger
        return 1
    wanted = (count_min * period_us, spacing_us(period_us, count_min))
    limits = {(each - older) % period_us for each in wanted}  # mostly one and the same
    return 1 + min([(limit - age) % period_us for age in ages for limit in limits] or (period_us,))
