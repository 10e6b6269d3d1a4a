"""Writes what happens as lines of a recording, once, for all who want them.

Those are the flight recorder, the file of `--trace` and whoever follows. A line is encoded once;
none of them makes another one wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Raw

from memreact.actions import Age, Compact, Evict, Reclaim
from memreact.events import Event, Instant
from memreact.policy.state import State, Step
from memreact.settings.layers import Settings
from memreact.telemetry.checkpoint import encode_state
from memreact.telemetry.flight import Flight, packed
from memreact.telemetry.trace import Entry, Trace, encoded
from memreact_schemas.config import Log
from memreact_schemas.status import Status
from memreact_schemas.trace import (
    FORMAT,
    VERSION,
    Checkpoint,
    End,
    Failed,
    Gap,
    Header,
    Line,
    SettingsLine,
    Source,
    StatusLine,
)

__all__ = ["About", "Follower", "Recorder", "line_of"]

FOLLOWER_BYTES_MAX = 4 << 20
"""What waits for one who follows; a survey of 10,000 cgroups fits in."""

_US_PER_MINUTE = 60_000_000


class About(NamedTuple):
    """What the header of a recording tells.

    Args:
        version: Of memreact.
        kernel: Its release.
        boot_id: Of this boot; None where the kernel does not tell.
        wall_us: Reads the time of day, in microseconds since 1970.
    """

    version: str
    kernel: str
    boot_id: str | None
    wall_us: Callable[[], int]


def line_of(line: Line | Entry) -> bytes:
    """Write a line with its end."""
    return encoded(line) + b"\n"


class Recorder:
    """Takes in every step.

    Args:
        about: What headers tell.
        settings: In force.
        now: The moment.
        trace: The file that every line is appended to, if any is.
    """

    def __init__(
        self, about: About, settings: Settings, now: Instant, trace: Trace | None = None
    ) -> None:
        self._about = about
        self._settings = settings
        self._state = State()
        self._at = now
        self._trace = trace
        self._followers: tuple[Follower, ...] = ()
        self._sizes = _sizes(settings.config.log)
        self._flight = Flight(*self._sizes)
        if trace is not None:
            trace.add(self.header("trace", now) + self.checkpoint())
        self._begin_flight()

    @property
    def followers(self) -> int:
        """How many follow."""
        return len(self._followers)

    @property
    def flight(self) -> Flight:
        """What the flight recorder holds."""
        return self._flight

    def keep(self, log: Log) -> None:
        """Keep as much from now on as these settings say."""
        if _sizes(log) != self._sizes:
            self._sizes = _sizes(log)
            self._flight = Flight(*self._sizes)
            self._begin_flight()

    def observe(self, event: Event, made: Step, now: Instant, settings: Settings) -> None:
        """Take in a step, and what was in force for it."""
        if settings is not self._settings:
            self._settings = settings
            self._put(line_of(self._settings_line(now)), now)
        entry = Entry(now, event, made.actions, made.decisions, made.wake_at)
        self._put(line_of(entry), now)
        self._state, self._at = made.state, now
        if not _writes(made.state):
            self._begin_flight()

    def add_status(self, status: Status, now: Instant) -> None:
        """Let the flight recorder show how things stood; whoever follows asks by themselves."""
        self._flight.add(line_of(StatusLine(at=now, status=status)), now)

    def header(self, source: Source, now: Instant) -> bytes:
        """Write a header of this moment."""
        about = self._about
        return line_of(
            Header(
                at=now,
                format=FORMAT,
                version=VERSION,
                memreact=about.version,
                source=source,
                wall_us=about.wall_us(),
                boot_id=about.boot_id,
                kernel=about.kernel,
            )
        )

    def checkpoint(self) -> bytes:
        """Write from where the next step goes on."""
        settings = self._settings
        return line_of(
            Checkpoint(
                at=self._at,
                revision=settings.revision,
                settings=Raw(encoded(settings.config)),
                state=Raw(encode_state(self._state)),
            )
        )

    def packed(self, source: Source, now: Instant, failed: Failed | None = None) -> list[bytes]:
        """All that the flight recorder holds, as the members of a gzip file, with header and end.

        Args:
            source: Why it is written.
            now: The moment.
            failed: What ended the daemon.
        """
        last = b"" if failed is None else line_of(failed)
        because = "bug" if source == "crash" else "limit"
        last += line_of(End(at=now, because=because))
        return [packed(self.header(source, now)), *self._flight.blocks(), packed(last)]

    def follow(self, wake: Callable[[], None], now: Instant) -> Follower:
        """Give all that comes to one who follows, until they close."""
        follower = Follower(self, wake)
        follower.put(self.header("record", now))
        follower.put(self.checkpoint())
        self._followers = (*self._followers, follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Give it nothing more."""
        self._followers = tuple(each for each in self._followers if each is not follower)

    def gap(self, lines: int) -> bytes:
        """Write that lines are missing, and from where to go on."""
        return line_of(Gap(at=self._at, lines=lines)) + self.checkpoint()

    def close(self) -> None:
        """Close the trace, which has its end."""
        if self._trace is not None:
            self._trace.add(line_of(End(at=self._at, because="stopping")))
            self._trace.close()

    def _begin_flight(self) -> None:
        if self._flight.wants_checkpoint(self._at):
            self._flight.begin(self.checkpoint(), self._at)

    def _settings_line(self, now: Instant) -> SettingsLine:
        settings = self._settings
        raw = Raw(encoded(settings.config))
        return SettingsLine(at=now, revision=settings.revision, settings=raw)

    def _put(self, line: bytes, now: Instant) -> None:
        self._flight.add(line, now)
        if self._trace is not None:
            self._trace.add(line)
        for follower in self._followers:
            follower.put(line)


class Follower:
    """Lines that wait for one who follows.

    Where too many wait, they all go: what is given next says so, and begins with a checkpoint.

    Args:
        recorder: Where they come from.
        wake: Told when something waits and nothing did before; it must not wait itself.
    """

    def __init__(self, recorder: Recorder, wake: Callable[[], None]) -> None:
        self._recorder = recorder
        self._wake = wake
        self._lines: deque[bytes] = deque()
        self._held_bytes = 0
        self._lost = 0

    def put(self, lines: bytes) -> None:
        """Let whole lines wait."""
        if self._lost:
            self._lost += 1
            return
        was_empty = not self._lines
        self._lines.append(lines)
        self._held_bytes += len(lines)
        if self._held_bytes > FOLLOWER_BYTES_MAX and not was_empty:
            self._lost = len(self._lines)
            self._lines.clear()
            self._held_bytes = 0
        if was_empty:
            self._wake()

    def take(self, most_bytes: int) -> bytes:
        """Take whole lines that wait, oldest first: some, or one that is longer; b"" for none."""
        if self._lost:
            lost, self._lost = self._lost, 0
            return self._recorder.gap(lost)
        taken = bytearray()
        while self._lines and (not taken or len(taken) + len(self._lines[0]) <= most_bytes):
            taken += self._lines.popleft()
        self._held_bytes -= len(taken)
        return bytes(taken)

    def close(self) -> None:
        """Follow no longer; what waits is let go."""
        self._recorder.leave(self)
        self._lines.clear()


def _writes(state: State) -> bool:
    """Whether something is written that may have to be broken off.

    A checkpoint of thousands of cgroups holds the interpreter's lock for milliseconds.
    """
    work = None if state.turn is None else state.turn.doing
    return isinstance(work, Evict | Reclaim | Age | Compact)


def _sizes(log: Log) -> tuple[int, int]:
    if log.flight_kib is None or log.flight_minutes is None:  # a test holds DEFAULTS to all keys
        raise ValueError("a setting has no default")
    return log.flight_kib << 10, log.flight_minutes * _US_PER_MINUTE
