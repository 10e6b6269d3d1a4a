"""Stalls over time, in columns: how high, where a trigger fired, where memreact stayed away."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from memreact_tools.top.lines import Glyphs, Part
from memreact_tools.top.model import GuestModel, PauseSpan, Point
from memreact_tools.top.words import short_span

__all__ = ["Chart", "marks_line", "spark_line", "spark_rows"]

_COLUMN_US = 1_000_000
_LIMIT_PPM = 100_000  # of the whole guest, where the settings are not known yet
_FLOOR_PPM = 100  # what is less is drawn as nothing
_EIGHTHS = 8
_WARN = 3  # of _EIGHTHS


class Chart(NamedTuple):
    """Columns, the newest at the right end.

    Args:
        ppm: The largest stall in each; None before the first reading.
        marks: How many triggers fired in each.
        paused: Whether memreact stayed away in some of it.
        limit_ppm: At the height of the top.
        column_us: What one column stands for.
    """

    ppm: tuple[int | None, ...]
    marks: tuple[int, ...]
    paused: tuple[bool, ...]
    limit_ppm: int
    column_us: int = _COLUMN_US

    @classmethod
    def of(
        cls,
        guest: GuestModel,
        now_us: int,
        width: int,
        limit_ppm: int | None,
        column_us: int = _COLUMN_US,
    ) -> Chart:
        """Make the columns up to now.

        Args:
            guest: Whose.
            now_us: The moment, at the right end.
            width: How many columns.
            limit_ppm: What the settings allow of the whole guest.
            column_us: What each stands for.
        """
        width = max(width, 0)
        end = now_us // column_us + 1  # columns keep their points while time goes on
        begin = end - width
        ppm: list[int | None] = [None] * width
        for at, point in _columns(guest.points, begin, end, column_us):
            ppm[at] = max(ppm[at] or 0, point.ppm)
        marks = [0] * width
        for mark in guest.marks:
            if begin <= (at := mark // column_us) < end:
                marks[at - begin] += 1
        paused = [False] * width
        for pause in guest.pauses:
            for at in _covered(pause, begin, end, column_us):
                paused[at] = True
        filled = tuple(_filled(ppm))
        return cls(filled, tuple(marks), tuple(paused), limit_ppm or _LIMIT_PPM, column_us)

    @property
    def length(self) -> str:
        """The time from the left end to now."""
        return f"last {short_span(len(self.ppm) * self.column_us)}"


def _columns(
    points: Sequence[Point], begin: int, end: int, column_us: int
) -> Iterator[tuple[int, Point]]:
    for point in reversed(points):  # the newest first: most are too old
        at = point.at_us // column_us
        if at < begin:
            return
        if at < end:
            yield at - begin, point


def _filled(ppm: Sequence[int | None]) -> Iterator[int | None]:
    """Close holes of one column: readings are a little more than a column apart."""
    for at, value in enumerate(ppm):
        inside = value is None and 0 < at < len(ppm) - 1
        yield ppm[at - 1] if inside and ppm[at + 1] is not None else value


def _covered(pause: PauseSpan, begin: int, end: int, column_us: int) -> range:
    first = max(pause.begin_us // column_us, begin)
    last = end - 1 if pause.end_us is None else min(pause.end_us // column_us, end - 1)
    return range(first - begin, last - begin + 1)


def _height(ppm: int, limit_ppm: int, levels: int) -> int:
    """Of so many levels: by the root, so that little is seen beside much; the limit is the top."""
    if ppm < _FLOOR_PPM:
        return 0
    top_ppm = max(limit_ppm, 1)
    share = min(ppm, top_ppm) / top_ppm  # no larger one is divided: a float may not hold it
    return max(round(levels * math.sqrt(share)), 1)


def _style(ppm: int, limit_ppm: int) -> str:
    if ppm >= limit_ppm:
        return "bad"
    return "warn" if ppm * _EIGHTHS >= limit_ppm * _WARN else "calm"


def spark_rows(chart: Chart, rows: int, glyphs: Glyphs) -> Iterator[list[Part]]:
    """The columns as so many lines, from the top."""
    steps = len(glyphs.spark) - 1
    heights = [
        None if each is None else _height(each, chart.limit_ppm, steps * rows) for each in chart.ppm
    ]
    for row in range(rows - 1, -1, -1):
        yield list(_joined(_cells(chart, heights, row, rows, glyphs)))


def _cells(
    chart: Chart, heights: Sequence[int | None], row: int, rows: int, glyphs: Glyphs
) -> Iterator[Part]:
    steps = len(glyphs.spark) - 1
    empty = (glyphs.limit, "rest") if row == rows - 1 and rows > 1 else (" ", "")
    for ppm, height in zip(chart.ppm, heights, strict=True):
        if height is None or ppm is None:
            yield empty
            continue
        level = min(max(height - steps * row, 0), steps)
        if not level and not row:
            yield glyphs.spark[1], "rest"  # it was looked at, and nobody waited
        else:
            yield (glyphs.spark[level], _style(ppm, chart.limit_ppm)) if level else empty


def spark_line(chart: Chart, glyphs: Glyphs) -> list[Part]:
    """The columns as one line."""
    return next(spark_rows(chart, 1, glyphs))


def marks_line(chart: Chart, glyphs: Glyphs) -> list[Part]:
    """Where triggers fired, and where memreact stayed away."""

    def cell(marks: int, *, paused: bool) -> Part:
        if marks:
            return glyphs.mark, "bad"
        return (glyphs.pause, "pause") if paused else (" ", "")

    both = zip(chart.marks, chart.paused, strict=True)
    return list(_joined(cell(marks, paused=paused) for marks, paused in both))


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    for style, same in groupby(parts, key=lambda part: part[1]):
        yield "".join(text for text, _ in same), style
