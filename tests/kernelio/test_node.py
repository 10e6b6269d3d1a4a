from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading
from kernelio.node import parse_list, read_online_nodes
from tests.fake_guest import FakeGuest


def _printed(numbers: list[int]) -> str:
    """As lib/vsprintf.c, bitmap_list_string()."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ",".join(f"{s[0]}-{s[-1]}" if len(s) > 1 else f"{s[0]}" for s in spans) + "\n"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0\n", (0,)), ("0-1\n", (0, 1)), ("0-1,3\n", (0, 1, 3)), ("\n", ()), ("2,4-6", (2, 4, 5, 6))],
)
def test_reads_ranges_and_single_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_list(text, "x") == numbers


@given(st.sets(st.integers(0, 1023)).map(sorted))
def test_reads_back_every_list_the_kernel_can_print(numbers: list[int]) -> None:
    assert list(parse_list(_printed(numbers), "x")) == numbers


@given(st.text() | st.binary().map(os.fsdecode) | st.text("0123456789,-\n"))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        numbers = parse_list(text, "x")
        assert list(numbers) == sorted(set(numbers))


@pytest.mark.parametrize("text", ["1-0", "1,1", "3,0-1", "0-99999999999", "0-99999", "٣"])
def test_a_list_that_no_kernel_prints_is_malformed(text: str) -> None:
    with pytest.raises(MalformedReading, match="ascending"):
        parse_list(text, "x")


def test_a_kernel_without_numa_has_node_0(guest: FakeGuest) -> None:
    assert read_online_nodes(guest.layout) == (0,)


def test_reads_the_online_nodes(guest: FakeGuest) -> None:
    guest.shows("/sys/devices/system/node/online", "0,2\n")
    assert read_online_nodes(guest.layout) == (0, 2)
