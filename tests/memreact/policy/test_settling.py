"""A compaction that would pay waits until what it would move is evicted or proven in use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.actions import Compact, Evict
from memreact.events import Instant, RunAsked
from memreact.policy.settling import by_eviction, settled_at, settles_us, waited
from memreact.policy.state import Settling
from memreact.rules import CompactRules, Rules
from memreact.value import replace
from tests.memreact.policy.simulated_guest import (
    BASE,
    PAGES_PER_MB,
    SECOND,
    SimulatedGuest,
    Zone,
)

MIB = 1 << 20
PERIOD = 600 * SECOND
NOW = Instant(10**12)
RULES = Rules(base=BASE, compact=CompactRules())


def in_pieces(mb: int = 400, rules: Rules = RULES) -> SimulatedGuest:
    """A guest whose free memory lies in pieces, and where memory is cold after half an hour."""
    guest = SimulatedGuest(rules, compacts=True)
    guest.zones = [Zone(small=mb * PAGES_PER_MB, headroom=200)]
    guest.frees_into, guest.scatters = guest.zones[0], True
    return guest


def begun_after_s(guest: SimulatedGuest) -> list[int]:
    """When each compaction began, in seconds from the start of the guest."""
    return [(at // SECOND) - 1_000 for at, made in guest.actions if isinstance(made, Compact)]


def settled_after_s(known: Settling, settles_s: int = 100) -> int:
    return (settled_at(known, settles_s * SECOND) - NOW) // SECOND


def test_it_takes_two_turns_longer_than_memory_takes_to_become_cold() -> None:
    assert settles_us(RULES) == 5 * PERIOD


def test_memory_that_becomes_cold_in_a_week_is_waited_for_by_six_checks_alone() -> None:
    weekly = replace(BASE, period_us=7 * 86_400 * SECOND)
    assert settles_us(replace(RULES, base=weekly)) == 6 * PERIOD


def test_where_nothing_is_evicted_nothing_is_waited_for() -> None:
    assert settles_us(replace(RULES, base=replace(BASE, disabled=True))) == 0


def test_what_would_pay_waits_from_the_first_look_that_finds_it() -> None:
    first = waited(None, 10 * MIB, NOW)
    assert waited(first, 19 * MIB, Instant(NOW + 50 * SECOND)) == first
    assert settled_after_s(first) == 100


def test_twice_as_much_to_gather_begins_the_wait_anew_but_never_past_two_of_them() -> None:
    known, ends = None, []
    for at_s, mib in ((0, 10), (60, 20), (120, 40), (180, 80)):
        known = waited(known, mib * MIB, Instant(NOW + at_s * SECOND))
        ends.append(settled_after_s(known))
    assert ends == [100, 160, 200, 200]


@given(st.lists(st.tuples(st.integers(1, 10**8), st.integers(1, 2**40)), min_size=1, max_size=30))
def test_whatever_happens_it_begins_within_two_waits_of_the_first_look(
    looks: list[tuple[int, int]],
) -> None:
    known, now = None, int(NOW)
    for later_us, size in looks:
        known = waited(known, size, Instant(now))
        now += later_us
        assert NOW < settled_at(known, PERIOD) <= NOW + 2 * PERIOD


def test_it_is_told_how_long_it_waits_and_begins_in_that_moment() -> None:
    guest = in_pieces()
    guest.run_while(lambda: not guest.codes("", "skip"))
    told = next(each for _, each in guest.decisions if each.verdict == "skip")
    assert told.because.code == "settling"
    assert told.because.saw == {"expected_bytes": 200 * MIB, "left_us": 5 * PERIOD}
    looked_s = guest.now // SECOND - 1_000
    guest.run_for(6 * PERIOD)
    assert begun_after_s(guest) == [looked_s + 5 * 600]


@pytest.mark.parametrize(("mb", "waits"), [(150, False), (20, True)])
def test_what_is_evicted_meanwhile_is_gathered_with_the_rest_and_at_once_if_it_is_much(
    mb: int, *, waits: bool
) -> None:
    guest = in_pieces(200)
    shop = guest.add("/shop")
    guest.fill(shop, "file", mb)
    guest.run_while(lambda: not guest.count(Evict))
    assert guest.count(Compact) == 0
    guest.run_for(60 * SECOND)
    assert guest.count(Compact) == (not waits)
    guest.run_for(10 * PERIOD)
    assert guest.count(Compact) == 1
    assert guest.zones[0].small < 512


@pytest.mark.parametrize(
    ("evicted", "expected", "settled"), [(25, 100, True), (24, 100, False), (50, 0, False)]
)
def test_a_turn_that_evicted_a_quarter_of_what_is_hoped_for_has_settled_it(
    evicted: int, expected: int, *, settled: bool
) -> None:
    assert by_eviction(evicted * MIB, expected * MIB) == settled


def test_pieces_that_are_used_again_meanwhile_are_waited_for_no_more() -> None:
    guest = in_pieces()
    guest.run_while(lambda: guest.watched.state.compact.settling is None)
    guest.zones[0].small = 0
    guest.run_for(6 * PERIOD)
    assert guest.watched.state.compact.settling is None
    assert guest.count(Compact) == 0


def test_an_operator_who_asks_for_a_turn_waits_for_nothing() -> None:
    guest = in_pieces()
    guest.run_while(lambda: guest.watched.state.compact.settling is None)
    guest.tell(RunAsked(None, "cid 2"))
    guest.run_for(10 * SECOND)
    assert guest.count(Compact) == 1
    guest.zones[0].small = 400 * PAGES_PER_MB
    guest.run_for(2 * PERIOD)
    assert guest.count(Compact) == 1, "the next one waits again"


@pytest.mark.parametrize("by_gain", [True, False])
def test_katas_rule_waits_for_nothing(*, by_gain: bool) -> None:
    guest = in_pieces(rules=replace(RULES, compact=CompactRules(by_gain=by_gain)))
    guest.run_for(PERIOD + 10 * SECOND)
    assert guest.count(Compact) == (not by_gain)


def test_one_that_a_stall_broke_off_is_tried_again_at_the_next_look() -> None:
    guest = in_pieces()
    guest.compact_us = 10 * SECOND
    guest.run_while(lambda: not guest.count_doing(Compact))
    guest.stall(200_000, 5 * SECOND)
    guest.run_for(20 * SECOND)
    assert "done" not in guest.codes("", "compacted")
    begun = guest.count(Compact)
    guest.run_for(PERIOD + 60 * SECOND)
    assert guest.count(Compact) > begun
    assert guest.codes("", "compacted")[-1] == "done"
    assert guest.watched.state.compact.settling is None
