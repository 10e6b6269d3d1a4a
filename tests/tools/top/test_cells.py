"""What a terminal is given is text, of known width, whatever a name holds."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from memreact_tools.top.cells import cells, fit, safe, tail

ANYTHING = st.text(st.characters(codec=None))


@given(ANYTHING)
@example("\x1b]0;title\x07")
@example("\x9b31m")
@example("a\u202eb\u200d\ufe0f")
def test_nothing_that_a_terminal_acts_on_is_left(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable()
    assert safe(shown) == shown


@given(ANYTHING, st.integers(0, 60), st.sampled_from([True, False]))
def test_a_text_takes_exactly_the_cells_that_it_is_given(
    text: str,
    width: int,
    right: bool,  # noqa: FBT001  # drawn
) -> None:
    fitted = fit(text, width, right=right)
    assert cells(fitted) == width
    assert fitted.isprintable()


@given(st.text(st.characters(max_codepoint=0x2FFFF, exclude_categories=["Cs", "Cn", "Co"])))
def test_widths_are_those_that_the_screen_reckons_with(text: str) -> None:
    shown = safe(text)
    # What Unicode has made wide since this Python was built may differ by its cells.
    unknown = sum(abs(cell_len(char) - cells(char)) for char in shown)
    assert abs(cell_len(shown) - cells(shown)) <= unknown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.service", "plain.service"),
        ("a b", "a b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("e\u0301", "e\\u0301"),
        ("\u65e5\u672c", "\u65e5\u672c"),
        ("\udcff", "\\udcff"),
        ("\u1112\u1161\u11ab", "\u1112\\u1161\\u11ab"),
    ],
)
def test_what_a_name_looks_like(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_a_wide_character_is_not_cut_in_half() -> None:
    assert fit("\u65e5\u672c\u8a9e", 4) == "\u65e5… "
    assert fit("\u65e5\u672c\u8a9e", 6) == "\u65e5\u672c\u8a9e"
    assert fit("\u65e5", 1) == "…"
    assert fit("abc", 5, right=True) == "  abc"


@given(ANYTHING, st.integers(0, 30))
def test_the_end_of_a_text_takes_no_more_cells_than_it_may(text: str, width: int) -> None:
    assert cells(tail(text, width)) <= width
    assert tail(text, width).isprintable()


def test_the_end_of_a_path_tells_more_than_its_begin() -> None:
    assert tail("/system.slice/redis.service", 14) == "…redis.service"
    assert tail("/a", 14) == "/a"
