"""Jumps of time and of hardware: the first acts at once, those that follow once a second.

Every event of the kernel about a device is one, and anybody who may write to a uevent file makes
thousands: each would end the work under way and read the whole guest again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from memreact.events import ClockDisturbed

__all__ = ["APART_S", "Disturbances"]

APART_S = 1.0
# All are answered alike; only the first two tell that nobody can say how much time went by, and
# the first of them that a clone of this guest may run beside it.
_GRAVEST_FIRST = ("snapshot_restored", "suspend", "clock_step", "memory_changed", "device_changed")


class Disturbances:
    """Passes them on; of those that came meanwhile the gravest, for all of them.

    Args:
        loop: Its timer runs only while one waits.
        handle: Acts on one.
        apart_s: The least time between two, seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[ClockDisturbed], None],
        apart_s: float = APART_S,
    ) -> None:
        self._loop = loop
        self._handle = handle
        self._apart_s = apart_s
        self._next_at = 0.0
        self._waiting: ClockDisturbed | None = None
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, event: ClockDisturbed) -> None:
        """Act on it, now or within a second."""
        if self._timer is None and self._loop.time() >= self._next_at:
            self._pass_on(event)
            return
        self._waiting = min(filter(None, (self._waiting, event)), key=_rank)
        if self._timer is None:
            self._timer = self._loop.call_at(self._next_at, self._due)

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        waited, self._waiting, self._timer = self._waiting, None, None
        if waited is not None:
            self._pass_on(waited)

    def _pass_on(self, event: ClockDisturbed) -> None:
        self._handle(event)
        self._next_at = self._loop.time() + self._apart_s


def _rank(event: ClockDisturbed) -> int:
    cause = event.cause
    return _GRAVEST_FIRST.index(cause) if cause in _GRAVEST_FIRST else len(_GRAVEST_FIRST)
