"""Figures in few cells, and reasons in few words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.top.words import brief, figure, percent, rate, short_span, size, verdict
from tests.tools.top.guests import MIB, SECOND, decision


@given(st.integers(0, 2**63 - 1))
def test_a_size_takes_five_cells_at_most(amount: int) -> None:
    assert 1 < len(size(amount)) <= 5


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "-"),
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0K"),
        (1 << 20, "1.0M"),
        (412 * MIB, "412M"),
        (1064 * MIB, "1.04G"),
        (64 << 30, "64G"),
        (2**63 - 1, "all"),
    ],
)
def test_a_size_keeps_what_says_something(amount: int | None, text: str) -> None:
    assert size(amount) == text


@given(st.integers(-1, 10**15))
def test_a_short_span_takes_few_cells(microseconds: int) -> None:
    assert len(short_span(microseconds)) <= 6


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (86_400 * 3, "3d")]
)
def test_a_short_span_has_one_unit(seconds: int, text: str) -> None:
    assert short_span(seconds * SECOND) == text


def test_a_share_has_as_many_digits_as_say_something() -> None:
    assert [percent(ppm) for ppm in (0, 150, 20_000, 990_000)] == ["0 %", "0.01 %", "2.0 %", "99 %"]


@pytest.mark.parametrize("huge", [10**400, -(10**400)], ids=["more", "less"])
def test_a_figure_without_measure_is_cut_to_one_that_can_be_written(huge: int) -> None:
    for text in (percent(huge), rate(huge), short_span(huge), size(huge)):
        assert len(text) < 30
    for name in ("a_ppm", "a_bytes", "a_us"):
        assert len(figure(name, huge, 4096)[1]) < 30


def test_rates_are_of_a_second() -> None:
    assert [rate(each) for each in (0, 2_100, 640_000)] == ["0.0/s", "2.1/s", "640/s"]


def test_a_reason_comes_with_its_most_telling_figure() -> None:
    out = decision(1, verdict="end", because="cold_gone", figures={"evicted_pages": 512})
    wait = decision(2, figures={"possible_in_us": 540 * SECOND})
    assert brief(out, 4096) == "2.0M out, cold gone"
    assert brief(out, 0) == "cold gone"
    assert brief(wait, 4096) == "nothing cold yet, 9m"
    assert brief(decision(3, verdict="turn", because="turn_over"), 4096) == ""


def test_what_was_waited_comes_with_the_longest_wait_and_its_kind() -> None:
    delays = {"over_us": 33 * SECOND, "processes": 1, "reclaim_us": 0, "swap_in_us": 24_000}
    hurt = decision(1, verdict="hurt", because="waited", figures=delays)
    assert brief(hurt, 4096) == "waited 24 ms, swap-in"
    assert brief(decision(2, verdict="hurt", because="waited"), 4096) == "waited"


@pytest.mark.parametrize(
    ("because", "text"), [("done", "64M gained"), ("out_of_time", "out of time, 64M gained")]
)
def test_a_compaction_comes_with_what_it_gained(because: str, text: str) -> None:
    figures = {"gained_bytes": 64 << 20, "expected_bytes": 1 << 20}
    row = decision(1, verdict="compacted", because=because, figures=figures)
    assert brief(row, 4096) == text


def test_a_verdict_that_is_not_known_is_told_as_it_came() -> None:
    assert verdict(decision(1)) == "left alone"
    assert verdict(decision(1, verdict="some_new_word")) == "some new word"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("stall_us", 24_000, ("stall", "24 ms")),
        ("limit_ppm", 10_000, ("limit", "1.0 %")),
        ("evicted_pages", 512, ("evicted", "512 pages, 2048 KiB")),
        ("floor_bytes", 8 * MIB, ("floor", "8192 KiB")),
        ("aged", 3, ("aged", "3")),
        ("us", 3, ("us", "3")),
    ],
)
def test_a_figure_is_told_with_its_unit(name: str, value: int, said: tuple[str, str]) -> None:
    assert figure(name, value, 4096) == said
