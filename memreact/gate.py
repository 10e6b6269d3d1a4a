"""Whether a write may begin, and how the one under way is broken off, or the child that writes.

Two threads stop: the one that waits for the triggers, and the loop. Each owns one counter, so no
lock is needed; a write begins only while both stand where they stood when the loop decided on it.
That way no stop is ever lost between a decision and its write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kernelio.interruptible import kick

__all__ = ["Gate", "HeldBack"]

Kick = Callable[[int], None]


class HeldBack(Exception):  # noqa: N818  # not an error: we were told to stay away
    """A stop came before the write began."""


class Gate:
    """The stop that both threads share.

    Args:
        kick: Breaks off the system call of a thread; a test may count instead.
    """

    __slots__ = (
        "_break_off",
        "_kick",
        "_loop_stops",
        "_token",
        "_waiter_stops",
        "_worker",
        "_writing",
    )

    def __init__(self, kick: Kick = kick) -> None:
        self._kick = kick
        self._waiter_stops = 0
        self._loop_stops = 0
        self._worker = 0
        self._writing = False
        self._token = 0
        self._break_off: Callable[[], None] = self._kick_worker

    def serve_this_thread(self) -> None:
        """Say that the calling thread is the one that writes, for as long as the daemon lives."""
        self._worker = threading.get_ident()

    def stop_from_waiter(self) -> int:
        """Stop, for the waiting thread alone; returns how often it did."""
        self._waiter_stops += 1
        self.kick_if_writing()
        return self._waiter_stops

    def stop_from_loop(self) -> None:
        """Stop, for the loop's thread alone."""
        self._loop_stops += 1
        self.kick_if_writing()

    def token(self, waiter_stops_handled: int) -> int:
        """What a write that is decided now must find when it begins."""
        return self._loop_stops + waiter_stops_handled

    def open_for(self, token: int) -> bool:
        """Whether nothing was stopped since that decision."""
        return token == self._waiter_stops + self._loop_stops

    @contextmanager
    def writing(self, token: int, break_off: Callable[[], None] | None = None) -> Iterator[None]:
        """Around a write that a kick can break off.

        Args:
            token: That of its decision.
            break_off: What ends it where a kick does not, as for a child that writes; called by
                whoever stops, on either thread, and again until it is over.

        Raises:
            HeldBack: A stop came first.
        """
        self._token = token
        self._break_off = break_off or self._kick_worker
        self._writing = True
        try:
            # Only now: a stop that saw no write under way has not kicked, but has counted.
            if not self.open_for(token):
                raise HeldBack
            yield
        finally:
            self._writing = False

    @property
    def must_kick(self) -> bool:
        """Whether a write is under way that should have ended; a kick may come too early."""
        return self._writing and not self.open_for(self._token)

    def kick_if_writing(self) -> None:
        """Break off the write that is under way, if one is."""
        if self._writing:
            self._break_off()

    def _kick_worker(self) -> None:
        self._kick(self._worker)
