"""The verb `report`: a recording as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from memreact_schemas.recording import CutOff, RecordingError, opened, read_lines
from memreact_schemas.trace import Line
from memreact_tools.ctl.keys import Misused
from memreact_tools.plain import plain
from memreact_tools.report.series import series_of

__all__ = ["report"]

_DONE, _COULD_NOT = 0, 1
_WANTED = "a report needs matplotlib: apt install python3-matplotlib, or pip install matplotlib"


def report(asked: argparse.Namespace) -> int:
    """Draw a recording; 0 done, 1 could not, or it was cut off and is drawn up to there.

    Raises:
        Misused: The picture is to be of a format that there is not.
        OSError: A file cannot be opened or written.
    """
    try:
        from memreact_tools.report.draw import draw  # noqa: PLC0415  # is large, and may be missing
    except ModuleNotFoundError as error:
        if error.name not in {"matplotlib", "numpy"}:
            raise
        return _trouble(_WANTED)
    lines = _Whole()
    try:
        with opened(asked.file) as file:
            series = series_of(lines.of(read_lines(file)))
    except RecordingError as error:
        return _trouble(f"{asked.file}: {error}")
    try:
        draw(series, asked.output)
    except ValueError as error:
        raise Misused(f"{asked.output}: {error}") from error
    print(f"{asked.output}: {series.until_s:.0f} s, {len(series.pauses)} pauses")
    return _DONE if lines.cut is None else _trouble(f"{asked.file}: {lines.cut}")


class _Whole:
    """Passes lines on up to where they are cut off."""

    def __init__(self) -> None:
        self.cut: CutOff | None = None

    def of(self, numbered: Iterator[tuple[int, Line]]) -> Iterator[tuple[int, Line]]:
        """Yield them."""
        try:
            yield from numbered
        except CutOff as cut:
            self.cut = cut


def _trouble(text: str) -> int:
    print(f"memreact-ctl: {plain(text)}", file=sys.stderr)
    return _COULD_NOT
