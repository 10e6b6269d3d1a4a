"""Stall totals over a sliding window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.events import GuestPressure, Instant, MemcgView, PressureSample
from memreact.policy.plan import own_stalls
from memreact.policy.pressure import (
    guest_stall_us,
    ladder,
    memcg_stall_between,
    over,
    remember,
    worst_guest_stall,
    worst_memcg_stall,
)
from tests.memreact.policy.readings import sample

SECOND = 1_000_000
PERIOD = 600 * SECOND
ONE_PERCENT = 10_000


def view(path: str, memory_us: int, io_us: int) -> MemcgView:
    return MemcgView(path, 1, 1, memory_us, io_us)


def own(children: list[tuple[int, int]]) -> tuple[int, int]:
    below = [view(f"/dir/c{n}", *both) for n, both in enumerate(children)]
    return own_stalls((view("/dir", 37_820, 82_345), *below))["/dir"]


def test_the_stall_of_children_is_not_the_parents() -> None:
    assert own([]) == (37_820, 82_345)
    assert own([(3_344, 5_566), (7_788, 9_900)]) == (26_688, 66_879)


def test_children_that_stall_at_the_same_time_never_make_it_negative() -> None:
    assert own([(30_000, 80_000), (30_000, 80_000)]) == (0, 0)


def test_a_child_that_cannot_be_read_does_not_spare_the_parent() -> None:
    assert own([(0, 0)]) == (37_820, 82_345)


def test_the_top_level_is_taken_off_the_root() -> None:
    assert own_stalls((view("/", 100, 100), view("/a", 60, 10)))["/"] == (40, 90)


@pytest.mark.parametrize(
    ("stall_us", "elapsed_us", "limit_ppm", "is_over"),
    [
        (7 * SECOND, PERIOD, ONE_PERCENT, True),  # 1.17 %
        (12 * SECOND, PERIOD, ONE_PERCENT, True),
        (6 * SECOND, PERIOD, ONE_PERCENT, False),  # the limit itself is not over it
        (9 * SECOND, PERIOD, 15_000, False),  # 1.5 %
        (9 * SECOND + 1, PERIOD, 15_000, True),
        (50 * SECOND, PERIOD, ONE_PERCENT, True),  # after a total of 0
        (40, 1_900, ONE_PERCENT, True),  # 2.1 % of a very short time
        (0, PERIOD, 0, False),
        (1, PERIOD, 0, True),
    ],
)
def test_a_share_is_compared_exactly(
    stall_us: int,
    elapsed_us: int,
    limit_ppm: int,
    is_over: bool,  # noqa: FBT001  # a table
) -> None:
    assert over((stall_us, elapsed_us), limit_ppm) is is_over


def test_a_first_reading_is_a_baseline_even_where_it_is_0() -> None:
    then, now = sample(0, memcg="/a"), sample(PERIOD, memcg="/a", memcg_us=50 * SECOND)
    assert over(memcg_stall_between(then, now), ONE_PERCENT)


def test_a_total_that_shrinks_is_no_stall() -> None:
    assert guest_stall_us(GuestPressure(500), GuestPressure(100)) == 0


def test_our_own_stall_is_taken_off() -> None:
    then, now = GuestPressure(0, 0, {"a": 0}), GuestPressure(100, 80, {"a": 10})
    assert guest_stall_us(then, now) == 20


def test_somebody_who_stalls_together_with_us_is_seen_all_the_same() -> None:
    """`some` is a union: 100 of the guest, 80 of ours, 70 of theirs."""
    then, now = GuestPressure(0, 0, {"a": 0}), GuestPressure(100, 80, {"a": 70})
    assert guest_stall_us(then, now) == 70


def test_somebody_who_came_later_counts_from_when_he_came() -> None:
    then, now = GuestPressure(0, 0), GuestPressure(100, 80, {"a": 70})
    assert guest_stall_us(then, now) == 20


def test_a_burst_counts_at_once_against_the_whole_window() -> None:
    samples = (sample(0), sample(5_000, 11_000))
    assert worst_guest_stall(samples, SECOND) == (11_000, SECOND)


def test_half_a_millisecond_of_stall_is_not_forgotten() -> None:
    samples: tuple[PressureSample, ...] = ()
    for at in range(41):
        samples = remember(samples, sample(at * 500, at * 500), SECOND)
    assert worst_guest_stall(samples, SECOND) == (20_000, SECOND)


def test_what_is_older_than_the_window_is_forgotten_once_it_is_covered() -> None:
    samples: tuple[PressureSample, ...] = ()
    for at in range(100):
        samples = remember(samples, sample(at * 100_000), SECOND)
    assert samples[0].at == 8_900_000
    assert len(samples) == 11


def test_a_reading_that_arrives_late_takes_its_place() -> None:
    samples = remember((sample(0), sample(2_000, 20)), sample(1_000, 10), SECOND)
    assert [s.at for s in samples] == [0, 1_000, 2_000]


def test_only_readings_of_the_memcg_itself_speak_of_it() -> None:
    samples = (
        sample(0, memcg="/b", memcg_us=0),
        sample(1_000, memcg="/a", memcg_us=7_000),
        sample(2_000),
        sample(3_000, memcg="/a", memcg_us=7_500),
    )
    assert worst_memcg_stall(samples, "/a", SECOND) == (500, SECOND)
    assert worst_memcg_stall(samples, "/c", SECOND) == (0, SECOND)


UNREADABLE = PressureSample(Instant(2_000), GuestPressure(None, None), "/a", None)


def test_with_what_could_not_be_read_nothing_is_compared() -> None:
    """As 0 it would hide a stall at first, and invent one of all that was ever stalled after."""
    then, now = sample(0, 9 * SECOND, "/a", 700), sample(4_000, 9 * SECOND + 5, "/a", 701)
    for samples in ((then, UNREADABLE, now), (UNREADABLE, then, now)):
        assert worst_guest_stall(samples, SECOND) == (5, SECOND)
        assert worst_memcg_stall(samples, "/a", SECOND) == (1, SECOND)
    assert worst_guest_stall((UNREADABLE,), SECOND) == (0, SECOND)
    assert worst_memcg_stall((UNREADABLE,), "/a", SECOND) == (0, SECOND)


def test_our_own_stall_is_taken_off_only_where_it_is_known() -> None:
    then, now = GuestPressure(0, 0, {"a": 0}), GuestPressure(100, None)
    assert guest_stall_us(then, now) == 100
    assert guest_stall_us(GuestPressure(0, None), GuestPressure(100, 80)) == 100


def test_what_could_not_be_read_covers_no_window() -> None:
    samples: tuple[PressureSample, ...] = (sample(0, 0), UNREADABLE)
    for at in (3_000, SECOND + 2_500):
        samples = remember(samples, sample(at, at), SECOND)
    assert worst_guest_stall(samples, SECOND) == (SECOND + 2_500, SECOND + 2_500)


@given(
    st.lists(st.tuples(st.integers(1, 300_000), st.integers(0, 1_000_000)), min_size=1),
    st.integers(100_000, 3_000_000),
)
def test_the_window_always_covers_its_length_and_never_grows_without_end(
    gaps: list[tuple[int, int]], window_us: int
) -> None:
    samples: tuple[PressureSample, ...] = ()
    at = total = 0
    for gap, ppm in gaps:
        at, total = at + gap, total + gap * ppm // 1_000_000
        samples = remember(samples, sample(at, total), window_us)
    stall_us, over_us = worst_guest_stall(samples, window_us)
    assert over_us >= window_us
    assert 0 <= stall_us <= total
    assert len(samples) <= 256
    if at - gaps[0][0] >= window_us:
        assert samples[0].at <= at - window_us or len(samples) == 256


@pytest.mark.parametrize(
    ("limit_ppm", "window_us", "triggers"),
    [
        (10_000, SECOND, [(2_000, 40_000), (5_000, SECOND)]),
        (100_000, SECOND, [(2_000, 40_000), (50_000, SECOND)]),
        (1_000, SECOND, [(500, 40_000), (500, SECOND)]),
        (0, SECOND, [(1, 40_000), (1, SECOND)]),
        (1_000_000, 100_000, [(2_000, 40_000), (50_000, 100_000)]),
        (100_000, 100_000, [(2_000, 40_000), (5_000, 100_000)]),
        (100_000, 40_000, [(2_000, 40_000)]),
    ],
)
def test_a_ladder_sees_a_burst_and_a_slow_growth(
    limit_ppm: int, window_us: int, triggers: list[tuple[int, int]]
) -> None:
    assert [(t.stall_us, t.window_us) for t in ladder(limit_ppm, window_us)] == triggers


@given(st.integers(0, 1_000_000), st.integers(100_000, 10_000_000))
def test_the_kernel_takes_every_rung(limit_ppm: int, window_us: int) -> None:
    for trigger in ladder(limit_ppm, window_us):
        assert 0 < trigger.stall_us <= trigger.window_us <= 10_000_000


def test_an_instant_is_only_a_number() -> None:
    assert sample(5).at == Instant(5)
