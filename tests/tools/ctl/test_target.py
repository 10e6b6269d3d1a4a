"""Targets of a squeeze as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.ctl.keys import Misused
from memreact_tools.ctl.target import parse_target


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cold", {"cold": True}),
        ("0%", {"held_percent": 0}),
        ("100%", {"held_percent": 100}),
        ("4096", {"target_bytes": 4096}),
        ("300M", {"target_bytes": 300 << 20}),
        ("2g", {"target_bytes": 2 << 30}),
        ("5KiB", {"target_bytes": 5 << 10}),
        ("7b", {"target_bytes": 7}),
    ],
)
def test_a_target_is_read(text: str, found: dict[str, object]) -> None:
    assert parse_target(text) == found


@pytest.mark.parametrize(
    "text", ["", "0", "0M", "101%", "-1", "1.5G", "Cold", "5 M", "%", "x", "٣"]
)
def test_what_is_none_is_misuse(text: str) -> None:
    with pytest.raises(Misused, match="no target"):
        parse_target(text)


@given(st.text(max_size=12))
def test_any_text_is_one_parameter_or_misuse(text: str) -> None:
    try:
        found = parse_target(text)
    except Misused:
        return
    assert len(found) == 1
