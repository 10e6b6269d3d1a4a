"""What comes back teaches how much may go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memreact.events import Instant
from memreact.policy.refault import Appetite, allowance_pages, evicted, learn

HOUR = Instant(3_600_000_000)
NOW = Instant(1_000_000)


def after(appetite: Appetite, came_back: int, *, pages: int = 10_000) -> Appetite:
    took = evicted(appetite, pages, 500, NOW)
    return learn(took, 500 + came_back, 1, HOUR)


def test_at_first_all_that_is_cold_may_go() -> None:
    assert allowance_pages(Appetite(), 10_000) == 10_000


def test_more_than_a_tenth_that_comes_back_quarters_the_next_turn() -> None:
    assert allowance_pages(after(Appetite(), 1_001), 10_000) == 2_500


def test_a_little_that_comes_back_changes_nothing() -> None:
    for halvings in (0, 4):
        assert after(Appetite(halvings), 1_000).halvings == halvings


def test_hardly_anything_that_comes_back_doubles_the_next_turn() -> None:
    assert after(Appetite(4), 200).halvings == 3
    assert after(Appetite(), 0).halvings == 0


def test_nothing_evicted_teaches_nothing() -> None:
    appetite = Appetite(5)
    assert learn(appetite, 10**9, 1, HOUR) == appetite
    assert evicted(appetite, 0, 7, NOW) == appetite


def test_a_moment_is_too_short_to_learn_from() -> None:
    took = evicted(Appetite(4), 100, 0, NOW)
    assert learn(took, 0, 300_000_000, Instant(NOW + 1_000)) == took


def test_two_evictions_before_the_judgement_are_judged_together() -> None:
    took = evicted(evicted(Appetite(), 100, 7, NOW), 50, 9, HOUR)
    assert took == Appetite(0, 150, 7, NOW)


def test_a_counter_that_began_anew_is_no_refault() -> None:
    took = evicted(Appetite(), 100, 10**6, NOW)
    assert learn(took, 5, 1, HOUR).halvings == 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))))
def test_there_is_always_a_little_that_may_be_tried(turns: list[tuple[int, int]]) -> None:
    appetite = Appetite()
    for pages, came_back in turns:
        appetite = after(appetite, came_back, pages=pages)
        assert allowance_pages(appetite, 10**7) >= 152
        assert allowance_pages(appetite, 100) == 100
