"""Whole turns on a simulated guest: what goes, when, and who is left alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as replace_guest

from memreact.actions import Age, Evict, Inspect, ReadCapabilities, Reclaim, Survey
from memreact.events import (
    AgingEnded,
    BatchEnded,
    ClockDisturbed,
    Inspected,
    MemcgAppeared,
    RulesChanged,
    Surveyed,
)
from memreact.policy.turn import TURN_ENDS_US
from memreact.rules import CgroupRule, Rules
from memreact.value import replace
from tests.memreact.policy.readings import inspection
from tests.memreact.policy.simulated_guest import (
    BASE,
    MB,
    PAGE,
    PAGES_PER_MB,
    SECOND,
    Memcg,
    SimulatedGuest,
)

PERIOD = BASE.period_us


def rules(**base: object) -> Rules:
    return Rules(base=replace(BASE, **base))  # type: ignore[arg-type]


def rule(path: str, *numa: int, **keys: object) -> CgroupRule:
    mine = replace(BASE, **keys)  # type: ignore[arg-type]
    return CgroupRule(path, frozenset(numa), no_subdir=False, rules=mine)


def left_mb(memcg: Memcg, kind: str = "file") -> float:
    return memcg.total(kind) / PAGES_PER_MB


def with_cold_file(guest: SimulatedGuest, path: str = "/shop", mb: int = 512) -> Memcg:
    memcg = guest.add(path)
    guest.fill(memcg, "file", mb)
    return memcg


def run_to_the_first_write(guest: SimulatedGuest, path: str = "/shop") -> None:
    guest.run_until_write(path)


# When it goes


def test_cold_file_cache_goes_after_exactly_three_periods() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_while(lambda: guest.count(Age) == 0)
    aged_at = guest.now
    guest.run_until_write("/shop")
    assert 3 * PERIOD <= guest.now - aged_at < 3 * PERIOD + SECOND
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_count_of_periods_is_honoured(count: int) -> None:
    guest = SimulatedGuest(rules(aging_count_min=count))
    shop = with_cold_file(guest)
    guest.run_while(lambda: guest.count(Age) == 0)
    aged_at = guest.now
    guest.run_until_write("/shop")
    # The pages were touched before the first aging, so that is from when they are counted.
    assert count * PERIOD <= guest.now - aged_at < count * PERIOD + 2 * SECOND
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
def test_what_was_touched_within_the_count_stays(count: int) -> None:
    guest = SimulatedGuest(rules(aging_count_min=count))
    shop = guest.add("/shop")
    hot = guest.fill(shop, "file", 100, hot=True)
    guest.run_for(20 * PERIOD)
    assert hot.pages == 100 * PAGES_PER_MB
    assert shop.evicted == 0
    hot.cool()
    cooled_at = guest.now
    guest.run_until_write("/shop")
    assert guest.now - cooled_at >= count * PERIOD


def test_a_restart_of_memreact_loses_nothing() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_while(lambda: guest.count(Age) == 0)
    aged_at = guest.now
    guest.run_for(2 * PERIOD + PERIOD // 2)
    guest.restart()
    guest.run_until_write("/shop")
    assert 3 * PERIOD <= guest.now - aged_at < 4 * PERIOD + SECOND
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0


def test_what_was_cold_before_a_stop_of_an_hour_goes_in_the_first_turn() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_while(lambda: guest.count(Age) == 0)
    guest.run_for(SECOND)
    guest.now += 3600 * SECOND
    guest.restart()
    began = guest.now
    guest.run_until_write("/shop")
    assert guest.now - began <= PERIOD + SECOND
    assert "ages_first" in guest.codes("/shop")


def test_short_periods_work() -> None:
    guest = SimulatedGuest(rules(period_us=20 * SECOND))
    shop = with_cold_file(guest)
    guest.run_for(110 * SECOND)
    assert left_mb(shop) == 0


def test_nothing_at_all_happens_between_two_turns() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_while(lambda: guest.watched.state.turns < 3)
    before = len(guest.events)
    guest.run_for(PERIOD - 10 * SECOND)
    assert len(guest.events) == before


def test_guests_of_one_image_act_at_their_own_phase() -> None:
    first_turns = set()
    for phase in (0.0, 0.25, 0.5, 0.75):
        guest = SimulatedGuest(phase=phase)
        guest.run_while(lambda guest=guest: guest.watched.state.turns < 2)  # type: ignore[misc]
        first_turns.add(guest.now // SECOND)
    assert len(first_turns) == 4


def test_a_clone_of_a_snapshot_draws_another_phase() -> None:
    guest = SimulatedGuest(phase=0.0)
    guest.run_for(PERIOD + SECOND)
    due = dict(guest.watched.state.due)
    guest.guest = replace_guest(guest.guest, boot_phase=0.7)
    guest.tell(ClockDisturbed("vmgenid"))
    assert guest.watched.state.due != due


def test_stall_is_counted_from_the_start_of_memreact() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_for(3 * PERIOD - 20 * SECOND)
    guest.restart()
    guest.run_for(5 * SECOND)
    assert guest.watched.state.memcgs["/shop"].stall_us == (0, 0)
    guest.stall(50_000, PERIOD, "/shop")
    guest.run_for(PERIOD)
    assert "period_stall_over_limit" in guest.codes("/shop")
    assert left_mb(shop) == 512


def test_a_container_that_starts_just_after_a_turn_is_evicted_after_its_fourth_turn() -> None:
    """Discovered at 590 s, aged at 590, 1190 and 1790 s, cold for three whole periods at 2390 s."""
    guest = SimulatedGuest()
    guest.run_while(lambda: guest.watched.state.turns < 2)
    guest.run_for(10 * SECOND)
    born = guest.now
    shop = with_cold_file(guest)
    guest.run_until_write("/shop")
    assert (guest.now - born) // SECOND in {2389, 2390}
    assert guest.watched.state.memcgs["/shop"].counters.agings == 3
    guest.run_for(60 * SECOND)
    assert left_mb(shop) == 0


# What goes


def test_a_turn_reads_the_generations_a_bounded_number_of_times() -> None:
    guest = SimulatedGuest()
    for number in range(300):
        with_cold_file(guest, f"/{number}", 2)
    guest.run_for(4 * PERIOD)
    before = guest.count(Survey)
    guest.run_for(PERIOD + 60 * SECOND)
    assert 0 < guest.count(Survey) - before <= 4
    assert all(left_mb(memcg) == 0 for memcg in guest.memcgs.values())


def test_the_largest_eviction_comes_first_and_the_smallest_aging() -> None:
    guest = SimulatedGuest()
    for path, mb in (("/a", 10), ("/b", 300), ("/c", 50)):
        with_cold_file(guest, path, mb)
    guest.run_while(lambda: guest.count(Age) == 0)
    aged = next(action for _, action in guest.actions if isinstance(action, Age))
    assert [target.path for target in aged.targets] == ["/a", "/c", "/b"]
    guest.run_for(4 * PERIOD)
    looked_at = [action.path for _, action in guest.actions if isinstance(action, Inspect)]
    assert looked_at == ["/b", "/c", "/a"]


def test_anonymous_memory_stays_unless_swap_is_asked_for() -> None:
    guest = SimulatedGuest()
    guest.swap_free = 1 << 30
    shop = guest.add("/shop")
    guest.fill(shop, "anon", 100)
    guest.run_for(6 * PERIOD)
    assert left_mb(shop, "anon") == 100
    assert "too_little_cold" in guest.codes("/shop")


def test_anonymous_memory_goes_when_the_file_pages_are_gone() -> None:
    guest = SimulatedGuest(rules(swap=True))
    guest.swap_free = 1 << 30
    shop = guest.add("/shop")
    guest.fill(shop, "file", 100)
    guest.fill(shop, "anon", 300)
    guest.run_for(5 * PERIOD)
    assert left_mb(shop) == 0
    assert left_mb(shop, "anon") == 0
    assert guest.codes("/shop", "end") == ["cold_gone"]


def test_a_mix_never_asks_for_more_than_there_is_of_either_kind() -> None:
    guest = SimulatedGuest(rules(swap=True))
    guest.swap_free = 1 << 30
    shop = guest.add("/shop")
    guest.fill(shop, "file", 40)
    guest.fill(shop, "anon", 30)
    guest.run_for(5 * PERIOD)
    first = shop.writes[0]
    assert isinstance(first, Evict)
    assert first.swappiness == 50
    assert first.pages <= 30 * PAGES_PER_MB
    assert {w.swappiness for w in shop.writes[1:]} <= {0, 50, 200}
    assert left_mb(shop) + left_mb(shop, "anon") < 1


def test_swap_that_is_full_keeps_anonymous_memory_and_says_so() -> None:
    guest = SimulatedGuest(rules(swap=True))
    guest.swap_free = 50 * MB
    shop = guest.add("/shop")
    guest.fill(shop, "anon", 100)
    guest.run_for(5 * PERIOD)
    assert 49 < left_mb(shop, "anon") < 54
    end = next(d for _, d in guest.decisions if d.path == "/shop" and d.verdict == "end")
    assert end.because.code == "anon_stays"
    assert end.because.saw["anon"] == "swap_exhausted"


def test_zram_that_saves_nothing_takes_no_anonymous_memory() -> None:
    guest = SimulatedGuest(rules(swap=True))
    guest.swap_free, guest.zram = 1 << 30, (100 * MB, 95 * MB)
    shop = guest.add("/shop")
    guest.fill(shop, "anon", 100)
    guest.run_for(6 * PERIOD)
    assert left_mb(shop, "anon") == 100
    ends = [d for _, d in guest.decisions if d.path == "/shop" and d.verdict == "end"]
    assert {d.because.saw["anon"] for d in ends} == {"zram_saves_nothing"}


def swapping(limit_ppm_per_min: int = 2_000, evicts: str = "mglru") -> tuple[SimulatedGuest, Memcg]:
    """A guest with room in swap and a memcg of which 100 MB are touched all the time."""
    mine = replace(rules(swap=True), promotion_limit_ppm_per_min=limit_ppm_per_min)
    guest = SimulatedGuest(mine, evicts=evicts)
    guest.swap_free = 1 << 40
    shop = guest.add("/shop", promoted=0)
    guest.fill(shop, "anon", 100, hot=True)
    return guest, shop


def one_more_turn(guest: SimulatedGuest) -> None:
    turns = guest.watched.state.turns
    guest.run_while(lambda: guest.watched.state.turns == turns)


@pytest.mark.parametrize(("back", "left"), [(511, 0), (513, 300)])
def test_what_comes_back_from_swap_over_the_limit_ends_the_eviction_of_anonymous_memory(
    back: int, left: int
) -> None:
    guest, shop = swapping()
    guest.fill(shop, "anon", 300)
    guest.run_while(lambda: guest.count(Age) < 3)
    one_more_turn(guest)
    # 0.2 % a minute of 100 MB, for ten minutes: 512 pages.
    assert shop.promoted is not None
    guest.run_until(guest.now + PERIOD // 2)
    shop.promoted += back
    one_more_turn(guest)
    assert left_mb(shop, "anon") == 100 + left


def test_it_says_on_which_figures_and_page_cache_goes_on() -> None:
    guest, shop = swapping()
    guest.fill(shop, "anon", 300)
    guest.fill(shop, "file", 200)
    guest.run_while(lambda: guest.count(Age) < 3)
    one_more_turn(guest)
    shop.promoted = 10_000
    one_more_turn(guest)
    assert (left_mb(shop, "anon"), left_mb(shop)) == (400, 0)
    ended = [d for _, d in guest.decisions if d.verdict == "end"][-1]
    assert ended.because.code == "anon_stays"
    assert ended.because.saw["anon"] == "promotions_over_limit"
    assert ended.because.saw["promoted_pages"] == 10_000
    assert ended.because.saw["workingset_pages"] == 100 * PAGES_PER_MB
    assert ended.because.saw["limit_ppm_per_min"] == 2_000


def test_the_turn_after_a_quiet_one_swaps_again() -> None:
    guest, shop = swapping()
    guest.fill(shop, "anon", 300)
    guest.run_while(lambda: guest.count(Age) < 3)
    one_more_turn(guest)
    shop.promoted = 10_000
    one_more_turn(guest)
    assert left_mb(shop, "anon") == 400
    one_more_turn(guest)
    assert left_mb(shop, "anon") == 100


def test_a_limit_of_0_is_none() -> None:
    guest, shop = swapping(0)
    guest.fill(shop, "anon", 300)
    guest.run_while(lambda: guest.count(Age) < 3)
    one_more_turn(guest)
    shop.promoted = 10**9
    one_more_turn(guest)
    assert left_mb(shop, "anon") == 100


def test_without_generations_the_limit_holds_all_the_same() -> None:
    guest, shop = swapping(evicts="memory.reclaim")
    guest.fill(shop, "file", 100)
    one_more_turn(guest)
    shop.writes.clear()
    shop.promoted = 10**6
    one_more_turn(guest)
    assert {write.swappiness for write in shop.writes} == {0}


def test_a_plan_that_is_made_anew_does_not_forget_what_came_back() -> None:
    guest, shop = swapping()
    guest.fill(shop, "anon", 300)
    guest.run_while(lambda: guest.count(Age) < 3)
    one_more_turn(guest)
    shop.promoted = 10_000
    guest.fill(shop, "file", 300)
    guest.run_while(lambda: guest.watched.state.turn is None)
    guest.tell(RulesChanged(2))
    one_more_turn(guest)
    assert left_mb(shop, "anon") == 400


def test_what_a_removed_child_had_promoted_is_not_its_parents() -> None:
    guest, _ = swapping()
    parent = guest.add("/shop/a", promoted=0)
    guest.fill(parent, "anon", 300)
    child = guest.add("/shop/a/b", promoted=50_000)
    parent.promoted = 50_000
    guest.run_while(lambda: guest.count(Age) < 3)
    one_more_turn(guest)
    guest.remove(child.path)
    one_more_turn(guest)
    assert left_mb(parent, "anon") == 0


def test_a_swappiness_max_of_0_leaves_anonymous_memory_alone() -> None:
    guest = SimulatedGuest(rules(swap=True, swappiness_max=0))
    guest.swap_free = 1 << 30
    shop = guest.add("/shop")
    guest.fill(shop, "anon", 100)
    guest.run_for(6 * PERIOD)
    assert left_mb(shop, "anon") == 100


def test_dirty_pages_end_an_eviction_that_makes_no_progress() -> None:
    guest = SimulatedGuest()
    shop = guest.add("/shop")
    guest.fill(shop, "file", 100, dirty=True)
    guest.run_for(4 * PERIOD)
    assert guest.codes("/shop", "end") == ["no_progress_dirty"]
    assert len(shop.writes) == 1


def test_a_hot_pread_workload_is_taken_less_and_less() -> None:
    guest = SimulatedGuest(rules(period_us=20 * SECOND))
    shop = guest.add("/shop")
    guest.fill(shop, "file", 256, hot=True, pread=True)
    took = []
    for _ in range(10):
        before = shop.evicted
        guest.run_for(100 * SECOND)
        took.append(shop.evicted - before)
    assert took[0] > 0
    assert took[-1] < took[0] // 20
    assert "refaults" in guest.codes("/shop", "end")


def test_memory_that_stays_away_is_taken_boldly_again() -> None:
    guest = SimulatedGuest(rules(period_us=20 * SECOND))
    shop = guest.add("/shop")
    hot = guest.fill(shop, "file", 64, hot=True, pread=True)
    guest.run_for(600 * SECOND)
    for pages in (hot, *shop.nodes[0].held):
        pages.hot = False
    shop.returning = 0
    guest.fill(shop, "file", 64)
    guest.run_for(2000 * SECOND)
    assert left_mb(shop) < 1


# Who is left alone


def test_an_emptied_memcg_goes_at_once() -> None:
    guest = SimulatedGuest()
    shop = guest.add("/shop")
    guest.fill(shop, "file", 100, pread=True)
    guest.run_for(30 * SECOND)
    guest.change("/shop", populated=False)
    guest.run_for(3 * SECOND)
    assert left_mb(shop) == 0


def test_an_emptied_memcg_waits_for_no_period_even_when_another_turn_comes_first() -> None:
    other = rule("/other", period_us=20 * SECOND)
    guest = SimulatedGuest(Rules(base=BASE, cgroups=(other,)))
    with_cold_file(guest, "/other")
    shop = guest.add("/shop")
    guest.fill(shop, "file", 100, pread=True)
    guest.run_while(lambda: guest.now < guest.watched.state.due[20 * SECOND] - SECOND)
    guest.change("/shop", populated=False)
    guest.run_for(12 * SECOND)
    assert left_mb(shop) == 0


def test_a_removed_memcg_that_was_emptied_wakes_nobody() -> None:
    guest = SimulatedGuest()
    guest.add("/shop")
    guest.run_for(30 * SECOND)
    before = guest.count(Survey)
    guest.change("/shop", populated=False)
    guest.remove("/shop")
    guest.run_for(30 * SECOND)
    assert guest.count(Survey) == before


def test_a_frozen_memcg_is_never_touched() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.change("/shop", frozen=True)
    guest.run_for(6 * PERIOD)
    assert left_mb(shop) == 512
    assert guest.count(Age) == 0
    assert set(guest.codes("/shop")) == {"frozen"}


def test_memreact_never_evicts_itself() -> None:
    guest = SimulatedGuest()
    own = with_cold_file(guest, "/system.slice/memreact.service")
    below = with_cold_file(guest, "/system.slice/memreact.service/worker")
    beside = with_cold_file(guest, "/system.slice/memreact.service2")
    guest.run_for(6 * PERIOD)
    assert (left_mb(own), left_mb(below), left_mb(beside)) == (512, 512, 0)


def test_memreact_in_the_root_does_not_evict_the_root() -> None:
    guest = SimulatedGuest(own_path="/")
    root, shop = with_cold_file(guest, "/"), with_cold_file(guest)
    guest.run_for(6 * PERIOD)
    assert (left_mb(root), left_mb(shop)) == (512, 0)


def test_a_disabled_memcg_is_left_alone() -> None:
    guest = SimulatedGuest(Rules(base=BASE, cgroups=(rule("/shop", disabled=True),)))
    shop, other = with_cold_file(guest), with_cold_file(guest, "/other")
    guest.run_for(6 * PERIOD)
    assert (left_mb(shop), left_mb(other)) == (512, 0)


def test_two_nodes_follow_rules_of_their_own() -> None:
    cgroups = (rule("/shop", 1, disabled=True), rule("/shop", aging_count_min=1))
    guest = SimulatedGuest(Rules(base=BASE, cgroups=cgroups))
    shop = guest.add("/shop", 0, 1)
    guest.fill(shop, "file", 100, node=0)
    guest.fill(shop, "file", 100, node=1)
    guest.run_for(3 * PERIOD)
    assert shop.nodes[0].total("file") == 0
    assert shop.nodes[1].total("file") == 100 * PAGES_PER_MB


def test_a_node_that_no_entry_names_follows_the_base() -> None:
    guest = SimulatedGuest(Rules(base=BASE, cgroups=(rule("/shop", 1, disabled=True),)))
    shop = guest.add("/shop", 0, 1)
    guest.fill(shop, "file", 100, node=0)
    guest.run_for(6 * PERIOD)
    assert shop.nodes[0].total("file") == 0


def test_the_second_node_does_not_unlearn_what_the_first_one_taught() -> None:
    guest = SimulatedGuest(rules(period_us=20 * SECOND))
    shop = guest.add("/shop", 0, 1)
    guest.fill(shop, "file", 256, hot=True, pread=True)
    for _ in range(10):
        guest.fill(shop, "file", 4, node=1)
        guest.run_for(100 * SECOND)
    assert guest.watched.state.memcgs["/shop"].appetite.halvings > 1


def test_the_protection_of_a_memcg_is_kept() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    shop.low_bytes = 200 * MB
    guest.run_for(10 * PERIOD)
    assert 200 <= left_mb(shop) < 202
    assert "protected" in guest.codes("/shop", "end")


def test_the_protection_of_a_parent_slice_alone_is_kept() -> None:
    guest = SimulatedGuest()
    parent = guest.add("/shop.slice", low_bytes=600 * MB)
    a = with_cold_file(guest, "/shop.slice/a")
    b = with_cold_file(guest, "/shop.slice/b")
    guest.run_for(10 * PERIOD)
    assert 600 <= left_mb(a) + left_mb(b) < 603
    assert parent.evicted == 0


@pytest.mark.parametrize(
    ("floor", "kept_mb"), [({"floor_bytes": 100 * MB}, 100), ({"floor_ppm": 500_000}, 200)]
)
def test_a_floor_is_kept(floor: dict[str, int], kept_mb: int) -> None:
    guest = SimulatedGuest(Rules(base=BASE, cgroups=(rule("/shop", **floor),)))
    shop = with_cold_file(guest)
    shop.limit_bytes = 400 * MB
    guest.run_for(10 * PERIOD)
    assert kept_mb <= left_mb(shop) < kept_mb + 2


def test_a_stall_over_the_period_skips_the_whole_turn_even_if_it_is_planned_again() -> None:
    guest = SimulatedGuest()
    shop, other = with_cold_file(guest), with_cold_file(guest, "/other")
    guest.run_for(3 * PERIOD + 60 * SECOND)
    guest.stall(100_000, 100 * SECOND, "/shop")
    guest.run_until_write("/other")
    guest.set_rules(replace(guest.rules, revision=2))
    guest.run_for(60 * SECOND)
    assert (left_mb(shop), left_mb(other)) == (512, 0)
    assert "stalled_this_turn" in guest.codes("/shop")


def test_a_stall_of_1_17_percent_is_over_a_limit_of_1_and_one_of_0_9_is_not() -> None:
    for ppm, left in ((11_700, 512), (9_000, 0)):
        guest = SimulatedGuest()
        shop = with_cold_file(guest)
        guest.run_for(20 * SECOND)
        guest.stall(ppm, 20 * PERIOD, "/shop")
        guest.run_for(6 * PERIOD)
        assert left_mb(shop) == left


def test_a_short_period_of_one_group_does_not_forgive_the_stall_of_another() -> None:
    quick = rule("/quick", period_us=20 * SECOND)
    guest = SimulatedGuest(Rules(base=BASE, cgroups=(quick,)))
    shop = with_cold_file(guest)
    with_cold_file(guest, "/quick")
    guest.run_for(3 * PERIOD + 100 * SECOND)
    guest.stall(500_000, 100 * SECOND, "/shop")
    guest.run_for(PERIOD)
    assert "period_stall_over_limit" in guest.codes("/shop")
    assert left_mb(shop) == 512


# What may happen in the middle


def test_a_memcg_that_vanishes_ends_its_turn_alone_at_every_point() -> None:
    for point in (Survey, Inspect, Evict, Age):
        guest = SimulatedGuest()
        with_cold_file(guest)
        other = with_cold_file(guest, "/other", 100)
        guest.run_for(3 * PERIOD + 60 * SECOND)
        guest.run_while(lambda guest=guest, point=point: guest.count_doing(point) == 0)  # type: ignore[misc]
        guest.remove("/shop")
        guest.run_for(PERIOD)
        assert left_mb(other) == 0, point
        assert guest.watched.state.turn is None


def test_a_memcg_that_is_made_again_under_its_name_is_another_one() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_for(3 * PERIOD + 60 * SECOND)
    guest.run_until_write("/shop")
    guest.remove("/shop")
    again = with_cold_file(guest)
    guest.run_for(60 * SECOND)
    assert left_mb(again) == 512
    assert "vanished" in guest.codes("/shop", "end") or guest.codes("/shop", "end") == []


def test_an_id_over_16_bits_is_evicted_like_any_other() -> None:
    guest = SimulatedGuest()
    guest._inodes = 70_000
    shop = with_cold_file(guest)
    guest.run_for(5 * PERIOD)
    assert left_mb(shop) == 0
    assert shop.writes[0].inode == 70_001


def test_a_freeze_in_mid_eviction_stops_it() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_until_write("/shop")
    guest.change("/shop", frozen=True)
    guest.run_for(1000)
    left = left_mb(shop)
    assert left > 400
    guest.run_for(2 * PERIOD)
    assert left_mb(shop) == left
    assert "frozen" in guest.codes("/shop", "end")


def test_freezing_a_slice_stops_the_eviction_below_it() -> None:
    guest = SimulatedGuest()
    guest.add("/shop.slice")
    below = with_cold_file(guest, "/shop.slice/a")
    guest.run_until_write("/shop.slice/a")
    guest.change("/shop.slice", frozen=True)
    guest.change("/shop.slice/a", frozen=True)
    guest.run_for(PERIOD)
    assert left_mb(below) > 400


def test_disabling_in_mid_eviction_ends_it_and_nothing_more_is_done() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_until_write("/shop")
    guest.set_rules(replace(rules(disabled=True), revision=2))
    guest.run_for(1000)
    left = left_mb(shop)
    assert left > 400
    done = len(guest.actions)
    guest.run_for(10 * PERIOD)
    assert left_mb(shop) == left
    assert not [a for _, a in guest.actions[done:] if isinstance(a, Evict | Age | Inspect)]
    assert guest.watched.wake_at is None


def test_rules_that_are_in_force_bind_even_before_they_are_announced() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_until_write("/shop")
    guest.stall(1_000_000, 20_000)
    guest.run_while(lambda: guest.codes("/shop", "hold") == [])
    guest.rules = guest.watched.rules = rules(disabled=True)
    left = left_mb(shop)
    guest.run_for(10 * SECOND)
    assert left_mb(shop) == left > 400
    assert guest.codes("/shop", "end") == ["disabled"]


def test_enabling_swap_in_mid_eviction_takes_anonymous_memory_in_the_same_turn() -> None:
    guest = SimulatedGuest()
    guest.swap_free = 1 << 30
    shop = with_cold_file(guest)
    guest.fill(shop, "anon", 100)
    guest.run_until_write("/shop")
    turns = guest.watched.state.turns
    guest.set_rules(replace(rules(swap=True), revision=2))
    guest.run_while(lambda: guest.watched.state.turns == turns)
    assert (left_mb(shop), left_mb(shop, "anon")) == (0, 0)


def test_the_next_aging_looks_at_anonymous_memory_once_swap_is_on() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_for(PERIOD + SECOND)
    guest.set_rules(replace(rules(swap=True), revision=2))
    before = len(guest.actions)
    guest.run_for(PERIOD)
    ages = [action for _, action in guest.actions[before:] if isinstance(action, Age)]
    assert ages
    assert all(target.can_swap for age in ages for target in age.targets)


def test_a_period_that_is_changed_during_an_eviction_starts_no_second_worker() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_until_write("/shop")
    guest.set_rules(replace(rules(period_us=20 * SECOND), revision=2))
    guest.run_for(200 * SECOND)
    assert left_mb(shop) == 0


def test_a_shorter_period_counts_from_the_last_turn() -> None:
    guest = SimulatedGuest()
    guest.run_for(2 * PERIOD - 100 * SECOND)
    guest.set_rules(replace(rules(period_us=20 * SECOND), revision=2))
    assert guest.watched.wake_at == guest.now


def test_a_count_of_one_memcg_is_its_own() -> None:
    guest = SimulatedGuest(Rules(base=BASE, cgroups=(rule("/shop", aging_count_min=1),)))
    shop, other = with_cold_file(guest), with_cold_file(guest, "/other")
    guest.run_for(2 * PERIOD + 60 * SECOND)
    assert (left_mb(shop), left_mb(other)) == (0, 512)


def test_shutting_down_in_mid_eviction_starts_nothing_new() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    with_cold_file(guest, "/other", 100)
    guest.run_until_write("/shop")
    guest.stop()
    done = len(guest.actions)
    guest.run_for(10 * PERIOD)
    assert left_mb(shop) > 400
    assert {type(action).__name__ for _, action in guest.actions[done:]} <= {"Disarm"}
    assert guest.watched.state.turn is None


def test_a_write_that_takes_too_long_is_broken_off_and_goes_on_later() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.slower = 100
    guest.run_until_write("/shop")
    guest.run_for(20 * SECOND)
    assert "write_overdue" in guest.codes("/shop", "hold")
    assert len(shop.writes) > 3


def test_an_eviction_without_end_is_ended() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.slower = 100
    guest.run_until_write("/shop")
    guest.run_for(100 * SECOND)
    assert guest.codes("/shop", "end") == ["out_of_time"]


def test_a_turn_without_end_is_ended() -> None:
    """Many memcgs, each of which takes its minute."""
    guest = SimulatedGuest()
    for number in range(80):
        with_cold_file(guest, f"/shop{number:02}")
    guest.run_until_write("/shop00")
    guest.slower = 100
    began, turns = guest.now, guest.watched.state.turns
    guest.run_while(lambda: guest.watched.state.turns == turns)
    assert TURN_ENDS_US - SECOND < guest.now - began < TURN_ENDS_US + 10 * SECOND
    assert "turn_too_long" in [decision.because.code for _, decision in guest.decisions]


def test_a_survey_that_fails_ends_the_turn_and_the_next_one_comes() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_for(3 * PERIOD + 60 * SECOND)
    guest.survey_fails = "lru_gen: Permission denied"
    guest.run_for(PERIOD)
    assert guest.codes("", "turn")[-1] == "survey_failed"
    guest.survey_fails = None
    guest.run_for(2 * PERIOD)
    assert left_mb(shop) == 0


def test_a_refusal_ends_one_memcg_and_touches_nothing_else() -> None:
    guest = SimulatedGuest()
    shop, other = with_cold_file(guest), with_cold_file(guest, "/other")
    guest.refuses = {"/shop"}
    guest.run_for(4 * PERIOD)
    assert guest.codes("/shop", "end") == ["refused"]
    assert (left_mb(shop), left_mb(other)) == (512, 0)


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_until_write("/shop")
    before, done = guest.watched.state, len(guest.actions)
    after = inspection("/other")
    for stray in (
        Surveyed((), after.pressure),
        Inspected("/shop", inspection("/shop")),
        BatchEnded("/other", 0, 64, "done", after),
        AgingEnded((), after.pressure),
    ):
        guest.tell(stray)
        assert guest.watched.state == before, stray
    assert len(guest.actions) == done


def test_a_reading_of_another_memcg_is_not_taken_for_the_one_that_was_asked_for() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_while(lambda: guest.count_doing(Inspect) == 0)
    before = guest.watched.state
    guest.tell(Inspected("/other", inspection("/other")))
    assert guest.watched.state == before


def test_a_step_of_the_clock_stalls_nothing_and_makes_up_for_nothing() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_for(2 * PERIOD)
    guest.tell(ClockDisturbed("clock_step"))
    assert guest.count(ReadCapabilities) == 1
    guest.run_for(3 * PERIOD)
    assert left_mb(shop) == 0


def test_a_guest_that_becomes_idle_in_mid_eviction_is_left_alone() -> None:
    guest = SimulatedGuest()
    shop = with_cold_file(guest)
    guest.run_until_write("/shop")
    guest.tell(replace_guest(guest.guest, idle_because="another memreact"))
    guest.run_for(1000)
    left = left_mb(shop)
    guest.change("/shop", populated=False)
    guest.run_for(5 * PERIOD)
    assert left_mb(shop) == left > 400
    assert guest.watched.wake_at is None


# The rung below


def below(**keys: object) -> SimulatedGuest:
    base = replace(BASE, period_us=20 * SECOND, **keys)  # type: ignore[arg-type]
    return SimulatedGuest(Rules(base=base, reclaim_without_mglru=True), evicts="memory.reclaim")


def test_without_generations_a_small_share_goes_each_period() -> None:
    guest = below()
    shop = with_cold_file(guest)
    guest.run_while(lambda: shop.evicted == 0)
    guest.run_for(SECOND)
    share = 512 * PAGES_PER_MB * 2 // 100
    assert share <= shop.evicted < share + 64
    assert all(isinstance(write, Reclaim) for write in shop.writes)
    assert all(write.pages * PAGE <= 8 * MB for write in shop.writes)
    assert guest.count(Age) == 0


def test_without_generations_protection_holds_all_the_same() -> None:
    guest = below()
    shop = with_cold_file(guest)
    shop.low_bytes = 500 * MB
    guest.run_for(100 * 20 * SECOND)
    assert 500 <= left_mb(shop) < 502


def test_without_generations_refaults_set_the_pace() -> None:
    guest = below()
    shop = guest.add("/shop")
    guest.fill(shop, "file", 512, hot=True, pread=True)
    took = []
    for _ in range(8):
        before = shop.evicted
        guest.run_for(40 * SECOND)
        took.append(shop.evicted - before)
    assert took[-1] < took[0] // 4


def test_where_nothing_can_be_evicted_nothing_is_done() -> None:
    guest = SimulatedGuest(evicts="nothing")
    with_cold_file(guest)
    guest.change("/shop", populated=False)
    guest.run_for(10 * PERIOD)
    assert guest.actions == []
    assert guest.watched.wake_at is None


# Told


def test_every_turn_says_why_each_memcg_was_left_alone() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.add("/empty")
    guest.run_for(PERIOD + SECOND)
    leave = {d.path: d for _, d in guest.decisions if d.verdict == "leave"}
    assert leave["/shop"].because.code == "nothing_cold_yet"
    assert leave["/shop"].because.saw["possible_in_us"] == 3 * PERIOD
    assert "/empty" in leave


def test_a_normal_end_is_not_an_error_and_is_counted_with_its_pages() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest)
    guest.run_for(5 * PERIOD)
    counters = guest.watched.state.memcgs["/shop"].counters
    assert counters.evicted_pages == 512 * PAGES_PER_MB
    assert counters.evictions == 1
    assert counters.agings >= 3
    assert counters.because["cold_gone"] == 1


def test_a_memcg_that_appears_is_known_at_once() -> None:
    guest = SimulatedGuest()
    guest.tell(MemcgAppeared("/new one", 7))
    assert guest.watched.state.memcgs["/new one"].inode == 7


def test_a_change_of_rules_is_told() -> None:
    guest = SimulatedGuest()
    guest.tell(RulesChanged(9))
    assert guest.decisions[-1][1].because.saw == {"revision": 9}


# Stall of those that went


def with_family() -> SimulatedGuest:
    """A parent with cold pages and a child that stalls all its life; looked at already."""
    guest = SimulatedGuest()
    with_cold_file(guest, "/shop", 200)
    guest.add("/shop/child")
    guest.stall(100_000, 900 * SECOND, "/shop/child")
    guest.run_for(1_700 * SECOND)
    return guest


def stalled(guest: SimulatedGuest) -> bool:
    return "period_stall_over_limit" in guest.codes("/shop", "leave")


def test_what_a_child_stalled_before_it_went_is_not_its_parents() -> None:
    guest = with_family()
    guest.remove("/shop/child")
    guest.run_for(900 * SECOND)
    assert not stalled(guest)
    assert left_mb(guest.memcgs["/shop"]) == 0


def test_a_child_that_is_made_again_has_gone_as_well() -> None:
    guest = with_family()
    before = guest.watched.state.memcgs["/shop"].stall_us
    guest.add("/shop/child")
    assert before == (0, 0)
    assert guest.watched.state.memcgs["/shop"].stall_us == (90 * SECOND, 0)


def test_what_a_parent_stalls_itself_counts_when_a_child_went() -> None:
    guest = with_family()
    guest.remove("/shop/child")
    guest.stall(100_000, 600 * SECOND, "/shop")
    guest.run_for(900 * SECOND)
    assert stalled(guest)


# A plan that has become old


def ages(guest: SimulatedGuest, path: str, since: int) -> list[int]:
    rows = [(at, a) for at, a in guest.actions if isinstance(a, Age) and at >= since]
    return [at for at, row in rows for target in row.targets if target.path == path]


@pytest.mark.parametrize(("mb", "surveys"), [(1_024, 3), (16, 2)])
def test_before_the_first_aging_an_old_plan_is_looked_over_once(mb: int, surveys: int) -> None:
    guest = SimulatedGuest()
    with_cold_file(guest, "/shop", mb)
    guest.run_until_write("/shop")
    began = guest.now
    guest.run_while(lambda: guest.watched.state.turn is not None)
    assert len(ages(guest, "/shop", began)) == 1
    (summary,) = [d for at, d in guest.decisions if d.verdict == "turn" and at >= began]
    assert summary.because.saw["surveys"] == surveys


def test_one_that_somebody_else_aged_meanwhile_is_not_aged_again() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest, "/shop", 1_024)
    other, third = guest.add("/other"), guest.add("/third")
    for memcg in (other, third):
        guest.fill(memcg, "file", 10, hot=True)
    guest.run_until_write("/shop")
    began = guest.now
    other.nodes[0].age(guest.now)
    guest.run_while(lambda: guest.watched.state.turn is not None)
    assert ages(guest, "/third", began)
    assert not ages(guest, "/other", began)


def test_an_aging_that_the_kernel_only_calls_a_success_is_not_counted() -> None:
    guest = SimulatedGuest()
    for path in ("/shop", "/other", "/third"):
        with_cold_file(guest, path, 10)
    guest.ages_in_vain = {"/shop"}
    guest.run_for(700 * SECOND)
    (summary,) = [d for _, d in guest.decisions if d.verdict == "turn"][-1:]
    assert summary.because.saw["aged"] == 2


# What nobody can evict


def test_pages_that_are_out_of_reach_are_told_at_the_end_of_a_turn() -> None:
    guest = SimulatedGuest()
    with_cold_file(guest, "/shop", 10)
    guest.out_of_reach_pages = 777
    guest.run_for(700 * SECOND)
    (summary,) = [d for _, d in guest.decisions if d.verdict == "turn"][-1:]
    assert summary.because.saw["out_of_reach_pages"] == 777
