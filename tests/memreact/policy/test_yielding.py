"""Letting go of a memcg or of the whole guest, and coming back."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from memreact.actions import Age, Arm, BreakOff, Disarm, Evict, Inspect, Survey
from memreact.events import BatchEnded, CapabilitiesRead, GuestPressure, PressureSample
from memreact.policy.state import State
from memreact.policy.yielding import window_us
from memreact.rules import Rules
from memreact.value import replace
from tests.memreact.policy.simulated_guest import (
    BASE,
    PAGES_PER_MB,
    SECOND,
    Memcg,
    SimulatedGuest,
    StallSpan,
)

PERIOD = 20 * SECOND
MS = 1000
RULES = Rules(base=replace(BASE, period_us=PERIOD, eviction_limit_ppm=10_000))


def cold_guest(rules: Rules = RULES, mb: int = 1024, **can: Any) -> tuple[SimulatedGuest, Memcg]:  # noqa: ANN401
    guest = SimulatedGuest(rules, **can)
    shop = guest.add("/shop")
    guest.fill(shop, "file", mb)
    return guest, shop


def left_mb(memcg: Memcg) -> float:
    return memcg.total("file") / PAGES_PER_MB


def writes_from(guest: SimulatedGuest, moment: int) -> list[int]:
    return [at for at, action in guest.actions if isinstance(action, Evict) and at >= moment]


# The memcg at work


def test_its_own_stall_ends_an_eviction_until_the_next_period() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    hurt_at = guest.now
    guest.stall(1_000_000, 40 * MS, "/shop")
    guest.run_for(PERIOD - SECOND)
    assert left_mb(shop) > 800
    assert guest.codes("/shop", "end") == ["stall_over_limit"]
    assert not [at for at in writes_from(guest, hurt_at) if at > hurt_at + 25 * MS]
    guest.run_for(2 * PERIOD)
    assert left_mb(shop) == 0


def test_the_write_is_broken_off_within_25_ms_of_the_first_stalled_microsecond() -> None:
    guest, _ = cold_guest()
    guest.run_until_write("/shop")
    hurt_at = guest.now
    guest.stall(1_000_000, 40 * MS, "/shop")
    guest.run_while(lambda: guest.count_doing(Evict) == 1)
    assert guest.now - hurt_at <= 25 * MS
    assert isinstance(guest.events[-1][1], BatchEnded)
    assert guest.events[-1][1].outcome == "broken_off"


def test_a_stall_that_another_memcg_had_is_not_its_own() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    guest.stall(30_000, 60 * SECOND, "/other")
    guest.run_for(PERIOD - SECOND)
    assert guest.codes("/shop", "end") == ["cold_gone"]
    assert left_mb(shop) == 0


def test_a_stalled_memcg_is_not_aged_either_and_the_others_go_on() -> None:
    guest, _ = cold_guest()
    other = guest.add("/other")
    guest.fill(other, "file", 100)
    guest.run_until_write("/shop")
    guest.stall(1_000_000, 40 * MS, "/shop")
    before = len(guest.actions)
    guest.run_for(PERIOD - SECOND)
    assert left_mb(other) == 0
    aged = [t.path for _, a in guest.actions[before:] if isinstance(a, Age) for t in a.targets]
    assert aged == ["/other"]


def test_after_a_quiet_window_it_goes_on_in_the_same_turn_where_that_is_wanted() -> None:
    guest, shop = cold_guest(replace(RULES, resume_quiet=True))
    guest.run_until_write("/shop")
    turns, hurt_at = guest.watched.state.turns, guest.now
    guest.stall(1_000_000, 40 * MS, "/shop")
    guest.run_while(lambda: guest.watched.state.turns == turns)
    assert left_mb(shop) == 0
    later = writes_from(guest, hurt_at + 1)
    assert later
    assert later[0] - hurt_at >= RULES.window_us


def test_while_it_is_not_quiet_it_waits_longer_and_longer() -> None:
    guest, shop = cold_guest(replace(RULES, resume_quiet=True))
    guest.run_until_write("/shop")
    guest.stall(20_000, 8 * SECOND, "/shop")
    guest.run_for(8 * SECOND)
    assert left_mb(shop) > 500
    assert "not_quiet_yet" in guest.codes("/shop", "end")
    assert guest.count(Inspect) < 10
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == 0


@pytest.mark.parametrize("gap_us", [500, 5_000])
def test_many_small_stalls_add_up(gap_us: int) -> None:
    """D15: the window is one of time, whatever the distance of two readings."""
    guest, _ = cold_guest()
    guest.run_until_write("/shop")
    for at in range(60):
        begin = guest.now + at * gap_us * 2
        guest.stalls.append(StallSpan(begin, begin + gap_us, 1_000_000, "/shop"))
    guest.run_for(2 * SECOND)
    assert guest.codes("/shop", "end") == ["stall_over_limit"]


def test_fractions_of_a_percent_count() -> None:
    for ppm, code in ((7_000, "stall_over_limit"), (3_000, "cold_gone")):
        rules = Rules(base=replace(RULES.base, eviction_limit_ppm=5_000))
        guest, _ = cold_guest(rules, 8192)
        guest.run_until_write("/shop")
        guest.stall(ppm, 15 * SECOND, "/shop")
        guest.run_for(16 * SECOND)
        assert guest.codes("/shop", "end") == [code]


def test_memory_high_at_the_memcg_at_work_ends_its_eviction() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    guest.hit_limit("/shop", high=3)
    guest.run_for(10 * SECOND)
    assert guest.codes("/shop", "end") == ["limit_hit"]
    assert left_mb(shop) > 900


def test_memory_high_below_the_memcg_at_work_ends_its_eviction() -> None:
    guest, shop = cold_guest()
    guest.add("/shop/till")
    guest.run_until_write("/shop")
    guest.hit_limit("/shop/till", high=1)
    guest.run_for(10 * SECOND)
    assert guest.codes("/shop", "end") == ["limit_hit"]
    assert left_mb(shop) > 900


def test_memory_high_elsewhere_stops_nothing() -> None:
    guest, shop = cold_guest()
    guest.add("/other")
    guest.run_until_write("/shop")
    guest.hit_limit("/other", high=1)
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == 0


def test_an_oom_anywhere_stops_everything_and_keeps_away_from_there_for_a_period() -> None:
    rules = Rules(base=replace(RULES.base, period_us=60 * SECOND))
    guest, shop = cold_guest(rules)
    other = guest.add("/other")
    guest.fill(other, "file", 100)
    guest.run_until_write("/shop")
    oom_at = guest.now
    guest.hit_limit("/other", oom=1)
    assert isinstance(guest.actions[-1][1], BreakOff | Disarm)
    guest.run_for(900 * MS)
    assert not writes_from(guest, oom_at + 1)
    assert guest.codes("", "pause") == ["oom"]
    guest.run_for(50 * SECOND)
    assert left_mb(shop) == 0
    assert left_mb(other) == 100
    assert "after_oom" in guest.codes("/other", "leave")
    guest.run_for(120 * SECOND)
    assert left_mb(other) == 0


def test_an_oom_that_is_seen_only_when_reading_keeps_away_as_well() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    guest.memcgs["/shop"].oom += 1
    guest.run_for(10 * SECOND)
    assert guest.codes("/shop", "end") == ["oom"]
    assert guest.watched.state.memcgs["/shop"].away_until > guest.now
    assert left_mb(shop) > 900


def test_one_that_ran_out_of_memory_before_we_ever_read_it_is_left_alone_too() -> None:
    """The top level alone hears of the kill: nobody says whose it was."""
    rules = Rules(base=replace(RULES.base, period_us=60 * SECOND))
    guest = SimulatedGuest(rules)
    guest.add("/system.slice")
    big, victim = guest.add("/system.slice/big"), guest.add("/system.slice/victim")
    guest.fill(big, "file", 400)
    guest.fill(victim, "file", 300)
    guest.run_until_write("/system.slice/big")
    victim.oom += 1
    oom_at = guest.now
    guest.hit_limit("/system.slice", oom=1)
    guest.run_for(50 * SECOND)
    assert left_mb(victim) == 300
    assert "after_oom" in guest.codes("/system.slice/victim")
    aged = [a for at, a in guest.actions if isinstance(a, Age) and at >= oom_at]
    assert not [t.path for a in aged for t in a.targets if t.path.startswith("/system.slice")]
    assert left_mb(big) == 0
    guest.run_for(240 * SECOND)
    assert left_mb(victim) == 0


def test_an_old_oom_of_one_that_we_never_read_is_no_reason() -> None:
    guest, shop = cold_guest()
    shop.oom = 3
    guest.run_until_write("/shop")
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == 0


# The whole guest


def test_a_stall_of_the_guest_pauses_everything_until_it_was_quiet_for_a_window() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    turns, hurt_at = guest.watched.state.turns, guest.now
    guest.stall(1_000_000, 300 * MS)
    guest.run_while(lambda: guest.watched.state.pause is None)
    assert guest.now - hurt_at <= 110 * MS
    assert left_mb(shop) > 800
    guest.run_while(lambda: guest.watched.state.pause is not None)
    assert guest.now - hurt_at >= 300 * MS + RULES.window_us
    guest.run_while(lambda: guest.watched.state.turns == turns)
    assert left_mb(shop) == 0, "the rest of the turn is done"


def test_a_paused_guest_is_looked_at_seldom_and_not_worked_on() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    guest.stall(500_000, 120 * SECOND)
    guest.run_for(SECOND)
    work = (Survey, Inspect, Evict, Age)
    before = sum(guest.count(kind) for kind in work)
    events = len(guest.events)
    guest.run_for(110 * SECOND)
    assert sum(guest.count(kind) for kind in work) == before
    assert len(guest.events) - events < 30
    assert left_mb(shop) > 800
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0


def test_a_pause_that_outlasts_its_period_begins_a_turn_anew() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    turns = guest.watched.state.turns
    guest.stall(500_000, 3 * PERIOD)
    guest.run_for(3 * PERIOD + 20 * SECOND)
    assert guest.watched.state.turns > turns
    guest.run_for(2 * PERIOD)
    assert left_mb(shop) == 0


def test_a_steady_stall_of_3_to_5_percent_still_gives_back_80_percent_within_6_periods() -> None:
    guest, shop = cold_guest()
    for at in range(0, 8 * PERIOD, SECOND):
        share = 30_000 + at // SECOND * 7919 % 20_000
        for part in range(10):  # in bursts, as io does it
            begin = guest.now + at + part * 100 * MS
            guest.stalls.append(StallSpan(begin, begin + share // 10, 1_000_000))
    guest.run_for(6 * PERIOD)
    assert left_mb(shop) <= 0.2 * 1024


def test_a_guest_that_is_always_a_little_busy_is_resumed() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    guest.stall(1_000_000, 200 * MS)
    guest.stall(70_000, 600 * SECOND)
    guest.run_for(100 * SECOND)
    assert "quiet_window" in guest.codes("", "resume")
    assert left_mb(shop) == 0


def test_below_the_limit_it_holds_for_100_ms_and_then_goes_on() -> None:
    guest, shop = cold_guest()
    guest.run_until_write("/shop")
    hurt_at = guest.now
    guest.stall(1_000_000, 20 * MS)
    guest.run_while(lambda: guest.codes("/shop", "hold") == [])
    held_at = guest.now
    guest.run_while(lambda: not writes_from(guest, hurt_at + 1))
    assert 100 * MS <= guest.now - held_at <= 102 * MS
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == 0
    assert guest.codes("", "pause") == []


def test_what_memreact_stalls_itself_pauses_nothing() -> None:
    """The guest's totals hold ours: they are taken off."""
    guest, _ = cold_guest()
    guest.own_ppm = 300_000
    guest.run_until_write("/shop")
    guest.run_for(10 * SECOND)
    assert guest.codes("", "pause") == []


# Triggers


def test_triggers_are_armed_only_while_work_runs() -> None:
    guest, _ = cold_guest()
    guest.run_until_write("/shop")
    assert guest.watched.armed == {"", "/shop"}
    guest.run_for(10 * SECOND)
    assert guest.watched.armed == set()


def test_a_small_eviction_arms_none_of_its_own() -> None:
    guest, shop = cold_guest(mb=8)
    guest.run_for(5 * PERIOD)
    assert left_mb(shop) == 0
    assert {action.path for _, action in guest.actions if isinstance(action, Arm)} == {""}


def test_each_file_is_armed_at_half_the_limit_with_a_quick_rung_below() -> None:
    guest, _ = cold_guest()
    guest.run_until_write("/shop")
    arms = {a.path: a.triggers for _, a in guest.actions if isinstance(a, Arm)}
    assert [(t.stall_us, t.window_us) for t in arms["/shop"]] == [
        (2_000, 40_000),
        (5_000, 1_000_000),
    ]
    assert [(t.stall_us, t.window_us) for t in arms[""]] == [(2_000, 40_000), (50_000, 1_000_000)]


def test_other_limits_are_armed_anew_in_mid_eviction() -> None:
    guest, _ = cold_guest()
    guest.run_until_write("/shop")
    before = len(guest.actions)
    guest.set_rules(replace(RULES, system_limit_ppm=500_000, revision=2))
    guest.run_for(5 * SECOND)
    arms = [a for _, a in guest.actions[before:] if isinstance(a, Arm) and a.path == ""]
    assert arms
    assert arms[0].triggers[-1].stall_us == 250_000


def test_without_the_privilege_the_windows_are_whole_2_s() -> None:
    guest, _ = cold_guest(privileged_psi=False)
    guest.run_until_write("/shop")
    for _, action in guest.actions:
        if isinstance(action, Arm):
            assert [trigger.window_us for trigger in action.triggers] == [2_000_000]


@pytest.mark.parametrize(
    ("window", "allowed"), [(500_000, 2_000_000), (2_000_000, 2_000_000), (5_000_000, 4_000_000)]
)
def test_the_window_of_an_unprivileged_daemon(window: int, allowed: int) -> None:
    able = CapabilitiesRead(
        page_bytes=4096, evicts="mglru", privileged_psi=False, own_path="/m", boot_phase=0.0
    )
    assert window_us(State(guest=able), replace(RULES, window_us=window)) == allowed


# Totals that cannot be read


class BlindGuest(SimulatedGuest):
    """A guest whose totals cannot be read for some time: all of them, or those of memcgs."""

    blind_until = 0
    to_memcgs_alone = False

    def _sample(self, path: str | None = None) -> PressureSample:
        seen = super()._sample(path)
        if self.now >= self.blind_until:
            return seen
        if self.to_memcgs_alone:
            return structs.replace(seen, memcg_us=None)
        return structs.replace(seen, memcg_us=None, guest=GuestPressure(None, None))


def blind_guest(rules: Rules) -> tuple[BlindGuest, Memcg]:
    guest = BlindGuest(rules)
    shop = guest.add("/shop")
    guest.fill(shop, "file", 1024)
    guest.run_until_write("/shop")
    guest.blind_until = guest.now + 3 * SECOND
    return guest, shop


def test_while_the_guests_totals_cannot_be_read_nothing_is_written() -> None:
    guest, shop = blind_guest(RULES)
    blind_from = guest.now
    guest.run_for(PERIOD - SECOND)
    assert not [at for at in writes_from(guest, blind_from + 1) if at < guest.blind_until]
    assert guest.codes("", "pause") == ["pressure_unreadable"]
    assert guest.codes("", "resume") == ["quiet_window"]
    assert left_mb(shop) == 0


@pytest.mark.parametrize("again", [True, False])
def test_while_a_memcgs_totals_cannot_be_read_it_is_left_alone(again: bool) -> None:  # noqa: FBT001
    guest, shop = blind_guest(replace(RULES, resume_quiet=again))
    guest.to_memcgs_alone = True
    blind_from, turns = guest.now, guest.watched.state.turns
    guest.run_while(lambda: guest.watched.state.turns == turns)
    assert not [at for at in writes_from(guest, blind_from + 1) if at < guest.blind_until]
    assert guest.codes("/shop", "end")[0] == "pressure_unreadable"
    assert guest.codes("", "pause") == []
    assert (left_mb(shop) == 0) is again
