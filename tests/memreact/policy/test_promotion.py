"""How much of what was swapped out comes back, and where that is too much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memreact.events import Generation, Instant, MemcgView, NodeView
from memreact.policy.promotion import (
    PromotionLore,
    Promotions,
    judged,
    measured,
    own_promotions,
    with_gone_child,
    workingset_pages,
)
from tests.memreact.policy.simulated_guest import BASE

MINUTE = 60_000_000
PERIOD = BASE.period_us
LIMIT = 2_000
THEN, NOW = Instant(PERIOD), Instant(2 * PERIOD)

counts = st.integers(0, 2**62)
spans = st.integers(1, 2**62)
limits = st.integers(0, 10**9)


def came_back(pages: int, over_us: int = 10 * MINUTE, touched: int = 100_000) -> Promotions:
    return Promotions(pages, over_us, touched, LIMIT)


def view(path: str, promoted: int | None, *nodes: NodeView, current: int = 0) -> MemcgView:
    return MemcgView(path, 7, 7, 0, 0, nodes, current, promoted)


def test_a_rate_over_the_limit_is_over_it_and_one_at_it_is_not() -> None:
    assert not came_back(2_000).over_limit
    assert came_back(2_001).over_limit


def test_a_burst_is_spread_over_a_minute() -> None:
    assert not came_back(200, over_us=1).over_limit
    assert came_back(201, over_us=1).over_limit


def test_a_few_pages_say_nothing_however_little_is_touched() -> None:
    assert not came_back(63, touched=0).over_limit
    assert came_back(64, touched=0).over_limit


def test_the_figures_are_those_that_were_compared() -> None:
    assert came_back(7).figures() == {
        "promoted_pages": 7,
        "over_us": 10 * MINUTE,
        "workingset_pages": 100_000,
        "limit_ppm_per_min": LIMIT,
    }


@given(counts, spans, counts)
def test_no_limit_is_never_crossed(pages: int, over_us: int, touched: int) -> None:
    assert not Promotions(pages, over_us, touched, 0).over_limit


@given(counts, spans, counts, limits, counts)
def test_more_that_comes_back_is_never_less_over_the_limit(
    pages: int, over_us: int, touched: int, limit: int, more: int
) -> None:
    if Promotions(pages, over_us, touched, limit).over_limit:
        assert Promotions(pages + more, over_us, touched, limit).over_limit


@given(counts, spans, counts, limits, counts)
def test_a_longer_time_or_a_larger_working_set_is_never_more_over_it(
    pages: int, over_us: int, touched: int, limit: int, more: int
) -> None:
    if not Promotions(pages, over_us, touched, limit).over_limit:
        assert not Promotions(pages, over_us + more, touched, limit).over_limit
        assert not Promotions(pages, over_us, touched + more, limit).over_limit


def seen(lore: PromotionLore, total: int | None, began: Instant = NOW) -> Promotions | None:
    return measured(lore, total, 100, LIMIT, began=began, now=NOW)


def test_two_readings_make_a_rate() -> None:
    assert seen(PromotionLore(500, THEN), 700) == Promotions(200, PERIOD, 100, LIMIT)


def test_one_reading_makes_none() -> None:
    assert seen(PromotionLore(), 700) is None
    assert seen(PromotionLore(500, THEN), None) is None


def test_a_counter_that_began_anew_has_brought_nothing_back() -> None:
    assert seen(PromotionLore(500, THEN), 5) == Promotions(0, PERIOD, 100, LIMIT)


def test_what_a_turn_judged_by_holds_to_its_end() -> None:
    lore = judged(PromotionLore(500, THEN), 700, came_back(200), NOW)
    assert lore == PromotionLore(700, NOW, came_back(200))
    assert seen(lore, 9_000, began=NOW) == came_back(200)


def test_turns_within_a_minute_count_from_the_same_moment() -> None:
    lore = PromotionLore(500, Instant(NOW - MINUTE + 1))
    assert judged(lore, 700, came_back(200), NOW).total_pages == 500


def test_a_counter_that_is_read_no_more_is_forgotten() -> None:
    assert judged(PromotionLore(500, THEN), None, None, NOW) == PromotionLore()


def test_a_removed_child_leaves_its_count_with_its_parent() -> None:
    assert with_gone_child(PromotionLore(500, THEN), 70).total_pages == 570
    assert with_gone_child(PromotionLore(500, THEN), None).total_pages == 500
    assert with_gone_child(PromotionLore(), 70) == PromotionLore()


def test_a_parents_own_is_what_its_children_did_not_bring_back() -> None:
    views = [view("/", 100), view("/a", 70), view("/a/b", 60), view("/a/c", None), view("/d", 31)]
    assert own_promotions(views) == {"/": 0, "/a": 10, "/a/b": 60, "/a/c": None, "/d": 31}


def test_what_is_touched_is_what_is_not_cold_on_all_nodes() -> None:
    ages = (4 * PERIOD, 3 * PERIOD, 2 * PERIOD, PERIOD)
    generations = tuple(Generation(seq, age, 10, 1) for seq, age in enumerate(ages))
    nodes = (NodeView(0, generations), NodeView(1, generations))
    assert workingset_pages(view("/a", 0, *nodes), BASE, 4096) == 2 * 33


def test_without_generations_all_that_is_used_counts_as_touched() -> None:
    assert workingset_pages(view("/a", 0, current=40_960), BASE, 4096) == 10
