"""Lines of exactly so many cells, in parts that each have the name of a style.

Whatever is put into a line is made safe here, so that nothing a guest says reaches a terminal as
more than text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from memreact_tools.top.cells import cells, fit, safe

__all__ = ["ASCII", "UNICODE", "Glyphs", "Line", "Part", "Row", "bar", "text_of", "title"]

Part: TypeAlias = tuple[str, str]
"""Text and the name of its style; an empty name is plain."""

Line: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that draw.

    Args:
        anon: Anonymous memory from the youngest class of age to the coldest.
        file: Page cache, the same.
        spark: Columns from nothing to full.
        full: A full cell of a bar, then its parts from small to large.
        parts: Of a cell, from one eighth on; empty where there are none.
        rest: What is not filled of a bar.
        opened: Before what is unfolded.
        closed: Before what is folded.
        rule: A horizontal line.
        flow: From one stage to the next.
        mark: A trigger fired here.
        pause: Memreact stayed away here.
        dot: Before a state.
        cut: Something was left out.
        limit: The height of a limit.
    """

    anon: str
    file: str
    spark: str
    full: str
    parts: str
    rest: str
    opened: str
    closed: str
    rule: str
    flow: str
    mark: str
    pause: str
    dot: str
    cut: str
    limit: str


UNICODE = Glyphs(
    anon="█▓▒░",
    file="▇▅▃▂",
    spark=" ▁▂▃▄▅▆▇█",
    full="█",
    parts="▏▎▍▌▋▊▉",
    rest="·",
    opened="▾",
    closed="▸",
    rule="─",
    flow="→",
    mark="▲",
    pause="━",
    dot="●",
    cut="…",
    limit="╌",
)
ASCII = Glyphs(
    anon="AAaa",
    file="FFff",
    spark=" .:-=+*#@",
    full="#",
    parts="",
    rest=".",
    opened="-",
    closed="+",
    rule="-",
    flow=">",
    mark="^",
    pause="=",
    dot="*",
    cut="~",
    limit="-",
)


class Row:
    """Puts a line together, from left to right.

    Args:
        width: Cells that it will have in the end.
        glyphs: What stands where something was cut.
    """

    __slots__ = ("_cut", "_left", "_parts")

    def __init__(self, width: int, glyphs: Glyphs) -> None:
        self._left = width
        self._cut = glyphs.cut
        self._parts: list[Part] = []

    @property
    def left(self) -> int:
        """Cells that are free yet."""
        return self._left

    def put(self, text: str, style: str = "") -> Row:
        """Add text, as much of it as there is room for."""
        return self.field(text, min(cells(safe(text)), self._left), style)

    def field(self, text: str, width: int, style: str = "", *, right: bool = False) -> Row:
        """Add text that takes exactly so many cells."""
        width = min(width, self._left)
        if width > 0:
            self._parts.append((fit(text, width, right=right, cut=self._cut), style))
            self._left -= width
        return self

    def parts(self, parts: Sequence[Part]) -> Row:
        """Add what was styled already."""
        for text, style in parts:
            self.put(text, style)
        return self

    def field_of(self, parts: Sequence[Part], width: int) -> Row:
        """Add what was styled already, and fill it up to so many cells."""
        left = self._left - min(width, self._left)
        self.parts(parts)
        return self.field("", self._left - left)

    def to_right(self, text: str, style: str = "") -> Row:
        """Add text at the right end, if it has room there after a blank."""
        size = cells(safe(text))
        if size + 1 <= self._left:
            self.field("", self._left - size)
            self.put(text, style)
        return self

    def done(self) -> Line:
        """Return the line, filled up with blanks."""
        self.field("", self._left)
        return tuple(self._parts)


def text_of(line: Line) -> str:
    """A line as text alone."""
    return "".join(text for text, _ in line)


def title(text: str, width: int, glyphs: Glyphs) -> Line:
    """A rule with a text in it."""
    row = Row(width, glyphs).put(glyphs.rule * 2 + " ", "rule").put(text, "title")
    return row.put(" ", "rule").put(glyphs.rule * max(row.left, 0), "rule").done()


def bar(amounts: Sequence[tuple[int, str, str]], of: int, width: int) -> list[Part]:
    """Share cells out in proportion; what is more than nothing may round to nothing.

    Args:
        amounts: Each with its character and style, in order.
        of: What the whole width stands for.
        width: In cells.
    """
    parts: list[Part] = []
    seen = filled = 0
    for amount, char, style in amounts:
        seen += amount
        until = round(width * max(min(seen, of), 0) / of) if of > 0 else 0
        if until > filled:
            parts.append((char * (until - filled), style))
            filled = until
    return parts
