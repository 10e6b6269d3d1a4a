"""A recording as a source: it plays at a speed, stands still, steps, and goes to any time.

One line is in memory at a time, however large the recording is. To go back it is read again from
its begin; `take` reads for a moment only, and goes on the next time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.recording import RecordingError, opened, read_lines
from memreact_schemas.status import DecisionRow
from memreact_schemas.trace import (
    Decided as DecidedLine,
)
from memreact_schemas.trace import (
    End,
    Failed,
    Gap,
    Header,
    Line,
    StatusLine,
    Stepped,
)
from memreact_tools.top.source import (
    Decided,
    Met,
    Stalled,
    StatusSeen,
    Told,
    TreeSeen,
    Update,
    Warned,
)

__all__ = ["Recording"]

_US_PER_SEC = 1_000_000
_MOMENT_S = 0.05
_TAIL_BYTES = 1 << 20
_SPEED_LEAST, _SPEED_MOST = 1 / 16, 4096.0


class _Totals(Struct):
    guest_us: int | None = None


class _Sample(Struct):
    at: int
    guest: _Totals


class _Event(Struct):
    """What may be known of an event without the daemon's own types."""

    pressure: _Sample | None = None


class _Moment(Struct):
    at: int


class Recording:
    """What was recorded in one file.

    Args:
        path: Of the file, plain or compressed by gzip.
        clock: Reads seconds that only grow.

    Raises:
        OSError: It cannot be opened.
        RecordingError: It is no recording, or of a newer version.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._files = ExitStack()
        self.generation = 0
        self.playing = True
        self.speed = 1.0
        self._anchor_us = 0
        self._anchored_at = clock()
        self._stepping = False
        self._ended_us = 0
        self._packed = False
        self._held: Line | None = None
        self._before_header_us = _before_header_us(path)
        self._open()
        self._ended_us = max(self._last_moment(), 0)

    @property
    def guests(self) -> tuple[str, ...]:
        """The one that was recorded, by the name of its file."""
        return (os.path.basename(self._path),)

    def start(self) -> None:
        """Begin at the begin."""
        self._anchor(0)

    def now_us(self) -> int:
        """Where it stands, in microseconds since its begin."""
        if not self.playing:
            return self._anchor_us
        gone = (self._clock() - self._anchored_at) * self.speed * _US_PER_SEC
        end = self._ended_us if self._over or self._length_known else 1 << 62
        return min(self._anchor_us + int(gone), max(end, self._anchor_us))

    def take(self) -> list[Told]:
        """Take what was recorded up to where it stands, for a moment at the most."""
        told: list[Told] = []
        until = self._clock() + _MOMENT_S
        while self.behind:
            line, at_us = self._held, self._held_us
            assert line is not None  # noqa: S101  # it is behind
            told += [Told(self.guests[0], at_us, each) for each in self._updates(line)]
            self._read_on()
            if self._stepping and isinstance(line, Stepped) and line.decisions:
                self._stepping, self.playing = False, False
                self._anchor(at_us)
            if self._clock() > until:
                break
        return told

    @property
    def behind(self) -> bool:
        """Something was recorded up to where it stands, and not taken yet."""
        return self._held is not None and (self._stepping or self._held_us <= self.now_us())

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)

    def look_at(self, guest: str, paths: Sequence[str]) -> None:
        """What was recorded is all there is."""

    def close(self) -> None:
        """Close the file."""
        self._files.close()
        self._held = None

    def play(self, *, on: bool) -> None:
        """Play, or stand still."""
        self._anchor(self.now_us())
        self.playing = on

    def step(self) -> None:
        """Go to the next decision, and stand still."""
        self._stepping = self._held is not None

    def faster(self, factor: float) -> None:
        """Multiply the speed."""
        self._anchor(self.now_us())
        self.speed = min(max(self.speed * factor, _SPEED_LEAST), _SPEED_MOST)

    def jump(self, seconds: float) -> None:
        """Go to so many seconds after the begin; back means from the begin on."""
        to_us = max(int(seconds * _US_PER_SEC), 0)
        if self._length_known:
            to_us = min(to_us, self._ended_us)
        if to_us < self.now_us():
            self._open()
            self.generation += 1
        self._stepping = False
        self._anchor(to_us)

    def position(self) -> tuple[float, float]:
        """Seconds since the begin, of how many as far as is known."""
        now_us = self.now_us()
        return now_us / _US_PER_SEC, max(self._ended_us, now_us) / _US_PER_SEC

    def _anchor(self, at_us: int) -> None:
        self._anchor_us, self._anchored_at = at_us, self._clock()

    def _open(self) -> None:
        """Read from the begin on."""
        self._files.close()
        file = self._files.enter_context(opened(self._path))
        self._lines: Iterator[tuple[int, Line]] = read_lines(file)
        self._first: Header | None = None
        self._header: Header | None = None
        self._held = None
        self._held_us = 0
        self._over = False
        self._number = 0
        self._trouble = ""
        self._read_on(first=True)

    def _read_on(self, *, first: bool = False) -> None:
        """Hold the next line; what is wrong with it is told, and is its end."""
        try:
            _, line = next(self._lines)
        except StopIteration:
            self._held, self._over = None, True
            return
        except RecordingError as error:
            if first:
                raise
            self._trouble = str(error)
            self._held, self._over = End(at=0, because="trouble"), True
            return
        self._held = line
        if isinstance(line, Header):
            self._header = line
        if self._first is None:
            self._first = self._header
            return
        self._held_us = max(self._held_us, self._since_begin(line.at))
        self._ended_us = max(self._ended_us, self._held_us)

    def _since_begin(self, at_us: int) -> int:
        """A moment of the guest's clock, which began anew with each boot, on ours."""
        if self._header is None or self._first is None:
            return 0
        since_header_us = self._header.wall_us - self._first.wall_us + at_us - self._header.at
        return self._before_header_us + since_header_us

    @property
    def _length_known(self) -> bool:
        return not self._packed

    def _last_moment(self) -> int:
        """The moment of the last whole line of a plain file; of a packed one the first line's."""
        with open(self._path, "rb") as file:
            self._packed = file.read(2) == b"\x1f\x8b"
            if self._packed:
                return 0
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0))
            lines = file.read().split(b"\n")
        for raw in reversed(lines[1:-1]):
            try:
                return self._since_begin(msgspec.json.decode(raw, type=_Moment).at)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
        return 0

    def _updates(self, line: Line) -> Iterator[Update]:
        match line:
            case Header():
                yield Met()
            case StatusLine(status=status):
                yield TreeSeen(status) if status.cgroups else StatusSeen(status)
            case Stepped():
                yield from _stalls(line.event)
                for each in line.decisions:
                    self._number += 1
                    yield Decided(_row(self._number, line.at, each))
            case Gap(lines=lines):
                yield Warned(f"{lines} lines are missing here")
            case Failed(error=error):
                yield Warned(f"memreact ended by a bug: {error}")
            case End(because=because):
                why = self._trouble or because.replace("_", " ")
                yield Warned(f"the recording ends: {why}")
            case _:
                return


def _before_header_us(path: str) -> int:
    """How much sooner than its header a recording begins: the flight recorder's is made at its end.

    Raises:
        RecordingError: It is no recording.
        OSError: It cannot be opened.
    """
    with opened(path) as file:
        lines = read_lines(file)
        _, header = next(lines)
        try:
            _, second = next(lines, (0, header))
        except RecordingError:  # told when it is played up to there
            return 0
    return 0 if isinstance(second, Header) else max(header.at - second.at, 0)


def _stalls(event: Raw) -> Iterator[Update]:
    try:
        sample = msgspec.json.decode(event, type=_Event).pressure
    except msgspec.MsgspecError:  # another kind of event means another thing by the word
        return
    if sample is not None and sample.guest.guest_us is not None:
        yield Stalled(sample.at, sample.guest.guest_us)


def _row(number: int, at_us: int, made: DecidedLine) -> DecisionRow:
    saw = made.because.saw
    return DecisionRow(
        number=number,
        at_us=at_us,
        verdict=made.verdict,
        because=made.because.code,
        path=made.path,
        node=made.node,
        figures={name: value for name, value in saw.items() if isinstance(value, int)},
        words={name: value for name, value in saw.items() if isinstance(value, str)},
    )
