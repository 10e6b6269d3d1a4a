"""What the ages of generations prove."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.events import Generation
from memreact.policy.generations import (
    agings_until_cold,
    cold_holds_us,
    cold_seq,
    emptied_seq,
    pages_up_to,
    periods_hold_us,
    ripe,
    spacing_us,
    too_young,
)

MINUTE = 60_000_000
PERIOD = 10 * MINUTE
COLD = 3 * PERIOD


def aged(*minutes: float, first_seq: int = 0) -> tuple[Generation, ...]:
    """Generations of these ages, oldest first, with ten pages of each kind."""
    return tuple(
        Generation(first_seq + at, int(age * MINUTE), 10, 10) for at, age in enumerate(minutes)
    )


def test_a_generation_is_as_cold_as_the_next_one_is_old() -> None:
    assert cold_seq(aged(40, 30, 20, 10), COLD) == 0
    assert cold_seq(aged(40, 29, 20, 10), COLD) is None, "its own age proves nothing"


def test_the_youngest_of_those_that_are_cold_is_named() -> None:
    assert cold_seq(aged(60, 50, 40, 10, first_seq=7), COLD) == 8


def test_the_two_youngest_are_never_cold() -> None:
    assert cold_seq(aged(100, 90), COLD) is None
    assert cold_seq(aged(100, 90, 80), COLD) == 0


def test_four_generations_of_one_age_are_those_of_a_newborn_and_prove_nothing() -> None:
    assert cold_seq(aged(90, 90, 90, 90), COLD) is None
    assert cold_seq(aged(90, 90, 90, 0), COLD) is None
    assert cold_seq(aged(90, 90, 30, 0), COLD) == 1


def test_what_was_born_with_the_memcg_is_cold_once_the_first_aging_is_old_enough() -> None:
    assert cold_seq(aged(40, 30, 20, 10), COLD) == 0
    assert cold_seq(aged(45, 45, 35, 5), COLD) == 1


def test_an_age_that_the_kernel_rounds_down_still_counts() -> None:
    assert cold_seq(aged(40, 30 - 0.0005, 20, 10), COLD) == 0
    assert cold_seq(aged(40, 30 - 0.01, 20, 10), COLD) is None


def test_no_generations_prove_nothing() -> None:
    assert cold_seq((), COLD) is None
    assert emptied_seq(()) is None
    assert not ripe((), COLD)
    assert not too_young((), PERIOD)
    assert agings_until_cold((), PERIOD, 3) == 0


def test_without_processes_all_but_the_two_youngest_may_go() -> None:
    assert emptied_seq(aged(1, 1, 1, 1, first_seq=5)) == 6
    assert emptied_seq(aged(1, 1)) is None


def test_pages_of_all_generations_up_to_one_are_counted() -> None:
    assert pages_up_to(aged(4, 3, 2, 1), 1) == (20, 20)


def test_a_kind_that_is_ahead_has_no_pages_in_the_older_lines() -> None:
    """From 6.14 on anon and file move apart: the lines start at the smaller of the two."""
    lines = (
        Generation(3, 40 * MINUTE, 500, 0),
        Generation(4, 30 * MINUTE, 500, 0),
        Generation(5, 20 * MINUTE, 10, 70),
        Generation(6, 10 * MINUTE, 10, 70),
    )
    assert cold_seq(lines, COLD) == 3
    assert pages_up_to(lines, 3) == (500, 0)


@pytest.mark.parametrize(("count", "periods"), [(1, 1), (2, 1), (3, 1), (4, 4 / 3), (6, 2)])
def test_agings_are_so_far_apart_that_four_generations_reach_the_age(
    count: int, periods: float
) -> None:
    assert spacing_us(PERIOD, count) == int(PERIOD * periods)


def test_an_aging_that_would_come_too_soon_is_left_out() -> None:
    assert too_young(aged(30, 20, 10, 9), PERIOD)
    assert not too_young(aged(30, 20, 10, 10), PERIOD)


def test_a_newborn_has_nothing_to_blur() -> None:
    assert not too_young(aged(1, 1, 1, 1), PERIOD)


@pytest.mark.parametrize(
    ("ages", "count", "periods"),
    [
        ((40, 30, 20, 10), 3, 0),
        ((30, 20, 10, 0), 3, 1),
        ((1, 1, 1, 1), 3, 3),
        ((1, 1, 1, 1), 1, 1),
        ((10, 10, 10, 10), 6, 6),
        ((60, 60, 60, 30), 3, 0),
    ],
)
def test_it_is_known_when_something_will_be_cold(
    ages: tuple[int, ...], count: int, periods: int
) -> None:
    assert agings_until_cold(aged(*ages), PERIOD, count) == periods


def test_a_count_that_is_out_of_sight_ends_the_search() -> None:
    assert agings_until_cold(aged(0, 0, 0, 0), PERIOD, 2**63) == 64


def test_one_aging_away_from_cold_is_ripe() -> None:
    assert ripe(aged(50, 40, 35, 30), COLD)
    assert not ripe(aged(50, 40, 35, 29), COLD)
    assert not ripe(aged(50, 50, 50, 50), COLD), "born with it"


def rising(ages: list[int]) -> tuple[Generation, ...]:
    ordered = sorted(ages, reverse=True)
    return tuple(Generation(seq, age, 1, 1) for seq, age in enumerate(ordered))


@given(
    st.lists(st.integers(0, 2**40), max_size=4),
    st.integers(1, 2**36),
    st.integers(1, 12),
)
def test_what_is_called_cold_was_followed_by_an_aging_that_long_ago(
    ages: list[int], period: int, count: int
) -> None:
    generations = rising(ages)
    seq = cold_seq(generations, period * count)
    if seq is not None:
        assert seq <= generations[-1].seq - 2
        made_after = generations[seq + 1].age_us
        assert made_after + 50_000 >= period * count
        assert made_after < generations[seq].age_us
    assert 0 <= agings_until_cold(generations, period, count) <= 64


@given(
    ages=st.lists(st.integers(0, 5 * PERIOD), max_size=5),
    since=st.integers(0, PERIOD),
    count=st.integers(0, 7),
    part=st.floats(0, 1),
)
def test_for_as_long_as_it_holds_time_changes_nothing_of_what_is_said(
    ages: list[int], since: int, count: int, part: float
) -> None:
    def found(later_us: int) -> tuple[Generation, ...]:
        return tuple(Generation(seq, age + since + later_us, 1, 1) for seq, age in enumerate(read))

    def said(later_us: int) -> tuple[object, ...]:
        then, wanted = found(later_us), spacing_us(PERIOD, count)
        return cold_seq(then, cold), agings_until_cold(then, PERIOD, count), too_young(then, wanted)

    read, cold = sorted(ages, reverse=True), PERIOD * count
    generations = tuple(Generation(seq, age, 1, 1) for seq, age in enumerate(read))
    holds = cold_holds_us(generations, since, cold)
    all_hold = periods_hold_us(generations, since, PERIOD, count)
    assert 1 <= all_hold <= PERIOD + 1
    assert holds >= 1
    for share in (part, 1.0):
        assert cold_seq(found(int(share * (holds - 1))), cold) == cold_seq(found(0), cold)
        assert said(int(share * (all_hold - 1))) == said(0)
