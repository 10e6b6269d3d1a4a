"""What is counted as it happens."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.actions import Because, Decision
from memreact.events import (
    BatchEnded,
    Instant,
    MemcgAppeared,
    MemcgGone,
    Outcome,
    TimerFired,
)
from memreact.policy.state import Counters, Memcg, State
from memreact.telemetry.measures import STOP_BOUNDS_US, Measures, Spread, counts_of


def ended(outcome: Outcome = "broken_off", *, at: int = 10_000, took_us: int = 8_000) -> BatchEnded:
    return BatchEnded("/shop", 0, 64, outcome, None, took_us=took_us, ended_at=Instant(at))


def took(measures: Measures, event: BatchEnded, taken_bytes: int = 0) -> None:
    measures.observe(event, State(), (), taken_bytes)


@given(st.lists(st.integers(min_value=0, max_value=1 << 40)))
def test_every_value_has_one_place_between_its_bounds(values: list[int]) -> None:
    spread = Spread(STOP_BOUNDS_US)
    for value in values:
        spread.add(value)
    assert sum(spread.each) == len(values)
    assert spread.total == sum(values)
    for number, bound in enumerate(STOP_BOUNDS_US, 1):
        assert sum(spread.each[:number]) == sum(value <= bound for value in values)


def test_the_way_from_a_stall_to_the_end_of_the_write_is_counted() -> None:
    measures = Measures()
    measures.begins()
    measures.stalled(Instant(6_000))
    measures.stalled(Instant(9_000))  # the first one stopped it
    measures.asked_to_stop(Instant(6_500))
    took(measures, ended())
    assert measures.stops_by_stall.total == 4_000
    assert sum(measures.stops_by_others.each) == 0


def test_a_stall_that_is_heard_of_after_the_end_is_counted_too() -> None:
    measures = Measures()
    took(measures, ended())
    measures.stalled(Instant(9_500))
    assert measures.stops_by_stall.total == 500
    took(measures, ended())
    measures.stalled(Instant(11_000))  # after that write
    assert sum(measures.stops_by_stall.each) == 1


def test_what_else_breaks_off_is_counted_apart() -> None:
    measures = Measures()
    measures.begins()
    measures.asked_to_stop(Instant(9_000))
    took(measures, ended())
    assert measures.stops_by_others.total == 1_000
    assert sum(measures.stops_by_stall.each) == 0


def test_a_stall_while_nothing_was_written_stops_nothing_later() -> None:
    measures = Measures()
    measures.stalled(Instant(5_000))
    measures.begins()
    took(measures, ended("done"))
    measures.begins()
    measures.stalled(Instant(19_000))
    took(measures, ended(at=20_000))
    assert measures.stops_by_stall.total == 1_000


@pytest.mark.parametrize(("taken_bytes", "took_us"), [(0, 8_000), (4096, 0)])
def test_a_write_that_took_nothing_has_no_rate(taken_bytes: int, took_us: int) -> None:
    measures = Measures()
    took(measures, ended("done", took_us=took_us), taken_bytes)
    assert sum(measures.rates.each) == 0


def test_the_rate_of_a_write_is_bytes_a_second() -> None:
    measures = Measures()
    took(measures, ended("done", took_us=500_000), 3 << 20)
    assert measures.rates.total == 6 << 20


def test_decisions_are_counted_by_verdict_and_reason() -> None:
    measures = Measures()
    skip = Decision("skip", Because("too_little"), "/shop")
    measures.observe(TimerFired(), State(), (skip, skip, Decision("pause", Because("x"))), 0)
    assert measures.decisions == {("skip", "too_little"): 2, ("pause", "x"): 1}


COUNTED = Counters(agings=2, evictions=1, evicted_pages=9, because=MappingProxyType({"x": 3}))


def test_what_a_memcg_counted_outlives_it() -> None:
    measures = Measures()
    there = State(memcgs={"/a": Memcg("/a", 7, counters=COUNTED)})
    measures.observe(TimerFired(), there, (), 0)
    measures.observe(MemcgGone("/a"), State(), (), 0)
    measures.observe(MemcgGone("/a"), State(), (), 0)
    assert measures.gone == counts_of(COUNTED)
    assert measures.gone["because:x"] == 3


def test_another_memcg_of_the_same_path_begins_anew() -> None:
    measures = Measures()
    measures.observe(TimerFired(), State(memcgs={"/a": Memcg("/a", 7, counters=COUNTED)}), (), 0)
    again = State(memcgs={"/a": Memcg("/a", 8)})
    measures.observe(MemcgAppeared("/a", 8), again, (), 0)
    measures.observe(MemcgAppeared("/a", 8), again, (), 0)
    assert measures.gone["evicted_pages"] == 9
