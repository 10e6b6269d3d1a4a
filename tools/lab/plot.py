"""A plot over time as SVG text: panels one below the other, with marks through all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["Mark", "Panel", "plot"]

Point = tuple[float, float]

_WIDTH, _PANEL, _LEFT, _RIGHT, _GAP, _TOP = 900, 220, 70, 20, 50, 50
_INNER = _WIDTH - _LEFT - _RIGHT
_TICKS = 5
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.axis{stroke:#bbb}.line{fill:none;stroke:#1565c0;"
    "stroke-width:2}.dot{fill:#c62828;fill-opacity:.6}.mark{stroke:#888;stroke-dasharray:4 3}"
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over time.

    Args:
        title: With the unit.
        points: Seconds and the quantity, by time.
        joined: Draw a line; else a dot for each point.
    """

    title: str
    points: Sequence[Point]
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment with a name, in seconds."""

    at_s: float
    name: str


def plot(title: str, panels: Sequence[Panel], marks: Sequence[Mark] = ()) -> str:
    """Draw; time begins at 0 and all quantities at 0.

    Raises:
        ValueError: There is no point at all.
    """
    until_s = max((at for panel in panels for at, _ in panel.points), default=0.0)
    if until_s <= 0:
        raise ValueError("there is nothing to plot")
    height = _TOP + len(panels) * (_PANEL + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="20">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, _TOP + number * (_PANEL + _GAP), until_s)
    for number, mark in enumerate(marks):
        parts += _mark(mark, until_s, height, number)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: int, until_s: float) -> list[str]:
    bottom = top + _PANEL
    most = max((value for _, value in panel.points), default=0.0) * 1.05 or 1.0
    parts = [f'<text x="{_LEFT}" y="{top - 6}">{escape(panel.title)}</text>']
    for tick in range(_TICKS + 1):
        y = bottom - _PANEL * tick / _TICKS
        x = _x(until_s * tick / _TICKS, until_s)
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.0f}" y2="{y:.0f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">'
            f"{most * tick / _TICKS:.3g}</text>"
            f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">'
            f"{until_s * tick / _TICKS:.0f} s</text>"
        )
    places = [(_x(at, until_s), bottom - _PANEL * value / most) for at, value in panel.points]
    if panel.joined:
        parts.append(
            f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
        )
    else:
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in places]
    return parts


def _mark(mark: Mark, until_s: float, height: int, number: int) -> list[str]:
    x = _x(mark.at_s, until_s)
    return [
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _GAP}"/>',
        f'<text x="{x + 4:.1f}" y="{_TOP + 14 + 14 * (number % 3)}">{escape(mark.name)}</text>',
    ]


def _x(at_s: float, until_s: float) -> float:
    return _LEFT + _INNER * at_s / until_s
