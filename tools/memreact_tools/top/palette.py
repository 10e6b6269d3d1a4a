"""What the names of styles look like: in full colour, in a terminal's own 16, and in none."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from memreact_tools.top.lines import Line

__all__ = ["ANSI", "FULL", "PLAIN", "Palette", "palette_for"]


@dataclass(frozen=True, slots=True)
class Palette:
    """Styles by their names.

    Args:
        base: Of everything.
        styles: What differs from it.
        cursor: Laid over the line of the cursor.
        quiet_cursor: The same in a part of the screen that has not the keys.
        ansi: The terminal's own colours are meant, which it may show as it likes.
    """

    base: str
    styles: dict[str, str]
    cursor: str
    quiet_cursor: str
    ansi: bool = True
    _made: dict[tuple[str, str], Style] = field(default_factory=dict)

    def style(self, name: str, over: str = "") -> Style:
        """The whole style of a part."""
        made = self._made.get((name, over))
        if made is None:
            made = Style.parse(self.base) + Style.parse(self.styles.get(name, ""))
            made = self._made[name, over] = made + Style.parse(over)
        return made

    def strip(self, line: Line, width: int, over: str = "") -> Strip:
        """A line as the terminal is given it."""
        return Strip([Segment(text, self.style(name, over)) for text, name in line], width)


FULL = Palette(
    base="#c8d0da on #0f141b",
    cursor="on #22324a",
    quiet_cursor="on #18212d",
    ansi=False,
    styles={
        "brand": "bold #5eead4",
        "title": "bold #e6edf3",
        "head": "#8b97a5 on #18202b",
        "sorted": "bold #5eead4 on #18202b",
        "label": "#8b97a5",
        "value": "#e6edf3",
        "dim": "#6b7684",
        "rule": "#33404f",
        "rest": "#2b3642",
        "key": "bold #5eead4",
        "name": "#dfe6ee",
        "frozen": "italic #9db7d4",
        "good": "#7ee787",
        "did": "#7ee787",
        "busy": "bold #5eead4",
        "warn": "#f2cc60",
        "bad": "bold #ff7b72",
        "calm": "#4fb3a5",
        "pause": "#f2cc60",
        "why": "#a9b4c0",
        "keep": "#d2a8ff",
        "limit": "#a9b4c0",
        "cold": "#79c0ff",
        "swap": "#d2a8ff",
        "used": "#c98a4b",
        "free": "#7d8ea1",
        "reportable": "#56b6a8",
        "reported": "#5eead4",
        "returned": "#7ee787",
        "anon0": "#ffb454",
        "anon1": "#e0913a",
        "anon2": "#b06d2c",
        "anon3": "#7d5128",
        "file0": "#7cc4ff",
        "file1": "#4b9fe8",
        "file2": "#3a78b8",
        "file3": "#33587f",
        "foot": "#8b97a5 on #18202b",
        "footkey": "bold #5eead4 on #18202b",
        "prompt": "bold #0f141b on #5eead4",
    },
)
ANSI = Palette(
    base="",
    cursor="reverse",
    quiet_cursor="underline",
    styles={
        "brand": "bold cyan",
        "title": "bold",
        "head": "bold underline",
        "sorted": "bold underline cyan",
        "label": "",
        "dim": "bright_black",
        "rule": "bright_black",
        "rest": "bright_black",
        "key": "bold cyan",
        "frozen": "cyan",
        "good": "green",
        "did": "green",
        "busy": "bold cyan",
        "warn": "yellow",
        "bad": "bold red",
        "calm": "green",
        "pause": "yellow",
        "keep": "magenta",
        "cold": "bright_blue",
        "swap": "magenta",
        "used": "yellow",
        "free": "bright_black",
        "reportable": "cyan",
        "reported": "cyan",
        "returned": "green",
        "anon0": "bright_yellow",
        "anon1": "yellow",
        "anon2": "yellow",
        "anon3": "yellow",
        "file0": "bright_blue",
        "file1": "bright_blue",
        "file2": "blue",
        "file3": "blue",
        "foot": "reverse",
        "footkey": "bold reverse",
        "prompt": "bold reverse",
    },
)
PLAIN = Palette(
    base="",
    cursor="reverse",
    quiet_cursor="underline",
    styles={
        "brand": "bold",
        "title": "bold",
        "head": "bold underline",
        "sorted": "bold reverse",
        "key": "bold",
        "busy": "bold",
        "bad": "bold",
        "foot": "reverse",
        "footkey": "bold reverse",
        "prompt": "bold reverse",
    },
)


def palette_for(color_system: str | None, *, no_color: bool) -> Palette:
    """Choose by what the terminal can: full colour needs 256 at least."""
    if no_color or color_system is None:
        return PLAIN
    return FULL if color_system in ("truecolor", "256") else ANSI
