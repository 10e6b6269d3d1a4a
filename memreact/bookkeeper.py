"""Keeps the ledger: takes in what happens, and has the memory read when a run has ended.

A reading looks at one flag of each free block, 235 ms of it in a guest of 512 GiB, so it is done on
a thread that ends with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from kernelio.errors import KernelioError
from memreact.account import Account
from memreact.events import Event, Instant
from memreact.policy.state import State
from memreact.rules import Rules
from memreact.telemetry.ledger import (
    Ledger,
    Run,
    Verdict,
    accounted,
    failed,
    ledger_status,
    observed,
    reading_due,
    told_by_host,
    verdict,
)
from memreact_schemas.status import LedgerStatus

__all__ = ["Bookkeeper"]

_US_PER_SEC = 1_000_000
_PATIENCE_S = 0.5


class Bookkeeper:
    """The ledger of one daemon, on its loop.

    Args:
        loop: The running one.
        read: Reads where the memory is, and what is cold of it; called on a thread.
        clock: Reads the moment.
        changed: Told when a reading was taken in.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[], tuple[Account, int]],
        clock: Callable[[], Instant],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._read = read
        self._clock = clock
        self._changed = changed
        self._ledger = Ledger()
        self._reading: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._not_again: Run | None = None
        self._closed = False

    @property
    def ledger(self) -> Ledger:
        """As it is now."""
        return self._ledger

    def open(self) -> None:
        """Read how things stand before anything is done."""
        self._begin()

    def observe(self, event: Event, state: State, now: Instant) -> None:
        """Take in an event and the state after it."""
        self._ledger = observed(self._ledger, event, state, now)
        self._wait()

    def host_holds(self, held_bytes: int) -> None:
        """Take in what the host says that it holds of this guest."""
        self._ledger = told_by_host(self._ledger, held_bytes, self._clock())
        self._changed()

    async def take_stock(self) -> None:
        """Read where the memory is; those who ask meanwhile wait for the same reading."""
        await asyncio.shield(self._begin())

    def status(self, rules: Rules) -> LedgerStatus:
        """Tell all of it."""
        return ledger_status(self._ledger, self._clock(), swap=rules.base.swap)

    def verdict(self) -> Verdict:
        """Whether the evictions of the last hour led to something that the host was told."""
        return verdict(self._ledger, self._clock())

    def close(self) -> None:
        """Read no more; a reading under way is waited for a moment."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()

    def _wait(self) -> None:
        """Have the memory read for the run that ended, once the kernel has had its time."""
        if self._waiting is not None or self._reading is not None or self._closed:
            return
        due = reading_due(self._ledger)
        # What cannot be read for a run is left until the next one.
        if due is not None and self._ledger.last_run is not self._not_again:
            in_s = max(0, due - self._clock()) / _US_PER_SEC
            self._waiting = self._loop.call_later(in_s, self._due)

    def _due(self) -> None:
        self._waiting = None
        self._begin()

    def _begin(self) -> asyncio.Future[None]:
        if self._reading is None:
            self._reading = self._loop.create_future()
            self._thread = threading.Thread(target=self._on_thread, name="account", daemon=True)
            self._thread.start()
        return self._reading

    def _on_thread(self) -> None:
        read: tuple[Account, int] | str
        try:
            read = self._read()
        except KernelioError as error:
            read = str(error)
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._take_in, read)

    def _take_in(self, read: tuple[Account, int] | str) -> None:
        if self._closed or self._reading is None:
            return
        ledger = self._ledger
        self._ledger = failed(ledger, read) if isinstance(read, str) else accounted(ledger, *read)
        self._reading.set_result(None)
        self._reading = None
        self._not_again = self._ledger.last_run if isinstance(read, str) else None
        self._changed()
        self._wait()
