"""What a recording says over time: bounded rows of numbers, however long it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.status import Status
from memreact_schemas.trace import Checkpoint, Decided, Header, Line, StatusLine, Stepped

__all__ = ["POINTS_MAX", "Row", "Series", "series_of"]

POINTS_MAX = 2_000
_US_PER_SEC = 1_000_000
_PERCENT = 100.0
_EVICTS = "end"

_Kind = TypeVar("_Kind", bound=Struct)


class Row:
    """Moments in seconds with a number each; of too many every other one leaves."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self._every = 1
        self._seen = 0

    def add(self, at_s: float, value: float) -> None:
        """Add one, if it is its turn."""
        self._seen += 1
        if self._seen % self._every:
            return
        self.points.append((at_s, value))
        if len(self.points) > POINTS_MAX:
            self.points = self.points[::2]
            self._every *= 2


@dataclass(slots=True)
class Series:
    """What a picture shows; moments are seconds since the first line.

    Args:
        title: What was recorded, and where.
        until_s: The last moment.
        held: Bytes that the host has not been told of, as the guest reckons.
        host_held: Bytes that the host said that it holds.
        stall: Percent of the time between two readings in which the guest stalled, without us.
        evicted: Bytes evicted since the first line.
        pauses: From when to when nothing was done for the guest's sake.
        decisions: Moments of each verdict with its reason, the most frequent first.
    """

    title: str = ""
    until_s: float = 0.0
    held: Row = field(default_factory=Row)
    host_held: Row = field(default_factory=Row)
    stall: Row = field(default_factory=Row)
    evicted: Row = field(default_factory=Row)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    decisions: list[tuple[str, Row]] = field(default_factory=list)


class _Guest(Struct):
    guest_us: int | None = None
    own_us: int | None = None


class _Sample(Struct):
    at: int
    guest: _Guest


class _Pressed(Struct):
    pressure: _Sample


class _Event(Struct):
    """What of an event is drawn, whatever its kind."""

    pressure: _Sample | None = None
    after: _Pressed | None = None
    inspection: _Pressed | None = None
    page_bytes: int | None = None


class _CheckpointGuest(Struct):
    page_bytes: int = 0


class _State(Struct):
    guest: _CheckpointGuest | None = None


def series_of(lines: Iterable[tuple[int, Line]], *, decisions_shown: int = 12) -> Series:
    """Gather what is drawn, in one pass.

    Raises:
        RecordingError: As whoever reads it says.
    """
    gathering = _Gathering()
    for _, line in lines:
        gathering.take(line)
    return gathering.done(decisions_shown)


class _Gathering:
    """Takes line after line."""

    def __init__(self) -> None:
        self._found = Series()
        self._began: int | None = None
        self._page_bytes = 0
        self._evicted_bytes = 0
        self._last: _Sample | None = None
        self._paused: float | None = None
        self._rows: dict[str, Row] = {}
        self._counts: Counter[str] = Counter()

    def take(self, line: Line) -> None:
        """Take one in."""
        if isinstance(line, Header):
            self._header(line)
            return
        at_s = self._seconds(line.at)
        self._found.until_s = max(self._found.until_s, at_s)
        match line:
            case Checkpoint():
                guest = _read(line.state, _State).guest
                self._page_bytes = guest.page_bytes if guest else self._page_bytes
            case StatusLine(status=status):
                self._status(at_s, status)
            case Stepped():
                self._event(_read(line.event, _Event))
                for decision in line.decisions:
                    self._decision(at_s, decision)

    def done(self, shown: int) -> Series:
        """End; a pause that still lasts ends with the recording."""
        found = self._found
        if self._paused is not None:
            found.pauses.append((self._paused, found.until_s))
        found.decisions = [(name, self._rows[name]) for name, _ in self._counts.most_common(shown)]
        return found

    def _header(self, header: Header) -> None:
        kernel = f", Linux {header.kernel}" if header.kernel else ""
        self._found.title = f"memreact {header.memreact}{kernel}, {header.source}"
        self._last = None

    def _seconds(self, at: int) -> float:
        if self._began is None:
            self._began = at
        return max(0.0, (at - self._began) / _US_PER_SEC)

    def _status(self, at_s: float, status: Status) -> None:
        ledger = status.ledger
        if ledger is None:
            return
        if ledger.total_bytes is not None and ledger.reported_bytes is not None:
            self._found.held.add(at_s, ledger.total_bytes - ledger.reported_bytes)
        if ledger.host_holds_bytes is not None:
            self._found.host_held.add(at_s, ledger.host_holds_bytes)

    def _event(self, event: _Event) -> None:
        self._page_bytes = event.page_bytes or self._page_bytes
        for pressed in (event.after, event.inspection):
            if pressed is not None:
                self._sample(pressed.pressure)
        if event.pressure is not None:
            self._sample(event.pressure)

    def _sample(self, sample: _Sample) -> None:
        last, guest = self._last, sample.guest
        if guest.guest_us is None:
            return
        if last is not None and last.guest.guest_us is not None and sample.at > last.at:
            stalled = guest.guest_us - last.guest.guest_us
            stalled -= (guest.own_us or 0) - (last.guest.own_us or 0)
            share = max(0, stalled) / (sample.at - last.at) * _PERCENT
            self._found.stall.add(self._seconds(sample.at), min(share, _PERCENT))
        self._last = sample

    def _decision(self, at_s: float, decision: Decided) -> None:
        name = f"{decision.verdict}: {decision.because.code}"
        self._counts[name] += 1
        self._rows.setdefault(name, Row()).add(at_s, 0.0)
        if decision.verdict == "pause" and self._paused is None:
            self._paused = at_s
        elif decision.verdict == "resume" and self._paused is not None:
            self._found.pauses.append((self._paused, at_s))
            self._paused = None
        pages = decision.because.saw.get("evicted_pages")
        if decision.verdict == _EVICTS and isinstance(pages, int):
            self._evicted_bytes += pages * self._page_bytes
            self._found.evicted.add(at_s, self._evicted_bytes)


def _read(raw: Raw, kind: type[_Kind]) -> _Kind:
    """Read what is known of something; of another shape it says nothing."""
    try:
        return msgspec.json.decode(bytes(raw), type=kind)
    except msgspec.MsgspecError:
        return kind()
