"""memreact-top as it is, which counts what it shows, and what that costs it.

    python -m lab.counted_top ADDRESS --delay 0.1 --seconds 60 --into FILE

It wants a terminal. Counting begins once the guest was seen in full, and ends it.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from pathlib import Path

import msgspec

from memreact_tools.address import parse_address
from memreact_tools.top.app import Top
from memreact_tools.top.board import Board
from memreact_tools.top.lines import UNICODE
from memreact_tools.top.live import Intervals, Live
from memreact_tools.top.source import Decided, Read, Told, TreeSeen

__all__ = ["Counts"]

PUMPS_A_SECOND = 10
"""How often memreact-top takes in what came; with news it shows another frame."""


class Counts(msgspec.Struct):
    """What it came to.

    Args:
        seconds: Counted for.
        frames_due: A frame for each time that news could have been taken in.
        frames: Those that were made, with news or without.
        shown: Those that were shown.
        readings: Of the kernel's files, that came.
        trees: Readings of all cgroups, that came.
        decisions: That were told.
        left_out: Decisions that the guest did not tell, as nobody read in time.
        dropped: Decisions that came, and were not taken in time.
        cpu_us: Processor time.
        resident_bytes: Its memory at the end.
    """

    seconds: float
    frames_due: int
    frames: int
    shown: int
    readings: int
    trees: int
    decisions: int
    left_out: int
    dropped: int
    cpu_us: int
    resident_bytes: int


class _CountedLive(Live):
    """Counts what it gives."""

    def __init__(self, address: str, delay_s: float) -> None:
        every = Intervals(read=delay_s, tree=max(2 * delay_s, 1.0), patience=60.0)
        super().__init__([parse_address(address)], every)
        self.came: Counter[type] = Counter()
        self.left_out = 0

    def take(self) -> list[Told]:
        taken = super().take()
        self.came.update(type(each.update) for each in taken)
        for each in taken:
            if isinstance(each.update, Decided):
                self.left_out = each.update.dropped
        return taken


class _CountedTop(Top):
    """Counts what it shows, for so many seconds from when there is something to see."""

    def __init__(self, board: Board, source: _CountedLive, seconds: float) -> None:
        super().__init__(board)
        self._source = source
        self._seconds = seconds
        self._pumps = self._shown = 0
        self._first: _Moment | None = None
        self.counts: Counts | None = None

    def paint(self) -> None:
        self._shown += 1
        super().paint()

    def _pump(self) -> None:
        super()._pump()
        self._pumps += 1
        now = self._moment()
        if self._first is None:
            if self.board.guest.state == "live" and self.board.guest.tree_version:
                self._first = now
        elif now.at_s >= self._first.at_s + self._seconds:
            self.counts = now.since(self._first)
            self.exit()

    def _moment(self) -> _Moment:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return _Moment(
            time.monotonic(),
            self._pumps,
            self._shown,
            self._source.came.copy(),
            self._source.left_out,
            self._source.dropped,
            int((used.ru_utime + used.ru_stime) * 1e6),
        )


class _Moment(msgspec.Struct, frozen=True):
    """What was counted up to then."""

    at_s: float
    pumps: int
    shown: int
    came: Counter[type]
    left_out: int
    dropped: int
    cpu_us: int

    def since(self, first: _Moment) -> Counts:
        seconds = self.at_s - first.at_s
        came = self.came - first.came
        return Counts(
            seconds=seconds,
            frames_due=int(seconds * PUMPS_A_SECOND),
            frames=self.pumps - first.pumps,
            shown=self.shown - first.shown,
            readings=came[Read],
            trees=came[TreeSeen],
            decisions=came[Decided],
            left_out=self.left_out - first.left_out,
            dropped=self.dropped - first.dropped,
            cpu_us=self.cpu_us - first.cpu_us,
            resident_bytes=_resident_bytes(),
        )


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    """Show, count, and leave the counts in a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--delay", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--into", type=Path, required=True)
    asked = parser.parse_args()
    source = _CountedLive(asked.address, asked.delay)
    top = _CountedTop(Board(source, UNICODE), source, asked.seconds)
    source.start()
    try:
        top.run()
    finally:
        source.close()
    if top.counts is not None:
        asked.into.write_bytes(msgspec.json.encode(top.counts))


if __name__ == "__main__":
    main()
