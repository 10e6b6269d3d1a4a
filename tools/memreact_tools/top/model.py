"""What is known of each guest, made from updates alone: no terminal, no clock, no socket.

Moments that end in `_at_us` are of the source's clock; what a guest says in its own is translated
when it comes, by the newest pair of the two that is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from memreact_schemas.status import (
    CgroupStatus,
    CgroupUse,
    DecisionRow,
    GuestReading,
    OwnCost,
    Status,
)
from memreact_tools.top.source import (
    Decided,
    Lost,
    Met,
    Read,
    Stalled,
    StatusSeen,
    Told,
    TreeSeen,
    Warned,
)

__all__ = ["Entry", "GuestModel", "Model", "OwnRate", "PauseSpan", "Point", "said_by_trigger"]

_POINTS_MAX = 3600
_LOG_MAX = 2000
_MARKS_MAX = 1000
_RATE_READINGS = 12
_US_PER_SEC = 1_000_000
_PPM = 1_000_000
_STALLED_AFTER_US = 3 * _US_PER_SEC
_TRIGGERED = {
    "stall_over_limit",
    "guest_stall_over_limit",
    "stall_below_limit",
    "pressure_unreadable",
    "limit_hit",
    "oom",
}

State = Literal["connecting", "live", "lost"]


class Point(NamedTuple):
    """Stall between two readings, in parts per million of the time between them."""

    at_us: int
    memory_ppm: int
    io_ppm: int

    @property
    def ppm(self) -> int:
        """Both together, as memreact counts it."""
        return self.memory_ppm + self.io_ppm


class Entry(NamedTuple):
    """A line of the decision log: a decision, or a remark of ours where `row` is None."""

    at_us: int
    row: DecisionRow | None
    text: str = ""


class PauseSpan(NamedTuple):
    """A time in which memreact stayed away; `end_us` is None while it lasts."""

    begin_us: int
    end_us: int | None


class OwnRate(NamedTuple):
    """What memreact costs now.

    Args:
        cost: The totals.
        cpu_ppm: Of one CPU; None before the second reading.
        wake_ups_per_ks: In a thousand seconds; the same.
    """

    cost: OwnCost
    cpu_ppm: int | None = None
    wake_ups_per_ks: int | None = None


def said_by_trigger(row: DecisionRow) -> bool:
    """Whether the kernel's triggers or limits were behind a decision."""
    return row.verdict == "hold" or row.because in _TRIGGERED


@dataclass(slots=True)
class GuestModel:
    """One guest."""

    name: str
    state: State = "connecting"
    why: str = ""
    changed_at_us: int = 0
    heard_at_us: int = 0
    status: Status | None = None
    reading: GuestReading | None = None
    dropped: int = 0
    restarts: int = 0
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=_POINTS_MAX))
    log: deque[Entry] = field(default_factory=lambda: deque(maxlen=_LOG_MAX))
    marks: deque[int] = field(default_factory=lambda: deque(maxlen=_MARKS_MAX))
    pauses: deque[PauseSpan] = field(default_factory=lambda: deque(maxlen=_MARKS_MAX))
    cgroups: dict[str, CgroupStatus] = field(default_factory=dict)
    uses: dict[str, CgroupUse] = field(default_factory=dict)
    stalls_ppm: dict[str, int] = field(default_factory=dict)
    last: dict[str, DecisionRow] = field(default_factory=dict)
    tree_version: int = 0
    log_version: int = 0
    recorded: bool = False
    _number: int = 0
    _total: Stalled | None = None
    _offset_us: int | None = None
    _use_at_us: dict[str, int] = field(default_factory=dict)
    _readings: deque[GuestReading] = field(default_factory=lambda: deque(maxlen=_RATE_READINGS))

    def take(self, told: Told) -> None:
        """Take in one update."""
        at_us, update = told.at_us, told.update
        match update:
            case Met():
                self._met(at_us)
            case Lost(why):
                self._lost(at_us, why)
                return
            case Warned(text):
                self._note(at_us, text)
            case StatusSeen(status):
                self._see(at_us, status)
            case TreeSeen(status):
                self._see(at_us, status)
                self._see_tree(status)
            case Decided(row, dropped):
                self._decided(at_us, row, dropped)
            case Read(reading):
                self._read(at_us, reading)
            case Stalled():
                self._stalled(at_us, update)
        self.heard_at_us = max(self.heard_at_us, at_us)

    def _met(self, at_us: int) -> None:
        if self.state == "lost" and self.status is not None:
            self._note(at_us, "connected again")
        self.state, self.why, self.changed_at_us = "live", "", at_us

    def _lost(self, at_us: int, why: str) -> None:
        if self.state == "live":
            self._note(at_us, f"connection lost: {why}")
            self.changed_at_us = at_us
        self.state, self.why = "lost", why

    def _note(self, at_us: int, text: str) -> None:
        self.log.append(Entry(at_us, None, text))
        self.log_version += 1

    def _see(self, at_us: int, status: Status) -> None:
        before = self.status
        if before is not None and before.started_at_us != status.started_at_us:
            self._begin_anew(at_us)
        if before is not None and self.cgroups and status.cgroups == ():
            # What is told with cgroups knows the very next eviction; the rest is the same.
            self.tree_version += before.turns != status.turns
        self.status = status
        self._offset_us = at_us - status.now_us
        self._settle_pauses(at_us, status)

    def _begin_anew(self, at_us: int) -> None:
        """Another daemon: what it counts begins at 0, and of the one before it nothing is left."""
        self.restarts += 1
        self._number, self._total = 0, None
        for held in (self.last, self.uses, self.stalls_ppm, self._use_at_us, self._readings):
            held.clear()
        self.reading = None
        self._note(at_us, "memreact was started again: its counters begin anew")

    def _settle_pauses(self, at_us: int, status: Status) -> None:
        """Open and close spans that no decision told of, since we came later or missed it."""
        since = [each.since_us for each in (status.pause, status.hold) if each is not None]
        if since and not self._is_paused():
            self.pauses.append(PauseSpan(self._here(min(since), at_us), None))
        elif not since:
            self._end_pause(at_us)

    def _is_paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1].end_us is None

    def _end_pause(self, at_us: int) -> None:
        if self._is_paused():
            begin_us = self.pauses[-1].begin_us
            self.pauses[-1] = PauseSpan(begin_us, max(at_us, begin_us))

    def _see_tree(self, status: Status) -> None:
        self.cgroups = {each.path: each for each in status.cgroups}
        for held in (self.uses, self.stalls_ppm, self._use_at_us, self.last):
            for path in held.keys() - self.cgroups.keys():
                del held[path]
        self.tree_version += 1

    def _decided(self, at_us: int, row: DecisionRow, dropped: int) -> None:
        self.dropped = max(self.dropped, dropped)
        if row.number <= self._number:
            return
        self._number = row.number
        here_us = self._here(row.at_us, at_us)
        self.log.append(Entry(here_us, row))
        self.log_version += 1
        if row.path:
            self.last[row.path] = row
        if said_by_trigger(row):
            self.marks.append(here_us)
        if row.verdict == "pause" and not self._is_paused():
            self.pauses.append(PauseSpan(here_us, None))
        elif row.verdict == "resume":
            self._end_pause(here_us)

    def _read(self, at_us: int, reading: GuestReading) -> None:
        before, self.reading = self.reading, reading
        self._offset_us = at_us - reading.at_us
        self._readings.append(reading)
        if before is not None and (point := _point(at_us, before, reading)) is not None:
            self.points.append(point)
        for use in reading.cgroups:
            self._use(use, reading.at_us)

    def _stalled(self, at_us: int, now: Stalled) -> None:
        before, self._total = self._total, now
        if before is not None and before.at_us < now.at_us:
            share = _ppm(now.total_us - before.total_us, now.at_us - before.at_us)
            self.points.append(Point(at_us, share, 0))

    def _use(self, use: CgroupUse, at_us: int) -> None:
        before, then_us = self.uses.get(use.path), self._use_at_us.get(use.path, at_us)
        if before is not None and use.stall_us is not None and before.stall_us is not None:
            self.stalls_ppm[use.path] = _ppm(use.stall_us - before.stall_us, at_us - then_us)
        self.uses[use.path] = use
        self._use_at_us[use.path] = at_us

    def _here(self, guest_us: int, at_us: int) -> int:
        """A moment of the guest's clock on ours; what it cannot know yet happens now."""
        return at_us if self._offset_us is None else min(guest_us + self._offset_us, at_us)

    def there(self, now_us: int) -> int:
        """The moment on the guest's clock."""
        return now_us if self._offset_us is None else now_us - self._offset_us

    def silent_us(self, now_us: int) -> int:
        """For how long nothing was heard, if that is too long; else 0."""
        silent = now_us - self.heard_at_us
        if self.recorded or self.state != "live" or silent <= _STALLED_AFTER_US:
            return 0
        return silent

    def own(self) -> OwnRate | None:
        """What memreact costs, over the last readings."""
        if self.reading is None or self.reading.own is None:
            return None
        first, last = self._readings[0], self.reading
        over_us = last.at_us - first.at_us
        if first.own is None or over_us <= 0:
            return OwnRate(self.reading.own)
        woken = max(self.reading.own.wake_ups - first.own.wake_ups, 0)
        cpu_us = self.reading.own.cpu_us - first.own.cpu_us
        return OwnRate(
            self.reading.own, _ppm(cpu_us, over_us), woken * 1000 * _US_PER_SEC // over_us
        )


def _point(at_us: int, before: GuestReading, reading: GuestReading) -> Point | None:
    over_us = reading.at_us - before.at_us
    if over_us <= 0:
        return None
    shares = [
        _ppm(new - old, over_us) if new is not None and old is not None else 0
        for new, old in (
            (reading.memory_stall_us, before.memory_stall_us),
            (reading.io_stall_us, before.io_stall_us),
        )
    ]
    return Point(at_us, *shares)


def _ppm(of_us: int, over_us: int) -> int:
    return max(of_us, 0) * _PPM // over_us if over_us > 0 else 0


class Model:
    """All guests.

    Args:
        names: Of the guests, in the order in which they are shown.
        recorded: They tell nothing by themselves: to be silent means nothing.
    """

    def __init__(self, names: Sequence[str], *, recorded: bool = False) -> None:
        self.guests = {name: GuestModel(name, recorded=recorded) for name in names}

    def take(self, updates: Iterable[Told]) -> None:
        """Take in what came."""
        for told in updates:
            self.guests[told.guest].take(told)
