"""Draws what a recording says over time, with matplotlib; the same recording is the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from memreact_tools.plain import plain
from memreact_tools.report.series import Row, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_MIB = 1 << 20
_MINUTE_S = 60.0
_PAUSE = "#d62728"
_HEADROOM = 1.1


def draw(series: Series, path: str) -> None:
    """Write a picture: held memory, pressure, evictions and decisions, pauses through all of them.

    Args:
        series: What is drawn.
        path: Of the file; its ending says the format, of which .svg is the same each time.

    Raises:
        OSError: It cannot be written.
        ValueError: There is no such format.
    """
    with mpl.rc_context({"svg.hashsalt": "memreact", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 11), layout="constrained")
        held, stall, evicted, decisions = figure.subplots(
            4, 1, sharex=True, height_ratios=[2, 2, 2, 3]
        )
        figure.suptitle(plain(series.title))
        _held(held, series)
        _line(stall, series.stall, "stalled, % of the time", 1.0)
        _line(evicted, _throughout(series.evicted, series.until_s), "evicted, MiB", _MIB)
        _decisions(decisions, series)
        for axes in (held, stall, evicted, decisions):
            for begin, end in series.pauses:
                axes.axvspan(begin / _MINUTE_S, end / _MINUTE_S, color=_PAUSE, alpha=0.2, lw=0)
        decisions.set_xlabel("minutes; what is red was a pause")
        metadata = {"Date": None} if path.endswith(".svg") else None
        figure.savefig(path, metadata=metadata)


def _held(axes: Axes, series: Series) -> None:
    _line(axes, series.held, "held, MiB", _MIB, label="not reported, as the guest reckons")
    if series.host_held.points:
        _line(axes, series.host_held, "held, MiB", _MIB, label="as the host said")
    if series.held.points or series.host_held.points:
        axes.legend(loc="lower right")


def _throughout(row: Row, until_s: float) -> Row:
    """A sum from its beginning to the end of the recording."""
    whole = Row()
    if row.points:
        whole.points = [(0.0, 0.0), *row.points, (until_s, row.points[-1][1])]
    return whole


def _line(axes: Axes, row: Row, name: str, unit: float, label: str = "") -> None:
    axes.set_ylabel(name)
    axes.grid(alpha=0.3)
    if not row.points:
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", alpha=0.5)
        return
    times = [at / _MINUTE_S for at, _ in row.points]
    axes.plot(
        times,
        [value / unit for _, value in row.points],
        drawstyle="steps-post",
        lw=1.2,
        marker=".",
        label=label,
    )
    # Of all lines that are there by now: a limit that was set once is not moved by the next one.
    axes.set_ylim(0, (axes.dataLim.y1 or 1) * _HEADROOM)


def _decisions(axes: Axes, series: Series) -> None:
    names = [plain(name) for name, _ in series.decisions]
    for height, (_, row) in enumerate(series.decisions):
        times = [at / _MINUTE_S for at, _ in row.points]
        axes.plot(times, [height] * len(times), ls="", marker="|", markersize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
