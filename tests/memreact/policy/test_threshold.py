"""Kata's rule, by the table that it was taken from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.events import Fragmentation, ZoneView
from memreact.policy.state import Baseline
from memreact.policy.threshold import baseline, fallen, forced, grown
from memreact.rules import CompactRules
from tests.memreact.policy.readings import sample

KB = 1024
# threshold 1024, prev_free_small 5000, prev_memfree 500000 kB
RULES = CompactRules(by_gain=False, threshold_pages=1024)
BASE = Baseline(500_000 * KB, 5_000, 5_000)


def reading(
    *,
    memfree_kb: int = 500_000,
    small: int | None = 0,
    page_bytes: int = 4096,
    by_order: tuple[int, ...] = (),
) -> Fragmentation:
    zone = ZoneView(0, "Normal", by_order, 0, 0, 0)
    return Fragmentation((zone,), 9, memfree_kb * KB, small, page_bytes, sample())


def compacts(
    seen: Fragmentation, base: Baseline = BASE, rules: CompactRules = RULES, skips: int = 0
) -> bool:
    found = forced(rules, skips) or fallen(rules, seen, base)
    return found is not None or grown(rules, seen, base)[0]


@pytest.mark.parametrize(
    ("small", "memfree_kb", "runs"),
    [
        (6024, 500_000, False),
        (6025, 500_000, True),
        (100, 495_904, False),  # fell by exactly 4096 kB
        (100, 495_903, True),
    ],
)
def test_either_condition_is_enough_and_equal_is_not(
    small: int, memfree_kb: int, *, runs: bool
) -> None:
    assert compacts(reading(small=small, memfree_kb=memfree_kb)) == runs


def test_the_first_check_compares_with_the_plain_threshold_and_free_memory_cannot_have_fallen() -> (
    None
):
    start = Baseline()
    assert not compacts(reading(small=1024, memfree_kb=0), start)
    assert compacts(reading(small=1025, memfree_kb=0), start)


@pytest.mark.parametrize(
    ("times", "skips", "runs"),
    [(0, 0, True), (2, 0, False), (2, 1, False), (2, 2, True), (None, 10**9, False)],
)
def test_so_many_skipped_checks_force_one(times: int | None, skips: int, *, runs: bool) -> None:
    rules = CompactRules(by_gain=False, force_times=times)
    assert compacts(reading(), rules=rules, skips=skips) == runs


@pytest.mark.parametrize("threshold", [2**63, 2**64 - 1])
def test_a_huge_threshold_is_never_crossed(threshold: int) -> None:
    rules = CompactRules(by_gain=False, threshold_pages=threshold)
    assert not compacts(reading(small=2**50, memfree_kb=0), rules=rules)


def test_the_threshold_is_in_pages_of_the_size_that_they_have() -> None:
    fell_by_64k_pages = 500_000 - 1024 * 64
    small_pages = reading(memfree_kb=fell_by_64k_pages)
    large_pages = reading(memfree_kb=fell_by_64k_pages, page_bytes=65_536)
    assert compacts(small_pages)
    assert not compacts(large_pages)
    assert compacts(reading(memfree_kb=fell_by_64k_pages - 1, page_bytes=65_536))


@pytest.mark.parametrize(("order", "small"), [(9, 128), (3, 32), (0, 0), (11, 12_928)])
def test_blocks_below_the_order_count_by_their_pages(order: int, small: int) -> None:
    seen = Fragmentation(
        (ZoneView(0, "Normal", (10, 5, 3, 2, 1, 0, 1, 0, 0, 7, 9), 0, 0, 0),),
        order,
        0,
        None,
        4096,
        sample(),
    )
    assert baseline(seen).small_pages == small


def test_where_the_movable_kind_cannot_be_read_all_kinds_are_compared_with_all_kinds() -> None:
    base = Baseline(0, small_pages=100, movable_pages=10)
    rules = CompactRules(by_gain=False, threshold_pages=50)
    assert not compacts(reading(small=None, by_order=(150,)), base, rules)
    assert compacts(reading(small=None, by_order=(151,)), base, rules)
    assert compacts(reading(small=61, by_order=(0,)), base, rules)


@given(
    small=st.integers(0, 2**40),
    then=st.integers(0, 2**40),
    threshold=st.integers(0, 2**64 - 1),
    free=st.integers(0, 2**40),
    free_then=st.integers(0, 2**40),
)
def test_it_is_the_two_inequalities(
    small: int, then: int, threshold: int, free: int, free_then: int
) -> None:
    seen = Fragmentation((), 9, free * KB, small, 4096, sample())
    rules = CompactRules(by_gain=False, threshold_pages=threshold)
    wanted = free_then > free + 4 * threshold or small > threshold + then
    assert compacts(seen, Baseline(free_then * KB, 0, then), rules) == wanted
