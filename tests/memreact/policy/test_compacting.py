"""Compactions from the first look to the last figure, and all that ends them sooner."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from msgspec.structs import replace as replace_guest

from memreact.actions import (
    Arm,
    Because,
    Compact,
    Decision,
    Disarm,
    Evict,
    ReadFragmentation,
    Survey,
)
from memreact.events import ClockDisturbed, HoldAsked, Instant, RunAsked
from memreact.policy.asked import why_not_run
from memreact.policy.state import Compaction
from memreact.rules import CompactRules, Rules
from memreact.value import replace
from tests.memreact.policy.simulated_guest import (
    BASE,
    PAGES_PER_MB,
    SECOND,
    SimulatedGuest,
    StallSpan,
    Zone,
)

PERIOD = 600 * SECOND
BY = "cid 2"
ALONE = replace(BASE, disabled=True)
GAIN = CompactRules()
THRESHOLD = CompactRules(by_gain=False)


def guest_with(*zones: Zone, compact: CompactRules = GAIN, **keys: object) -> SimulatedGuest:
    """A guest in which nothing is done but to compact."""
    rules = Rules(base=ALONE, compact=compact, **keys)  # type: ignore[arg-type]
    guest = SimulatedGuest(rules, compacts=True)
    guest.zones = list(zones)
    return guest


def in_pieces(mb: int = 400, **keys: int | str) -> Zone:
    return Zone(small=mb * PAGES_PER_MB, **{"headroom": 200, **keys})  # type: ignore[arg-type]


def compacting(guest: SimulatedGuest) -> bool:
    return bool(guest.count_doing(Compact))


def looked_at(zone: Zone, compact: CompactRules = GAIN) -> SimulatedGuest:
    """A guest just after a look at its free memory."""
    guest = guest_with(zone, compact=compact)
    guest.run_while(lambda: guest.watched.state.compact.ended_at is None)
    return guest


def in_mid_compaction(*zones: Zone, compact: CompactRules = GAIN) -> SimulatedGuest:
    guest = guest_with(*(zones or (in_pieces(),)), compact=compact)
    guest.compact_us = 2 * SECOND
    guest.run_while(lambda: not compacting(guest))
    guest.run_for(SECOND // 2)
    return guest


def set_compact(guest: SimulatedGuest, **keys: object) -> None:
    compact = replace(guest.rules.compact, **keys)  # type: ignore[arg-type]
    guest.set_rules(replace(guest.rules, compact=compact, revision=guest.rules.revision + 1))


def codes(guest: SimulatedGuest, verdict: str) -> list[str]:
    return guest.codes("", verdict)


def last(guest: SimulatedGuest, verdict: str) -> Decision:
    return [each for _, each in guest.decisions if each.verdict == verdict][-1]


def figure(because: Because, name: str) -> int:
    saw = because.saw[name]
    assert isinstance(saw, int)
    return saw


def nodes_compacted(guest: SimulatedGuest) -> list[int]:
    return [action.node for _, action in guest.actions if isinstance(action, Compact)]


def compaction_of(guest: SimulatedGuest) -> Compaction:
    turn = guest.watched.state.turn
    assert turn is not None
    assert turn.compaction is not None
    return turn.compaction


# When


def test_a_guest_that_cannot_compact_is_never_looked_at() -> None:
    guest = guest_with(in_pieces())
    guest.tell(replace_guest(guest.guest, compacts=False))
    guest.run_for(5 * PERIOD)
    assert guest.count(ReadFragmentation) == 0
    assert guest.watched.wake_at is None


def test_free_memory_is_looked_at_each_period_from_the_end_of_the_last_look_on() -> None:
    guest = guest_with()
    guest.run_for(3 * PERIOD + 10)
    looked = [at for at, action in guest.actions if isinstance(action, ReadFragmentation)]
    assert len(looked) == 3
    assert [b - a for a, b in pairwise(looked)] == [PERIOD + 1_000] * 2


def test_memory_in_pieces_is_gathered_and_what_came_is_told_beside_what_was_expected() -> None:
    guest = guest_with(in_pieces(400))
    guest.run_for(PERIOD + SECOND)
    assert guest.zones[0].blocks == 200
    assert codes(guest, "compact") == ["gain"]
    saw = last(guest, "compacted").because.saw
    assert saw["expected_bytes"] == 200 << 20
    assert saw["gained_bytes"] == 400 << 20
    assert saw["moved_pages"] == 400 * PAGES_PER_MB
    counters = guest.watched.state.compact.counters
    assert (counters.checks, counters.runs, counters.broken_off) == (1, 1, 0)
    assert counters.gained_bytes == 400 << 20
    assert counters.because == {"done": 1}


def test_what_brings_too_little_is_not_begun_and_the_figures_say_why() -> None:
    guest = guest_with(in_pieces(8))
    guest.run_for(PERIOD + SECOND)
    assert guest.count(Compact) == 0
    because = last(guest, "skip").because
    assert because.code == "too_little_to_gain"
    assert because.saw["expected_bytes"] == 4 << 20
    assert figure(because, "cost_bytes") > 4 << 20


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda guest: setattr(guest.zones[0], "headroom", 10**9), "below_watermark"),
        (lambda guest: setattr(guest, "kernel_order", 11), "order_too_high"),
        (
            lambda guest: guest.tell(replace_guest(guest.guest, reports=False)),
            "nobody_is_told",
        ),
        (lambda guest: setattr(guest, "unreadable", "no buddyinfo"), "reading_failed"),
    ],
)
def test_a_named_cause_keeps_it_from_paying(
    change: Callable[[SimulatedGuest], object], code: str
) -> None:
    guest = guest_with(in_pieces())
    change(guest)
    guest.run_for(PERIOD + SECOND)
    assert guest.count(Compact) == 0
    assert codes(guest, "skip") == [code]


def test_only_the_nodes_that_pay_are_compacted_one_after_the_other_the_best_first() -> None:
    guest = guest_with(in_pieces(50), in_pieces(400, node=1), in_pieces(2, node=2))
    guest.run_for(PERIOD + SECOND)
    assert nodes_compacted(guest) == [1, 0]


def test_stuck_pieces_are_tried_ever_more_seldom_and_new_ones_at_once() -> None:
    guest = guest_with(in_pieces(400, stuck=400 * PAGES_PER_MB))
    guest.run_for(20 * PERIOD)
    assert guest.count(Compact) == 3
    assert codes(guest, "back_off") == ["gained_too_little"] * 3
    guest.zones[0].small += 200 * PAGES_PER_MB
    guest.run_for(PERIOD + SECOND)
    assert guest.count(Compact) == 4


def test_the_guests_triggers_are_armed_before_the_child_starts_and_closed_after_it() -> None:
    guest = guest_with(in_pieces())
    guest.run_for(PERIOD + SECOND)
    kinds = [
        type(action) for _, action in guest.actions if isinstance(action, Arm | Compact | Disarm)
    ]
    assert kinds == [Arm, Compact, Disarm]


def test_triggers_are_for_the_lower_of_both_limits() -> None:
    stalls = []
    for system_ppm in (100_000, 20_000):
        guest = guest_with(in_pieces(), system_limit_ppm=system_ppm)
        guest.run_for(PERIOD + SECOND)
        (armed,) = (action for _, action in guest.actions if isinstance(action, Arm))
        stalls.append(armed.triggers[-1].stall_us)
    assert stalls == [25_000, 10_000]


def test_what_a_turn_freed_is_looked_at_when_it_is_over_by_the_rule_gain_alone() -> None:
    looked = {}
    for compact in (GAIN, THRESHOLD):
        compact = replace(compact, period_us=100 * PERIOD)  # noqa: PLW2901  # of its own
        guest = SimulatedGuest(Rules(base=BASE, compact=compact), compacts=True)
        guest.fill(guest.add("/shop"), "file", 512)
        guest.run_for(4 * BASE.period_us)
        assert guest.count(Evict)
        looked[compact.by_gain] = guest.count(ReadFragmentation)
    assert looked == {True: 1, False: 0}


def test_a_turn_that_is_due_waits_for_a_compaction_and_a_compaction_for_a_turn() -> None:
    rules = Rules(base=replace(BASE, period_us=PERIOD), compact=GAIN)
    guest = SimulatedGuest(rules, compacts=True)
    guest.zones = [in_pieces()]
    guest.compact_us = 700 * SECOND
    guest.run_while(lambda: not compacting(guest))
    surveys = guest.count(Survey)
    assert surveys, "the turn was due too, and came first"
    guest.run_while(lambda: compacting(guest))
    assert guest.count(Survey) == surveys
    guest.run_for(PERIOD)
    assert guest.count(Survey) > surveys


def test_cpus_let_go_of_what_they_keep_at_hand_at_each_look_and_compaction() -> None:
    guest = guest_with(in_pieces())
    guest.run_for(PERIOD + SECOND)
    asked = [a.let_go for _, a in guest.actions if isinstance(a, ReadFragmentation | Compact)]
    assert asked == [True, True]


def test_by_katas_rule_they_keep_it() -> None:
    guest = guest_with(in_pieces(), compact=THRESHOLD)
    guest.run_for(PERIOD + SECOND)
    asked = [a.let_go for _, a in guest.actions if isinstance(a, ReadFragmentation | Compact)]
    assert set(asked) == {False}
    assert guest.count(Compact) == 1


# Skipped


def test_a_period_with_too_much_stall_is_skipped_and_a_fraction_of_a_percent_counts() -> None:
    guest = looked_at(in_pieces(8))
    guest.zones[0].small = 400 * PAGES_PER_MB
    guest.stall(11_700, PERIOD)
    guest.run_for(PERIOD + SECOND)
    assert codes(guest, "skip") == ["too_little_to_gain", "period_stall_over_limit"]
    guest.run_for(PERIOD)
    assert guest.zones[0].blocks == 200, "the next period was quiet"


def test_the_first_look_has_nothing_to_compare_with() -> None:
    guest = guest_with(in_pieces())
    guest.stall(500_000, 10 * SECOND)
    guest.run_for(PERIOD + SECOND)
    assert guest.count(Compact) == 1


def test_a_clock_that_jumped_is_compared_with_nothing() -> None:
    guest = looked_at(in_pieces(8))
    guest.stall(500_000, 100 * SECOND)
    guest.tell(ClockDisturbed("suspend"))
    guest.run_for(PERIOD + SECOND)
    assert guest.watched.state.compact.counters.checks == 2
    assert "period_stall_over_limit" not in codes(guest, "skip")


# Broken off


def test_a_stall_over_its_own_limit_kills_it_at_once_and_the_next_look_is_a_period_later() -> None:
    guest = in_mid_compaction()
    began = guest.now
    guest.stall(80_000, 3 * SECOND)
    guest.run_while(lambda: guest.watched.state.turn is not None)
    assert guest.now - began < SECOND
    assert last(guest, "compacted").because.code == "stall_over_limit"
    assert guest.watched.state.pause is None, "the guest's own limit was not crossed"
    assert guest.watched.state.compact.due == guest.now + PERIOD
    assert guest.watched.state.compact.counters.broken_off == 1


def test_over_the_guests_limit_everything_stays_away_until_it_is_quiet() -> None:
    guest = in_mid_compaction()
    # Of a stall that grows the lower limit would end it first: this one was not seen to grow.
    guest.stalls.append(StallSpan(guest.now - SECOND // 2, guest.now + 20_000, 1_000_000))
    guest.run_for(SECOND)
    assert not compacting(guest)
    assert guest.watched.state.pause is not None
    guest.run_for(20 * SECOND)
    assert guest.watched.state.turn is None
    assert codes(guest, "pause") == ["guest_stall_over_limit"]
    assert codes(guest, "compacted") == ["stall_over_limit"]
    assert guest.count(Compact) == 1


def test_a_burst_below_the_limit_kills_it_too_and_it_goes_on_when_that_is_over() -> None:
    guest = in_mid_compaction()
    guest.stall(300_000, 20_000)
    guest.run_for(SECOND // 2)
    assert codes(guest, "hold") == ["stall_below_limit"]
    guest.run_for(5 * SECOND)
    assert nodes_compacted(guest) == [0, 0]
    assert codes(guest, "compacted") == ["done"]


def test_a_node_that_is_killed_time_and_again_is_left_to_the_next_period() -> None:
    guest = in_mid_compaction()
    for _ in range(60):
        guest.stall(300_000, 20_000)
        guest.run_for(SECOND)
    assert codes(guest, "compacted") == ["stall_below_limit"]
    assert 2 <= len(nodes_compacted(guest)) <= 6


def test_its_time_is_for_all_nodes_together_and_what_it_brought_is_still_measured() -> None:
    compact = replace(GAIN, longest_us=3 * SECOND)
    zones = [in_pieces(400, node=node) for node in range(3)]
    guest = in_mid_compaction(*zones, compact=compact)
    guest.run_for(10 * SECOND)
    assert nodes_compacted(guest) == [0, 1]
    because = last(guest, "compacted").because
    assert because.code == "out_of_time"
    assert because.saw["gained_bytes"] == 400 << 20
    assert figure(because, "took_us") <= 3 * SECOND + 1_000


@pytest.mark.parametrize("outcome", ["refused", "unsupported", "vanished"])
def test_a_child_that_cannot_do_it_is_an_end_with_a_reason(outcome: str) -> None:
    guest = guest_with(in_pieces())
    guest.compact_ends = outcome  # type: ignore[assignment]
    guest.run_for(PERIOD + SECOND)
    because = last(guest, "compacted").because
    assert (because.code, because.saw["outcome"]) == ("refused", outcome)
    assert guest.watched.state.compact.due is not None


def test_without_a_reading_after_the_last_node_one_is_made() -> None:
    guest = guest_with(in_pieces(400), in_pieces(400, node=1))
    guest.tells_after = False
    guest.run_for(PERIOD + SECOND)
    assert guest.count(ReadFragmentation) == 2
    assert last(guest, "compacted").because.saw["gained_bytes"] == 800 << 20


def test_an_order_that_changes_meanwhile_makes_both_readings_incomparable() -> None:
    guest = in_mid_compaction()
    guest.kernel_order = 5
    guest.run_for(5 * SECOND)
    because = last(guest, "compacted").because
    assert because.code == "done"
    assert "gained_bytes" not in because.saw
    assert guest.watched.state.compact.zones == {}


def test_what_was_learnt_at_one_order_is_nothing_at_another() -> None:
    guest = guest_with(in_pieces(400, stuck=400 * PAGES_PER_MB))
    guest.run_for(PERIOD + SECOND)
    assert guest.watched.state.compact.zones
    guest.kernel_order = 5
    guest.run_for(PERIOD)
    assert guest.count(Compact) == 2, "no back-off from another order's pieces"


# Asked for, held, stopped


def test_a_hold_kills_it_and_free_memory_is_looked_at_again_when_that_is_over() -> None:
    guest = in_mid_compaction()
    guest.tell(HoldAsked(Instant(guest.now + 100 * SECOND), BY))
    guest.run_for(1_000)
    assert codes(guest, "compacted") == ["held"]
    assert not compacting(guest)
    guest.run_for(98 * SECOND)
    assert guest.count(Compact) == 1
    guest.run_for(2 * SECOND)
    assert guest.count(Compact) == 2


def test_a_stop_kills_it_and_nothing_follows() -> None:
    guest = in_mid_compaction()
    guest.stop()
    guest.run_for(PERIOD)
    assert codes(guest, "compacted") == ["stopping"]
    assert guest.count(Compact) == 1
    assert guest.watched.wake_at is None


def test_an_oom_kill_anywhere_ends_it() -> None:
    guest = in_mid_compaction()
    guest.add("/shop")
    guest.hit_limit("/shop", oom=1)
    guest.run_for(10 * SECOND)
    assert codes(guest, "compacted") == ["oom"]


def test_to_run_now_is_to_look_at_free_memory_after_the_turn_too() -> None:
    compact = replace(GAIN, period_us=100 * PERIOD)
    guest = SimulatedGuest(Rules(base=BASE, compact=compact), compacts=True)
    guest.zones = [in_pieces()]
    guest.tell(RunAsked(None, BY))
    guest.run_for(10 * SECOND)
    assert guest.count(Survey) >= 1
    assert guest.count(Compact) == 1


def test_to_run_now_compacts_alone_where_nothing_is_evicted() -> None:
    guest = guest_with(in_pieces())
    assert why_not_run(guest.watched.state, "/shop") is not None, "there is nothing to evict"
    guest.tell(RunAsked(None, BY))
    guest.run_for(1_500)
    assert compacting(guest)
    why = why_not_run(guest.watched.state, None)
    assert why is not None
    assert why.code == "compaction_under_way"


def test_to_run_now_for_one_memcg_looks_at_free_memory_only_if_something_was_freed() -> None:
    compact = replace(GAIN, period_us=100 * PERIOD)
    guest = SimulatedGuest(Rules(base=BASE, compact=compact), compacts=True)
    guest.add("/shop")
    guest.tell(RunAsked("/shop", BY))
    guest.run_for(10 * SECOND)
    assert guest.count(ReadFragmentation) == 0


# Settings, while it runs


def test_disabled_breaks_off_what_runs_and_enabled_looks_again() -> None:
    guest = in_mid_compaction()
    set_compact(guest, disabled=True)
    guest.run_for(1_000)
    assert not compacting(guest)
    assert guest.watched.wake_at is None
    assert guest.watched.state.compact.due is None
    guest.run_for(PERIOD)
    assert guest.count(Compact) == 1
    set_compact(guest, disabled=False)
    guest.run_for(SECOND)
    assert guest.count(Compact) == 2


def test_another_period_moves_the_timer_both_ways() -> None:
    guest = guest_with()
    guest.run_while(lambda: guest.watched.state.compact.ended_at is None)
    ended_at = guest.now
    for period_us in (2 * PERIOD, 100 * SECOND):
        set_compact(guest, period_us=period_us)
        assert guest.watched.wake_at == ended_at + period_us
    guest.run_for(SECOND)
    set_compact(guest, period_us=SECOND // 2)
    assert guest.watched.wake_at == guest.now


def test_the_periods_limit_holds_from_the_next_look_on() -> None:
    guest = looked_at(in_pieces(8))
    guest.zones[0].small = 400 * PAGES_PER_MB
    guest.stall(11_700, PERIOD)
    set_compact(guest, period_limit_ppm=20_000)
    guest.run_for(PERIOD + SECOND)
    assert guest.count(Compact) == 1


def test_a_lower_limit_of_stall_holds_for_what_runs() -> None:
    guest = in_mid_compaction()
    guest.stall(30_000, 60 * SECOND)
    guest.run_for(SECOND // 10)
    set_compact(guest, limit_ppm=10_000, period_limit_ppm=1_000_000)
    guest.run_for(5 * SECOND)
    assert codes(guest, "compacted") == ["plan_changed", "stall_over_limit"]


@pytest.mark.parametrize("longest_us", [0, -(2**63)])
def test_no_time_at_all_breaks_off_what_runs_and_begins_nothing(longest_us: int) -> None:
    guest = in_mid_compaction()
    set_compact(guest, longest_us=longest_us)
    guest.run_for(2 * PERIOD)
    assert guest.count(Compact) == 1
    assert set(codes(guest, "skip")) == {"no_time"}


def test_a_shorter_time_holds_for_what_runs() -> None:
    guest = in_mid_compaction()
    set_compact(guest, longest_us=SECOND)
    guest.run_for(2 * SECOND)
    assert codes(guest, "compacted") == ["plan_changed", "out_of_time"]


def test_another_order_is_asked_for_at_once_and_auto_can_be_set_again() -> None:
    guest = in_mid_compaction()
    set_compact(guest, order=5)
    guest.run_for(SECOND)
    assert compaction_of(guest).before is not None
    set_compact(guest, order=None)
    guest.run_for(5 * SECOND)
    orders = [a.order for _, a in guest.actions if isinstance(a, ReadFragmentation | Compact)]
    assert [
        order for order, before in zip(orders, [None, *orders], strict=False) if order != before
    ] == ["auto", 5, "auto"]


def test_another_rule_is_gone_by_at_once() -> None:
    guest = in_mid_compaction()
    set_compact(guest, by_gain=False, threshold_pages=10**9)
    guest.run_for(SECOND)
    assert codes(guest, "compacted") == ["plan_changed"]
    assert codes(guest, "skip") == ["below_threshold"]
    set_compact(guest, threshold_pages=1024)
    guest.run_for(PERIOD)
    assert codes(guest, "compact") == ["gain", "fragments_grew"]


# By the threshold


def test_pagetypeinfo_is_read_only_where_nothing_else_decides() -> None:
    guest = guest_with(in_pieces(), compact=replace(THRESHOLD, force_times=0))
    guest.run_for(PERIOD + SECOND)
    looks = [a.with_movable for _, a in guest.actions if isinstance(a, ReadFragmentation)]
    assert looks == [False]
    assert codes(guest, "compact") == ["forced"]
    (write,) = (action for _, action in guest.actions if isinstance(action, Compact))
    assert write.with_movable, "the next look compares with what this one leaves"


def test_force_times_two_is_skip_skip_run() -> None:
    guest = guest_with(compact=replace(THRESHOLD, force_times=2))
    guest.zones = [in_pieces(1)]
    guest.run_for(7 * (PERIOD + SECOND))
    verdicts = [d.verdict for _, d in guest.decisions if d.verdict in {"skip", "compact"}]
    assert verdicts[:6] == ["skip", "skip", "compact", "skip", "skip", "compact"]


def test_a_compaction_sets_what_the_next_looks_compare_with() -> None:
    guest = guest_with(in_pieces(400, stuck=100 * PAGES_PER_MB), compact=THRESHOLD)
    guest.run_for(2 * PERIOD + 2 * SECOND)
    assert codes(guest, "compact") == ["fragments_grew"]
    assert codes(guest, "skip") == ["below_threshold"]
    guest.zones[0].small += 1024
    guest.run_for(PERIOD)
    assert codes(guest, "compact") == ["fragments_grew"]
    guest.zones[0].small += 1
    guest.run_for(PERIOD)
    assert codes(guest, "compact") == ["fragments_grew"] * 2


def test_free_memory_that_fell_is_reason_enough() -> None:
    guest = guest_with(in_pieces(400, blocks=100), compact=THRESHOLD)
    guest.run_for(PERIOD + SECOND)
    guest.zones[0].blocks -= 100
    guest.run_for(PERIOD)
    assert codes(guest, "compact") == ["fragments_grew", "free_memory_fell"]


def test_one_that_was_broken_off_is_no_baseline_and_forgets_no_skip() -> None:
    guest = in_mid_compaction(compact=THRESHOLD)
    guest.stall(80_000, 3 * SECOND)
    guest.run_for(10 * SECOND)
    assert codes(guest, "compacted") == ["stall_over_limit"]
    assert guest.watched.state.compact.base.small_pages == 0
    guest.run_for(PERIOD)
    assert codes(guest, "compact") == ["fragments_grew"] * 2


def test_where_the_movable_kind_cannot_be_read_all_kinds_are_compared() -> None:
    guest = guest_with(in_pieces(400, stuck=100 * PAGES_PER_MB), compact=THRESHOLD)
    guest.movable = False
    guest.run_for(2 * PERIOD + 2 * SECOND)
    assert codes(guest, "compact") == ["fragments_grew"]
    assert codes(guest, "skip") == ["below_threshold"]


def test_every_node_is_compacted_by_the_threshold() -> None:
    zones = [in_pieces(400), in_pieces(1, node=1)]
    guest = guest_with(*zones, compact=THRESHOLD)
    guest.run_for(PERIOD + SECOND)
    assert nodes_compacted(guest) == [0, 1]
