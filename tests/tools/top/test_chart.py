"""Stalls over time, in columns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.top.chart import Chart, marks_line, spark_line, spark_rows
from memreact_tools.top.lines import ASCII, UNICODE
from memreact_tools.top.model import GuestModel, PauseSpan, Point
from tests.tools.top.guests import SECOND

END = 100 * SECOND
LIMIT = 100_000


def chart(*points: tuple[int, int], width: int = 8, **guest: list[object]) -> Chart:
    """Columns of a guest that stalled so much, so many seconds before the end."""
    model = GuestModel("g")
    model.points.extend(
        Point(END - ago * SECOND, ppm, 0) for ago, ppm in sorted(points, reverse=True)
    )
    for name, values in guest.items():
        getattr(model, name).extend(values)
    return Chart.of(model, END, width, LIMIT)


def text(parts: list[tuple[str, str]]) -> str:
    return "".join(each for each, _ in parts)


def test_the_newest_is_at_the_right_end() -> None:
    assert chart((0, 5), (2, 7), (9, 9), width=4).ppm == (None, 7, 7, 5)


def test_a_hole_of_one_column_is_closed_and_a_longer_one_shown() -> None:
    assert chart((0, 1), (2, 2), width=4).ppm == (None, 2, 2, 1)
    assert chart((0, 1), (3, 2), width=4).ppm == (2, None, None, 1)


def test_the_largest_of_a_column_counts() -> None:
    model = GuestModel("g")
    model.points.extend([Point(END, 9, 0), Point(END + 1, 2, 0)])
    assert Chart.of(model, END, 1, LIMIT).ppm == (9,)


def test_heights_go_by_the_root_and_the_limit_is_the_top() -> None:
    shown = chart((3, 50), (2, LIMIT // 4), (1, LIMIT), (0, 9 * LIMIT), width=4)
    assert text(spark_line(shown, UNICODE)) == "▁▄██"
    assert [style for _, style in spark_line(shown, UNICODE)] == ["rest", "calm", "bad"]


def test_several_lines_are_one_picture() -> None:
    shown = chart((1, LIMIT), (0, LIMIT // 4), width=3)
    assert [text(parts) for parts in spark_rows(shown, 2, UNICODE)] == ["╌█╌", " ██"]


def test_triggers_and_pauses_stand_below() -> None:
    shown = chart(
        width=6,
        marks=[END - 3 * SECOND],
        pauses=[PauseSpan(END - 2 * SECOND, END - SECOND)],
    )
    assert text(marks_line(shown, UNICODE)) == "  ▲━━ "


def test_a_pause_that_lasts_goes_on_to_the_end() -> None:
    shown = chart(width=3, pauses=[PauseSpan(END - 900 * SECOND, None)])
    assert text(marks_line(shown, ASCII)) == "==="


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 10**7)), max_size=30),
    st.integers(0, 60),
    st.integers(1, 6),
)
def test_any_chart_fills_its_width(points: list[tuple[int, int]], width: int, rows: int) -> None:
    shown = chart(*points, width=width)
    lines = [text(parts) for parts in spark_rows(shown, rows, UNICODE)]
    assert [len(line) for line in lines] == [width] * rows
    assert len(text(marks_line(shown, UNICODE))) == width
