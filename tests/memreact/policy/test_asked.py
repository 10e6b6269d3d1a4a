"""What an operator asks for: a hold that ends by itself, and a turn that waits for no period."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as replace_guest

from memreact.actions import Age, Decision, Evict, Inspect, Survey
from memreact.events import ClockDisturbed, HoldAsked, Instant, ReleaseAsked, RunAsked
from memreact.policy.asked import HOLD_ENDS_US, why_not_run
from memreact.rules import CgroupRule, Rules
from memreact.value import replace
from memreact_schemas.control import HOLD_SECONDS_MAX
from tests.memreact.policy.simulated_guest import (
    BASE,
    MB,
    PAGES_PER_MB,
    SECOND,
    Memcg,
    SimulatedGuest,
)

PERIOD = BASE.period_us
BY = "cid 2"


def with_cold_file(guest: SimulatedGuest, path: str = "/shop", mb: int = 512) -> Memcg:
    memcg = guest.add(path)
    guest.fill(memcg, "file", mb)
    return memcg


def left_mb(memcg: Memcg) -> float:
    return memcg.total("file") / PAGES_PER_MB


def hold(guest: SimulatedGuest, for_us: int, reason: str = "") -> None:
    guest.tell(HoldAsked(Instant(guest.now + for_us), BY, reason))


def told(guest: SimulatedGuest, verdict: str) -> list[Decision]:
    return [decision for _, decision in guest.decisions if decision.verdict == verdict]


def last(guest: SimulatedGuest) -> Decision:
    return guest.decisions[-1][1]


def in_mid_eviction() -> tuple[SimulatedGuest, Memcg]:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_until_write("/shop")
    return guest, shop


# Hold


def test_a_hold_breaks_off_the_write_under_way_and_nothing_begins_until_it_is_over() -> None:
    guest, shop = in_mid_eviction()
    hold(guest, 120 * SECOND, "backup")
    guest.run_for(1_000)
    left, done = left_mb(shop), len(guest.actions)
    assert left > 400
    guest.run_for(119 * SECOND)
    assert {type(action).__name__ for _, action in guest.actions[done:]} == set()
    assert left_mb(shop) == left
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == 0


def test_a_hold_says_who_asked_for_how_long_and_why_and_its_end_how_long_it_was() -> None:
    guest = SimulatedGuest()
    hold(guest, 60 * SECOND, "backup")
    assert last(guest).because.saw == {"by": BY, "for_us": 60 * SECOND, "reason": "backup"}
    guest.run_for(90 * SECOND)
    end = told(guest, "resume")[-1]
    assert end.because.code == "hold_over"
    assert end.because.saw == {"by": BY, "held_us": 60 * SECOND}


def test_an_idle_guest_sleeps_through_a_hold_and_takes_one_turn_after_it() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_for(PERIOD + SECOND)
    hold(guest, 3 * PERIOD)
    before, turns = len(guest.events), guest.watched.state.turns
    guest.run_for(3 * PERIOD - 1)
    assert len(guest.events) == before
    guest.run_for(30 * SECOND)
    assert guest.watched.state.turns == turns + 1


def test_a_release_ends_it_at_once() -> None:
    guest, shop = in_mid_eviction()
    hold(guest, PERIOD)
    guest.run_for(5 * SECOND)
    guest.tell(ReleaseAsked("uid 0"))
    assert told(guest, "resume")[-1].because.saw == {"by": "uid 0", "held_us": 5 * SECOND}
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == 0


def test_a_release_without_a_hold_changes_and_says_nothing() -> None:
    guest = SimulatedGuest()
    before, said = guest.watched.state, len(guest.decisions)
    guest.tell(ReleaseAsked(BY))
    assert (guest.watched.state, len(guest.decisions)) == (before, said)


def test_no_hold_is_longer_than_a_day() -> None:
    guest = SimulatedGuest()
    hold(guest, 400 * HOLD_ENDS_US)
    guest.run_for(HOLD_ENDS_US - 1)
    assert guest.watched.state.hold is not None
    guest.run_for(1)
    assert guest.watched.state.hold is None


def test_the_longest_hold_is_what_the_interface_says() -> None:
    assert HOLD_ENDS_US == HOLD_SECONDS_MAX * SECOND


def test_a_hold_that_is_over_already_is_refused() -> None:
    guest, shop = in_mid_eviction()
    hold(guest, 0)
    assert (last(guest).verdict, last(guest).because.code) == ("refuse", "hold_over")
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == 0


def test_a_second_hold_takes_the_place_of_the_first_one() -> None:
    guest = SimulatedGuest()
    hold(guest, PERIOD)
    guest.run_for(SECOND)
    hold(guest, 10 * SECOND)
    guest.run_for(10 * SECOND)
    assert guest.watched.state.hold is None
    assert told(guest, "resume")[-1].because.saw["held_us"] == 11 * SECOND


def test_other_settings_do_not_lose_a_hold() -> None:
    guest, shop = in_mid_eviction()
    hold(guest, 60 * SECOND)
    guest.run_for(1_000)
    left = left_mb(shop)
    fast = replace(BASE, period_us=5 * SECOND)
    guest.set_rules(Rules(base=fast, revision=2))
    guest.tell(replace_guest(guest.guest, privileged_psi=False))
    guest.run_for(50 * SECOND)
    assert guest.watched.state.hold is not None
    assert left_mb(shop) == left
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0


@pytest.mark.parametrize("cause", ["suspend", "snapshot_restored"])
def test_a_hold_that_nobody_can_measure_any_more_ends(cause: str) -> None:
    guest = SimulatedGuest()
    hold(guest, PERIOD)
    guest.tell(ClockDisturbed(cause))
    assert guest.watched.state.hold is None
    assert told(guest, "resume")[-1].because.code == cause


def test_memory_that_is_added_does_not_end_a_hold() -> None:
    guest = SimulatedGuest()
    hold(guest, PERIOD)
    guest.tell(ClockDisturbed("memory_changed"))
    assert guest.watched.state.hold is not None


def test_a_hold_forgives_nobody_who_stalled_in_the_turn() -> None:
    guest, shop = in_mid_eviction()
    guest.stall(500_000, 3 * SECOND, "/shop")
    guest.run_while(lambda: guest.codes("/shop", "end") == [])
    left = left_mb(shop)
    for _ in range(5):
        hold(guest, SECOND)
        guest.run_for(5 * SECOND)
    assert left_mb(shop) == left
    assert "stalled_this_turn" in guest.codes("/shop")


def test_a_pause_of_our_own_goes_on_beside_a_hold() -> None:
    guest, shop = in_mid_eviction()
    guest.stall(500_000, 60 * SECOND)
    guest.run_while(lambda: guest.watched.state.pause is None)
    hold(guest, 10 * SECOND)
    guest.run_for(20 * SECOND)
    assert guest.watched.state.hold is None
    assert guest.watched.state.pause is not None
    left = left_mb(shop)
    guest.run_for(40 * SECOND)
    assert left_mb(shop) == left
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0


def test_a_guest_that_grows_quiet_during_a_hold_is_held_all_the_same() -> None:
    guest, shop = in_mid_eviction()
    guest.stall(500_000, 5 * SECOND)
    guest.run_while(lambda: guest.watched.state.pause is None)
    hold(guest, 60 * SECOND)
    guest.run_for(59 * SECOND)
    assert guest.watched.state.pause is None
    assert left_mb(shop) > 400
    guest.run_for(30 * SECOND)
    assert left_mb(shop) == 0


def test_a_turn_goes_on_after_a_hold_that_was_longer_than_any_turn() -> None:
    guest, shop = in_mid_eviction()
    hold(guest, 7_200 * SECOND)
    guest.run_for(7_200 * SECOND + 30 * SECOND)
    assert left_mb(shop) == 0


def test_shutting_down_during_a_hold_ends_the_turn() -> None:
    guest, _ = in_mid_eviction()
    hold(guest, PERIOD)
    guest.run_for(SECOND)
    guest.stop()
    assert guest.watched.state.turn is None
    assert guest.watched.wake_at is None


# Run


def grow_cold(guest: SimulatedGuest) -> dict[int, Instant]:
    """Four periods in which nothing was done, after the first aging; the next turn is far away."""
    guest.run_while(lambda: guest.count(Age) == 0)
    guest.run_for(SECOND)
    guest.now += 4 * PERIOD
    due = {PERIOD: Instant(guest.now + PERIOD)}
    guest.watched.state = replace(guest.watched.state, due=due)
    guest.watched.wake_at = due[PERIOD]
    return due


def test_a_turn_that_is_asked_for_begins_at_once_and_puts_the_next_one_off() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_while(lambda: guest.count(Age) == 0)
    guest.run_for(2 * PERIOD + PERIOD // 2)
    due = guest.watched.state.due[PERIOD]
    guest.tell(RunAsked(None, BY))
    assert guest.watched.state.turn is not None
    guest.run_for(60 * SECOND)
    assert guest.watched.state.due[PERIOD] > due
    assert left_mb(shop) == 512, "what is not cold is not taken for being asked"


def test_what_is_cold_goes_when_a_turn_is_asked_for() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    grow_cold(guest)
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 512
    guest.tell(RunAsked(None, BY))
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0
    assert told(guest, "run")[-1].because.saw == {"by": BY}


def test_protection_and_the_limits_of_pressure_hold_for_a_turn_that_is_asked_for() -> None:
    guest = SimulatedGuest()
    kept, hurt = with_cold_file(guest, "/kept"), with_cold_file(guest, "/hurt")
    kept.low_bytes = 200 * MB
    grow_cold(guest)
    guest.stall(500_000, 100 * SECOND, "/hurt")
    guest.run_for(110 * SECOND)
    guest.tell(RunAsked(None, BY))
    guest.run_for(60 * SECOND)
    assert 200 <= left_mb(kept) < 202
    assert left_mb(hurt) == 512
    assert "period_stall_over_limit" in guest.codes("/hurt")


def test_a_turn_for_one_memcg_touches_it_and_those_below_it_alone() -> None:
    guest = SimulatedGuest()
    inside = [with_cold_file(guest, path, 64) for path in ("/a", "/a/b")]
    outside = [with_cold_file(guest, path, 64) for path in ("/ab", "/c")]
    due = grow_cold(guest)
    guest.tell(RunAsked("/a", BY))
    guest.run_for(60 * SECOND)
    assert [left_mb(memcg) for memcg in inside] == [0, 0]
    assert [left_mb(memcg) for memcg in outside] == [64, 64]
    assert guest.watched.state.due == due, "the others' next turn is when it was"
    assert told(guest, "run")[-1].because.saw == {"by": BY, "within": "/a"}


def test_a_turn_for_one_memcg_leaves_what_was_emptied_elsewhere_to_its_own() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest, "/a", 64)
    left = guest.add("/left")
    guest.fill(left, "file", 100, pread=True)
    guest.run_for(30 * SECOND)
    guest.change("/left", populated=False)
    guest.tell(RunAsked("/a", BY))
    assert left_mb(left) == 100
    guest.run_for(12 * SECOND)
    assert left_mb(left) == 0


def test_a_disabled_memcg_is_left_alone_even_if_it_is_asked_for() -> None:
    off = CgroupRule("/shop", frozenset(), no_subdir=False, rules=replace(BASE, disabled=True))
    guest = SimulatedGuest(Rules(base=BASE, cgroups=(off,)))
    shop = with_cold_file(guest)
    guest.run_for(30 * SECOND)
    guest.tell(RunAsked("/shop", BY))
    guest.run_for(30 * SECOND)
    assert left_mb(shop) == 512
    assert guest.codes("/shop")[-1] == "disabled"


def test_a_turn_that_was_asked_for_outlives_other_settings() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_for(30 * SECOND)
    guest.tell(RunAsked(None, BY))
    guest.set_rules(Rules(base=replace(BASE, period_us=2 * PERIOD), revision=2))
    guest.run_for(30 * SECOND)
    assert guest.count(Age) == 1


def refused(guest: SimulatedGuest, path: str | None = None) -> str:
    before = guest.count(Survey)
    why = why_not_run(guest.watched.state, path)
    guest.tell(RunAsked(path, BY))
    assert guest.count(Survey) == before
    assert why is not None
    assert last(guest).verdict == "refuse"
    assert last(guest).because.code == why.code
    assert last(guest).because.saw["by"] == BY
    return why.code


def test_a_turn_is_refused_while_held() -> None:
    guest = SimulatedGuest()
    guest.run_for(30 * SECOND)
    hold(guest, PERIOD)
    assert refused(guest) == "held"


def test_a_turn_is_refused_while_the_guest_is_hurt() -> None:
    guest, _ = in_mid_eviction()
    guest.stall(500_000, 60 * SECOND)
    guest.run_while(lambda: guest.watched.state.pause is None)
    guest.run_for(SECOND)
    assert refused(guest) == "paused"


def test_a_turn_is_refused_where_nothing_may_be_done() -> None:
    assert refused(SimulatedGuest(idle_because="another memreact")) == "idle"
    assert refused(SimulatedGuest(Rules(base=replace(BASE, disabled=True)))) == "disabled"


def test_a_turn_is_refused_while_one_is_under_way() -> None:
    guest, shop = in_mid_eviction()
    assert refused(guest) == "turn_under_way"
    guest.run_for(30 * SECOND)
    assert left_mb(shop) == 0


def test_a_turn_for_a_memcg_that_does_not_exist_is_refused() -> None:
    guest = SimulatedGuest()
    guest.add("/a/b")
    guest.run_for(30 * SECOND)
    assert refused(guest, "/a/b/c") == "no_such_cgroup"
    assert why_not_run(guest.watched.state, "/a") is None


def test_who_stops_begins_no_turn() -> None:
    guest = SimulatedGuest()
    guest.run_for(30 * SECOND)
    guest.stop()
    guest.tell(RunAsked(None, BY))
    assert not [a for _, a in guest.actions if isinstance(a, Evict | Age | Inspect)]
    why = why_not_run(guest.watched.state, None)
    assert why is not None
    assert why.code == "stopping"
