"""Rows of answers that are recordings: of what comes, or of what the flight recorder holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Raw

from memreact.control.varlink import Last
from memreact.events import Instant
from memreact.telemetry.flight import unpacked
from memreact.telemetry.recorder import Follower, Recorder, line_of
from memreact_schemas.control import RecordItem
from memreact_schemas.status import CgroupStatus, Status
from memreact_schemas.trace import End, StatusLine

__all__ = ["FlightRow", "Look", "RecordRow"]

_ITEM_BYTES = 64 << 10


class Look(Protocol):
    """What the lines of status are made of: `service.Guest`."""

    @property
    def clock(self) -> Callable[[], Instant]:
        """Reads the moment."""

    @property
    def status(self) -> Callable[[tuple[CgroupStatus, ...]], Status]:
        """Tells what goes on, with these cgroups in it."""

    @property
    def whole_status(self) -> Callable[[], Awaitable[Status]]:
        """Tells the same with all cgroups in it, some at a time."""


class RecordRow:
    """All that happens from now on, until nobody listens any more.

    Args:
        recorder: Where they come from.
        guest: Looked at for the lines of status.
        status_secs: Seconds between two of them; 0 for none.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        recorder: Recorder,
        guest: Look,
        status_secs: int,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._recorder = recorder
        self._guest = guest
        self._status_secs = status_secs
        self._sleep = sleep
        self._follower: Follower | None = None
        self._telling: asyncio.Task[None] | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Begin."""
        self._follower = self._recorder.follow(wake, self._guest.clock())
        if self._status_secs:
            self._telling = asyncio.get_running_loop().create_task(self._tell(self._follower))

    def take(self) -> RecordItem | None:
        """Give the lines that wait, so many at a time."""
        lines = b"" if self._follower is None else self._follower.take(_ITEM_BYTES)
        return _item(lines) if lines else None

    def close(self) -> None:
        """End."""
        if self._telling is not None:
            self._telling.cancel()
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    async def _tell(self, follower: Follower) -> None:
        """Tell how things stand; of cgroups only when a turn has looked at them since."""
        turns = None
        while True:
            guest, status = self._guest, self._guest.status(())
            if status.turns != turns:
                turns, status = status.turns, await self._guest.whole_status()
            follower.put(line_of(StatusLine(at=guest.clock(), status=status)))
            await self._sleep(self._status_secs)


class FlightRow:
    """What the flight recorder holds, and then the end.

    Args:
        recorder: Whose.
        now: The moment.
    """

    def __init__(self, recorder: Recorder, now: Instant) -> None:
        self._header = recorder.header("flight", now)
        self._blocks = recorder.flight.blocks()
        self._end = line_of(End(at=now, because="asked"))

    def start(self, wake: Callable[[], None]) -> None:
        """Begin."""
        wake()

    def take(self) -> RecordItem | Last:
        """Give a block of it."""
        header, self._header = self._header, b""
        if header:
            return _item(header)
        block = next(self._blocks, None)
        return Last(_item(self._end)) if block is None else _item(unpacked(block))

    def close(self) -> None:
        """Let go of it."""
        self._blocks = iter(())


def _item(lines: bytes) -> RecordItem:
    return RecordItem(lines=tuple(Raw(line) for line in lines.splitlines()))
