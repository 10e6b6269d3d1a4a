"""How much of an eviction may be anonymous memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.policy.swappiness import (
    ANON_FIRST,
    FILE_ONLY,
    anon_refused,
    anon_room_pages,
    swappiness,
)
from memreact.value import replace
from tests.memreact.policy.readings import inspection
from tests.memreact.policy.simulated_guest import BASE

SWAP = replace(BASE, swap=True)
PAGE = 4096


@pytest.mark.parametrize(
    ("anon", "file", "uncapped", "capped"),
    [
        (100, 50, 133, 50),
        (1, 1, 100, 50),
        (1, 399, 1, 1),
        (1, 400, 0, 0),
        (110, 210, 69, 50),
        (46, 146, 48, 48),
        (1, 7, 25, 25),
    ],
)
def test_the_share_follows_the_mix_of_what_is_cold(
    anon: int, file: int, uncapped: int, capped: int
) -> None:
    assert swappiness(anon, file, 200) == uncapped
    assert swappiness(anon, file, 50) == capped


def test_without_file_pages_only_anonymous_ones_go() -> None:
    assert swappiness(10, 0, 50) == ANON_FIRST
    assert swappiness(10, 0, 0) == FILE_ONLY


def test_without_anonymous_pages_only_file_pages_go() -> None:
    assert swappiness(0, 10, 200) == FILE_ONLY
    assert swappiness(0, 0, 200) == FILE_ONLY


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 200))
def test_the_share_is_one_that_the_kernel_takes(anon: int, file: int, limit: int) -> None:
    share = swappiness(anon, file, limit)
    assert 0 <= share <= 200
    assert share <= limit or not file


@pytest.mark.parametrize(("free_kb", "refused"), [(1024, "swap_exhausted"), (1028, None)])
def test_a_little_swap_is_kept_free(free_kb: int, refused: str | None) -> None:
    assert anon_refused(SWAP, inspection(swap_free_bytes=free_kb * 1024), PAGE) == refused


def test_it_is_told_whether_there_is_no_swap_or_a_limit() -> None:
    saw = inspection(swap_free_bytes=0, swap_limit_path="/shop")
    assert anon_refused(SWAP, saw, PAGE) == "swap_limit_reached"


@pytest.mark.parametrize(
    ("keys", "why"),
    [({"swap": False}, "swap_not_asked_for"), ({"swappiness_max": 0}, "swappiness_max_is_0")],
)
def test_the_rules_may_refuse_anonymous_memory(keys: dict[str, Any], why: str) -> None:
    saw = inspection(swap_free_bytes=1 << 30)
    assert anon_refused(replace(SWAP, **keys), saw, PAGE) == why


@pytest.mark.parametrize(
    ("stored_mb", "used_mb", "refused"),
    [(100, 89, None), (100, 90, "zram_saves_nothing"), (8, 8, None), (0, 0, None)],
)
def test_zram_is_used_only_while_it_saves_something(
    stored_mb: int, used_mb: int, refused: str | None
) -> None:
    saw = inspection(
        swap_free_bytes=1 << 30, zram_stored_bytes=stored_mb << 20, zram_used_bytes=used_mb << 20
    )
    assert anon_refused(SWAP, saw, PAGE) == refused


def test_no_more_is_swapped_than_there_is_room_for() -> None:
    assert anon_room_pages(inspection(swap_free_bytes=300 * PAGE), PAGE) == 44
    assert anon_room_pages(inspection(swap_free_bytes=0), PAGE) == 0


@pytest.mark.parametrize(
    ("left_kb", "refused", "room"),
    [(1024, "zram_full", 0), (1028, None, 1), (1 << 30, None, 3840), (None, None, 3840)],
)
def test_zram_that_may_take_no_more_is_full_though_swap_is_free(
    left_kb: int | None, refused: str | None, room: int
) -> None:
    left = None if left_kb is None else left_kb << 10
    saw = inspection(swap_free_bytes=16 << 20, zram_left_bytes=left)
    assert anon_refused(SWAP, saw, PAGE) == refused
    assert anon_room_pages(saw, PAGE) == room
