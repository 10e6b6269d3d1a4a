"""A squeeze: as much as was asked for, the coldest first, within its time, and hurting nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memreact.actions import Age, Compact, Decision, ReadFragmentation, Reclaim, Survey
from memreact.events import (
    ClockDisturbed,
    HoldAsked,
    Instant,
    ReleaseAsked,
    RunAsked,
    SqueezeAsked,
    SqueezeCancelled,
    SqueezeReleased,
)
from memreact.policy.squeeze import (
    KEEP_ENDS_US,
    KEEP_LOOKS_US,
    SQUEEZE_ENDS_US,
    why_not_squeeze,
)
from memreact.rules import CgroupRule, CompactRules, Rules
from memreact.value import replace
from tests.effort import examples
from tests.memreact.policy.simulated_guest import (
    BASE,
    MB,
    PAGES_PER_MB,
    SECOND,
    Memcg,
    SimulatedGuest,
    Zone,
)

PERIOD = BASE.period_us
BY = "host"


def guest_with(*, scatters: bool = False, small: int = 0, **can: object) -> SimulatedGuest:
    """A guest that tells how its free memory lies; what it evicts becomes free."""
    guest = SimulatedGuest(None, phase=0.5, **{"compacts": True, **can})
    guest.zones = [Zone(small=small, blocks=100, headroom=1_000)]
    guest.frees_into, guest.scatters = guest.zones[0], scatters
    return guest


def with_files(guest: SimulatedGuest, path: str, mb: int, ages: int = 0, **how: bool) -> Memcg:
    """A memcg whose files were aged so often, a minute apart, since anybody touched them."""
    memcg = guest.add(path)
    guest.fill(memcg, "file", mb, **how)
    for _ in range(ages):
        guest.now += 60 * SECOND
        memcg.nodes[0].age(guest.now)
    return memcg


def squeeze(
    guest: SimulatedGuest,
    mb: int | None,
    for_us: int = 60 * SECOND,
    path: str = "/",
    hold_us: int = 0,
) -> None:
    pages = None if mb is None else mb * PAGES_PER_MB
    guest.tell(SqueezeAsked(pages, Instant(guest.now + for_us), path, BY, hold_us))


def ends(guest: SimulatedGuest) -> Iterator[Decision]:
    return (decision for _, decision in guest.decisions if decision.verdict == "squeezed")


def end_of(guest: SimulatedGuest) -> Decision:
    guest.run_while(lambda: guest.watched.state.squeeze is not None)
    return list(ends(guest))[-1]


def left_mb(memcg: Memcg) -> float:
    return (memcg.total("file") + memcg.total("anon")) / PAGES_PER_MB


def figure(decision: Decision, name: str) -> int:
    value = decision.because.saw[name]
    assert isinstance(value, int)
    return value


# Its target


def test_it_takes_what_it_was_asked_for_and_no_more() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 100)
    told = end_of(guest)
    assert told.because.code == "target"
    assert figure(told, "gained_pages") >= 100 * PAGES_PER_MB
    assert 398 <= left_mb(shop) <= 400
    assert figure(told, "overrun_us") == 0
    assert guest.count(Compact) == 0


def test_the_coldest_goes_first_whatever_is_larger() -> None:
    guest = guest_with()
    young = with_files(guest, "/young", 400)
    old = with_files(guest, "/old", 50, ages=6)
    for _ in range(3):
        guest.now += SECOND
        young.nodes[0].age(guest.now)
    squeeze(guest, 60)
    assert end_of(guest).because.code == "target"
    assert left_mb(old) == 0
    assert 385 <= left_mb(young) <= 391


def test_what_is_in_the_youngest_generations_is_aged_and_goes_too() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 300)
    squeeze(guest, 200)
    assert end_of(guest).because.code == "target"
    assert guest.count(Age)
    assert 95 <= left_mb(shop) <= 100


def test_what_is_in_use_stays_and_it_says_that_nothing_is_left() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 300, hot=True)
    cold = with_files(guest, "/cold", 50)
    squeeze(guest, 200)
    told = end_of(guest)
    assert told.because.code == "nothing_left"
    assert figure(told, "short_pages") >= 149 * PAGES_PER_MB
    assert (left_mb(shop), left_mb(cold)) == (300, 0)


def test_cold_is_what_the_settings_call_cold() -> None:
    guest = guest_with()
    cold = with_files(guest, "/cold", 300)
    for _ in range(4):
        guest.now += PERIOD
        cold.nodes[0].age(guest.now)
    guest.now += PERIOD
    shop = with_files(guest, "/shop", 300, ages=3)
    squeeze(guest, None)
    assert end_of(guest).because.code == "cold_gone"
    assert (left_mb(cold), left_mb(shop)) == (0, 300)


def test_a_target_that_is_there_already_evicts_nothing() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 300, ages=3)
    squeeze(guest, 0)
    assert end_of(guest).because.code == "target"
    assert left_mb(shop) == 300


def test_anonymous_memory_goes_too_where_it_may() -> None:
    guest = guest_with()
    guest.set_rules(Rules(base=replace(BASE, swap=True), revision=2))
    guest.swap_free = 1 << 30
    memcg = guest.add("/shop")
    guest.fill(memcg, "anon", 200)
    squeeze(guest, 100)
    assert end_of(guest).because.code == "target"
    assert 98 <= left_mb(memcg) <= 100


def test_on_the_rung_below_it_takes_what_it_was_asked_for_too() -> None:
    guest = guest_with(evicts="memory.reclaim")
    shop = with_files(guest, "/shop", 300)
    squeeze(guest, 100)
    assert end_of(guest).because.code == "target"
    assert guest.count(Reclaim)
    assert 198 <= left_mb(shop) <= 200


def test_where_nobody_can_look_at_free_memory_evictions_count_as_they_are() -> None:
    guest = guest_with()
    guest.unreadable = "no"
    shop = with_files(guest, "/shop", 300, ages=3)
    squeeze(guest, 100)
    told = end_of(guest)
    assert told.because.code == "target"
    assert "gained_pages" not in told.because.saw
    assert 198 <= left_mb(shop) <= 200


# Its scope, and what is spared


def test_only_its_subtree_is_touched() -> None:
    guest = guest_with()
    inside, outside = (with_files(guest, path, 100, ages=3) for path in ("/a/b", "/ab"))
    squeeze(guest, 500, path="/a")
    assert end_of(guest).because.code == "nothing_left"
    assert (left_mb(inside), left_mb(outside)) == (0, 100)


def test_protected_frozen_and_disabled_memcgs_are_spared() -> None:
    guest = guest_with()
    off = CgroupRule("/off", frozenset(), no_subdir=False, rules=replace(BASE, disabled=True))
    floor = CgroupRule(
        "/floor", frozenset(), no_subdir=False, rules=replace(BASE, floor_bytes=900 * MB)
    )
    guest.set_rules(Rules(base=BASE, cgroups=(off, floor), revision=2))
    for path in ("/off", "/floor", "/low", "/frozen"):
        with_files(guest, path, 100, ages=3)
    guest.memcgs["/low"].low_bytes = 200 * MB
    guest.change("/frozen", frozen=True)
    squeeze(guest, 300)
    assert end_of(guest).because.code == "nothing_left"
    assert {path: left_mb(memcg) for path, memcg in guest.memcgs.items()} == {
        "/off": 100,
        "/floor": 100,
        "/low": 100,
        "/frozen": 100,
    }


def test_a_memcg_that_stalls_is_left_alone_for_the_rest_of_it() -> None:
    guest = guest_with()
    hurt = with_files(guest, "/hurt", 400, ages=6)
    other = with_files(guest, "/other", 300, ages=3)
    squeeze(guest, 500)
    guest.run_until_write("/hurt")
    guest.stall(60_000, 2 * SECOND, "/hurt")
    assert end_of(guest).because.code == "nothing_left"
    assert left_mb(hurt) > 300
    assert left_mb(other) == 0


# Its end


def test_pressure_on_the_guest_ends_it_at_once() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    guest.run_until_write("/shop")
    guest.stall(900_000, 2 * SECOND)
    told = end_of(guest)
    assert told.because.code == "pressure"
    assert told.because.saw["detail"] == "guest_stall_over_limit"
    left = left_mb(shop)
    assert left > 300
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == left, "it does not go on by itself"
    assert guest.watched.state.pause is None


def test_the_pause_that_ended_it_is_sat_out() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    guest.run_until_write("/shop")
    guest.stall(900_000, 20 * SECOND)
    end_of(guest)
    assert guest.watched.state.pause is not None
    squeeze(guest, 100)
    assert guest.decisions[-1][1].because.code == "paused"
    guest.run_for(80 * SECOND)
    squeeze(guest, 100)
    assert end_of(guest).because.code == "target"


def test_it_ends_at_its_deadline_in_mid_write() -> None:
    guest = guest_with()
    guest.slower = 100
    shop = with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400, for_us=SECOND)
    told = end_of(guest)
    assert told.because.code == "deadline"
    assert 0 < figure(told, "overrun_us") < 10_000
    assert left_mb(shop) > 400


def test_an_aging_that_cannot_be_broken_off_is_all_that_it_overruns_by() -> None:
    guest = guest_with()
    for number in range(8):
        with_files(guest, f"/a{number}", 40)
    squeeze(guest, 100, for_us=17_000)  # the agings of 2 ms each begin before, and end after it
    told = end_of(guest)
    assert told.because.code == "deadline"
    assert 0 < figure(told, "overrun_us") <= 16_000


def test_whoever_goes_away_ends_it_in_mid_write() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    guest.run_until_write("/shop")
    guest.tell(SqueezeCancelled(BY))
    assert end_of(guest).because.code == "cancelled"
    assert left_mb(shop) > 400
    guest.run_for(30 * SECOND)
    assert left_mb(shop) > 400


def test_a_pause_that_an_operator_asks_for_ends_it() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    guest.run_until_write("/shop")
    guest.tell(HoldAsked(Instant(guest.now + 60 * SECOND), "uid 0"))
    told = end_of(guest)
    assert (told.because.code, told.because.saw["held_by"]) == ("held", "uid 0")
    guest.tell(ReleaseAsked("uid 0"))
    assert guest.watched.state.turn is None


@pytest.mark.parametrize("cause", ["suspend", "snapshot_restored"])
def test_a_clock_that_stood_still_ends_it(cause: str) -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    guest.run_until_write("/shop")
    guest.tell(ClockDisturbed(cause))
    assert end_of(guest).because.code == "clock_disturbed"


def test_settings_that_forbid_all_end_it() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    guest.run_until_write("/shop")
    guest.set_rules(Rules(base=replace(BASE, disabled=True), revision=2))
    assert end_of(guest).because.code == "disabled"
    assert left_mb(shop) > 300


def test_it_ends_with_the_daemon() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    guest.run_until_write("/shop")
    guest.stop()
    assert end_of(guest).because.code == "stopping"
    assert guest.watched.state.turn is None


def test_no_squeeze_is_longer_than_an_hour() -> None:
    guest = guest_with()
    squeeze(guest, 100, for_us=400 * SQUEEZE_ENDS_US)
    squeezed = guest.watched.state.squeeze
    assert squeezed is not None
    assert squeezed.deadline == guest.now + SQUEEZE_ENDS_US


# Compaction


def test_what_lies_in_pieces_is_gathered_before_more_is_evicted() -> None:
    guest = guest_with(scatters=True)
    shop = with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 100)
    assert end_of(guest).because.code == "target"
    assert guest.count(Compact) >= 1
    assert left_mb(shop) > 380


def test_no_compaction_outlasts_the_deadline() -> None:
    guest = guest_with(scatters=True)
    guest.compact_us = 30 * SECOND
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 100, for_us=5 * SECOND)
    told = end_of(guest)
    assert told.because.code == "deadline"
    assert figure(told, "overrun_us") < 10_000


def test_a_compaction_that_hurts_ends_it() -> None:
    guest = guest_with(scatters=True)
    guest.set_rules(Rules(base=BASE, system_limit_ppm=500_000, revision=2))
    guest.compact_us = 5 * SECOND
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 100)
    guest.run_while(lambda: not guest.count(Compact))
    guest.stall(300_000, 2 * SECOND)
    told = end_of(guest)
    assert (told.because.code, told.because.saw["detail"]) == ("pressure", "stall_over_limit")


def test_where_compaction_is_off_more_is_evicted_instead() -> None:
    guest = guest_with(scatters=True)
    guest.set_rules(Rules(base=BASE, compact=CompactRules(disabled=True), revision=2))
    with_files(guest, "/shop", 100, ages=3)
    squeeze(guest, 50)
    assert end_of(guest).because.code == "nothing_left"
    assert guest.count(Compact) == 0


# Others


def test_a_turn_under_way_gives_way_and_is_taken_after_it() -> None:
    guest = guest_with()
    shop = with_files(guest, "/shop", 800)
    guest.run_until_write("/shop")
    squeeze(guest, 20)
    assert end_of(guest).because.code == "target"
    assert "gives_way" in guest.codes("/shop", "end")
    guest.run_for(20 * SECOND)
    assert left_mb(shop) == 0


def test_a_compaction_under_way_gives_way() -> None:
    guest = guest_with(small=200_000)
    guest.compact_us = 20 * SECOND
    often = replace(guest.rules.compact, period_us=60 * SECOND)  # it settles before files are cold
    guest.set_rules(replace(guest.rules, compact=often))
    shop = with_files(guest, "/shop", 150, ages=3)
    guest.run_while(lambda: not guest.count_doing(Compact))
    guest.frees_into = guest.zones[0]
    squeeze(guest, 20)
    assert guest.watched.state.squeeze is not None
    assert end_of(guest).because.code in {"target", "nothing_left"}
    assert left_mb(shop) < 150


def test_a_second_one_is_told_whose_the_first_is() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400)
    why = why_not_squeeze(guest.watched.state, "/")
    assert why is not None
    assert (why.code, why.saw["held_by"]) == ("squeeze_under_way", BY)
    guest.tell(SqueezeAsked(1, Instant(guest.now + SECOND), "/", "uid 0"))
    assert guest.decisions[-1][1].because.code == "squeeze_under_way"
    assert end_of(guest).because.saw["by"] == BY


def test_the_next_turn_of_everybody_is_where_it_was() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    due = guest.watched.state.due
    squeeze(guest, 100)
    end_of(guest)
    assert guest.watched.state.due == due


def test_nobody_runs_a_turn_beside_it() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 100)
    guest.tell(RunAsked(None, "uid 0"))
    assert guest.decisions[-1][1].because.code in {"turn_under_way", "compaction_under_way"}


@pytest.mark.parametrize(
    ("path", "for_us", "code"),
    [("/gone", SECOND, "no_such_cgroup"), ("/", 0, "too_late"), ("/", -5, "too_late")],
)
def test_what_cannot_be_is_refused(path: str, for_us: int, code: str) -> None:
    guest = guest_with()
    with_files(guest, "/shop", 100)
    squeeze(guest, 10, for_us, path)
    assert (guest.decisions[-1][1].verdict, guest.decisions[-1][1].because.code) == ("refuse", code)


def test_a_guest_that_can_do_nothing_or_is_held_or_starts_refuses() -> None:
    assert why_not_squeeze(SimulatedGuest(evicts="nothing").watched.state, "/") is not None
    why = why_not_squeeze(SimulatedGuest(reports=False).watched.state, "/")
    assert why is not None
    assert why.code == "nobody_is_told"
    guest = guest_with()
    guest.tell(HoldAsked(Instant(guest.now + SECOND), "uid 0"))
    why = why_not_squeeze(guest.watched.state, "/")
    assert why is not None
    assert why.code == "held"


# What it reached is kept


def kept(hold_us: int = 4 * PERIOD) -> tuple[SimulatedGuest, Memcg]:
    """A guest that is to keep 100 MiB more reportable."""
    guest = guest_with()
    shop = with_files(guest, "/shop", 300, ages=3)
    squeeze(guest, 100, hold_us=hold_us)
    assert end_of(guest).because.code == "target"
    assert guest.watched.state.keep is not None
    return guest, shop


def grows(guest: SimulatedGuest, memcg: Memcg, mb: int) -> None:
    """Read files that it never reads again, out of free memory."""
    guest.fill(memcg, "file", mb, pread=True)
    guest.zones[0].blocks -= mb // 2


def reportable_mb(guest: SimulatedGuest) -> int:
    return guest.zones[0].blocks * 2


def looks(guest: SimulatedGuest) -> int:
    return guest.count(ReadFragmentation)


def test_what_a_guest_reads_beyond_it_is_squeezed_within_seconds() -> None:
    guest, shop = kept()
    guest.run_for(60 * SECOND)
    keeps = reportable_mb(guest)
    grows(guest, shop, 60)
    assert reportable_mb(guest) == keeps - 60
    guest.run_for(KEEP_LOOKS_US[1] + 4 * SECOND)
    assert reportable_mb(guest) >= keeps
    assert sum(1 for _ in ends(guest)) == 2


def test_what_is_kept_ages_nobody_sooner_than_turns_do() -> None:
    guest, shop = kept()
    guest.fill(shop, "file", 1, hot=True)
    guest.zones[0].blocks -= 400  # somebody else took it, and it never comes back
    aged = guest.count(Age)
    guest.run_until(min(guest.watched.state.due.values()) - 1)
    assert guest.count(Age) == aged
    assert list(ends(guest))[-1].because.code == "nothing_left"


def test_while_nothing_moves_it_is_looked_at_ever_more_seldom_and_nothing_is_told_of_it() -> None:
    guest, _ = kept()
    guest.run_for(30 * SECOND)
    seen, told = looks(guest), len(guest.decisions)
    due = min(guest.watched.state.due.values())
    until = min(due, guest.watched.state.compact.due or due) - 1
    most = (until - guest.now) // KEEP_LOOKS_US[1] + 2
    guest.run_until(until)
    assert 0 < looks(guest) - seen <= most
    assert len(guest.decisions) == told


def test_what_shrinks_slowly_is_looked_at_again_before_it_can_be_gone() -> None:
    guest, shop = kept()
    guest.zones[0].blocks += 200  # 400 MiB of room
    guest.run_for(60 * SECOND)
    keep = guest.watched.state.keep
    assert keep is not None
    for _ in range(40):
        grows(guest, shop, 20)
        guest.run_for(2 * SECOND)
        assert reportable_mb(guest) >= keep.pages // PAGES_PER_MB - 20 * KEEP_LOOKS_US[1] // SECOND
    guest.run_for(KEEP_LOOKS_US[1] + 4 * SECOND)
    assert reportable_mb(guest) >= keep.pages // PAGES_PER_MB


def test_a_guest_that_has_nothing_to_give_is_tried_ever_more_seldom_and_that_is_told_once() -> None:
    guest, shop = kept()
    guest.fill(shop, "file", 1, hot=True)
    guest.zones[0].blocks -= 400
    due = min(guest.watched.state.due.values())
    most = (due - guest.now) // KEEP_LOOKS_US[1] + 10
    guest.run_until(due - 1)
    tried = [decision for decision in ends(guest) if decision.because.code == "nothing_left"]
    assert len(tried) <= 2  # what was left of it is taken first
    assert guest.count(Survey) < most


def test_where_nothing_may_be_done_nothing_wakes_it() -> None:
    guest, _ = kept()
    guest.run_for(SECOND // 2)
    guest.tell(HoldAsked(Instant(guest.now + 60 * SECOND), "uid 0"))
    before = len(guest.events)
    guest.run_for(50 * SECOND)
    assert len(guest.events) == before


def test_it_is_let_go_when_its_time_is_over() -> None:
    guest, shop = kept(hold_us=PERIOD // 4)
    guest.run_for(PERIOD // 4)
    assert guest.watched.state.keep is None
    assert guest.decisions[-1][1].verdict == "let_go"
    left = left_mb(shop)
    guest.run_for(2 * SECOND)
    assert left_mb(shop) == left


def test_it_is_let_go_when_somebody_says_so_even_in_the_middle() -> None:
    guest, shop = kept()
    grows(guest, shop, 100)
    guest.run_while(lambda: guest.watched.state.squeeze is None)
    guest.tell(SqueezeReleased("uid 0"))
    assert end_of(guest).because.code == "released"
    assert guest.watched.state.keep is None
    guest.tell(SqueezeReleased("uid 0"))
    assert sum(decision.verdict == "let_go" for _, decision in guest.decisions) == 1


def test_a_release_before_its_target_is_reached_keeps_nothing() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400, hold_us=PERIOD)
    guest.run_until_write("/shop")
    guest.tell(SqueezeReleased("uid 0"))
    assert end_of(guest).because.code == "released"
    assert guest.watched.state.keep is None


def test_pressure_ends_a_round_and_not_what_is_kept() -> None:
    guest, shop = kept()
    grows(guest, shop, 100)
    guest.run_while(lambda: guest.watched.state.squeeze is None)
    guest.run_until_write("/shop")
    guest.stall(900_000, 2 * SECOND)
    assert end_of(guest).because.code == "pressure"
    assert guest.watched.state.keep is not None
    guest.run_for(PERIOD + 60 * SECOND)
    assert list(ends(guest))[-1].because.code == "target"


def test_while_it_is_kept_another_squeeze_is_refused() -> None:
    guest, _ = kept()
    squeeze(guest, 10)
    assert guest.decisions[-1][1].because.code == "squeeze_under_way"
    assert guest.decisions[-1][1].because.saw["held_by"] == BY


@pytest.mark.parametrize("cause", ["suspend", "snapshot_restored"])
def test_a_clock_that_stood_still_lets_it_go(cause: str) -> None:
    guest, _ = kept()
    guest.tell(ClockDisturbed(cause))
    assert guest.watched.state.keep is None


def test_what_was_cancelled_is_not_kept() -> None:
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    squeeze(guest, 400, hold_us=PERIOD)
    guest.run_until_write("/shop")
    guest.tell(SqueezeCancelled(BY))
    end_of(guest)
    assert guest.watched.state.keep is None


def test_nothing_is_kept_for_longer_than_a_day() -> None:
    guest, _ = kept(hold_us=400 * KEEP_ENDS_US)
    keep = guest.watched.state.keep
    assert keep is not None
    assert keep.until - keep.since == KEEP_ENDS_US


# Whatever the guest looks like

_memcgs = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 5), st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(max_examples=examples(60), deadline=None)
@given(
    memcgs=_memcgs,
    mb=st.none() | st.integers(0, 600),
    for_us=st.sampled_from([1_000, 200_000, 5 * SECOND, 60 * SECOND]),
    scatters=st.booleans(),
    stall=st.none() | st.tuples(st.integers(0, 400_000), st.sampled_from([20_000, 900_000])),
    resumes=st.booleans(),
)
def test_it_always_ends_in_time_and_takes_no_batch_too_much(  # noqa: PLR0913, PLR0917  # each is drawn
    memcgs: list[tuple[int, int, bool, bool]],
    mb: int | None,
    for_us: int,
    scatters: bool,  # noqa: FBT001
    stall: tuple[int, int] | None,
    resumes: bool,  # noqa: FBT001
) -> None:
    guest = guest_with(scatters=scatters)
    guest.set_rules(Rules(base=BASE, resume_quiet=resumes, revision=2))
    for number, (size, ages, hot, frozen) in enumerate(memcgs):
        path = f"/{number}"
        with_files(guest, path, size, ages, hot=hot)
        guest.change(path, frozen=frozen)
    guest.now += SECOND
    asked_at = guest.now
    squeeze(guest, mb, for_us)
    if stall is not None:
        guest.run_for(stall[0])
        guest.stall(stall[1], 2 * SECOND)
    told = end_of(guest)
    assert figure(told, "took_us") <= for_us + 70_000, "one row of readings or agings, one write"
    assert guest.now - asked_at <= for_us + 400_000 + 70_000
    if mb is not None and not scatters:
        assert figure(told, "evicted_pages") <= mb * PAGES_PER_MB + 2 * 512
    for number, (size, _, _, frozen) in enumerate(memcgs):
        if frozen:
            assert left_mb(guest.memcgs[f"/{number}"]) == size
    assert sum(1 for _ in ends(guest)) == 1
