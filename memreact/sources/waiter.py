"""The small thread that waits for the triggers: it stops first, and only then tells the loop.

A PSI fd is always readable, and its event is eaten by the first poll that sees it, so no event loop
can watch one (docs/decisions/0002). This thread sleeps in epoll without a timeout. It breaks off
what is written before it looks at what fired: another thread may take the interpreter's lock in
between. Where the kernel kicks by itself (docs/decisions/0023), that came first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kernelio.process import ask_for_exact_waits, ask_for_short_slices, name_this_thread
from kernelio.psi import Fired, TriggerSet
from memreact.gate import Gate

__all__ = ["Waiter"]

# A kick that lands before the worker is in the kernel is lost: repeat it until the write is over.
_KICK_AGAIN_MS = 1


class Waiter:
    """Waits for as long as the daemon lives.

    Args:
        triggers: What to wait for.
        gate: What to close when one fires.
        tell: Called on this thread with what fired, and how often this thread has stopped.
    """

    def __init__(
        self, triggers: TriggerSet, gate: Gate, tell: Callable[[Fired, int], None]
    ) -> None:
        self._triggers = triggers
        self._gate = gate
        self._tell = tell
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="memreact-waiter", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def keep_kicking(self) -> None:
        """The loop has stopped a write: see to it that it ends."""
        self._triggers.wake()

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._triggers.wake()
        self._thread.join()

    def _run(self) -> None:
        name_this_thread(self._thread.name)
        ask_for_short_slices()
        ask_for_exact_waits()  # for the interpreter's lock: docs/decisions/0027
        while not self._closing:
            fired = self._triggers.wait(
                _KICK_AGAIN_MS if self._gate.must_kick else None, self._gate.kick_if_writing
            )
            stops = self._gate.stop_from_waiter() if _any_stall(fired) else 0
            if not stops and self._gate.must_kick:
                self._gate.kick_if_writing()
            for each in fired:
                self._tell(each, stops)


def _any_stall(fired: list[Fired]) -> bool:
    return any(not each.gone for each in fired)
