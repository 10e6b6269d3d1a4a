"""Has the delays of the workloads' processes read before work, and after it was broken off.

The first reading is done when a turn begins, the second a moment after the stop: the kernel counts
a delay when it is over. Both are done on a thread that ends with them, and only where delays are
counted at all. Nobody waits for it, the stop least of all.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kernelio.delayacct import read_delay_accounting
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from memreact.actions import Decision
from memreact.events import HarmSeen, Instant
from memreact.policy.plan import is_within
from memreact.policy.state import Memcg, State, Step

if TYPE_CHECKING:
    from memreact.sources.harm import Ask, Census, Open

__all__ = ["HarmWatch"]

SETTLE_S = 1.0
# A younger reading will do: turns for memcgs that were emptied come every few seconds.
_HOLDS_US = 60_000_000
_MEMCGS_MAX = 256
_PATIENCE_S = 0.5
# Who ends or pauses work so hurt somebody; an operator's pause has another reason.
_HURT = frozenset(
    {"guest_stall_over_limit", "limit_hit", "not_quiet_yet", "oom", "stall_over_limit"}
)


def _open() -> tuple[Ask, Callable[[], None]]:
    from memreact.sources.harm import open_taskstats  # noqa: PLC0415  # only where it is counted

    return open_taskstats()


class HarmWatch:
    """Compares what processes waited before work and after it; lives on the loop.

    Args:
        loop: The running one.
        layout: Where the kernel shows its files.
        own_path: memreact's own memcg, which is nobody's workload.
        tell: Takes in what was found.
        open_: What asks the kernel about a process, and what closes it.
        settle_s: How long after the stop it is read.
    """

    def __init__(  # noqa: PLR0913  # a test brings another kernel, and no patience
        self,
        loop: asyncio.AbstractEventLoop,
        layout: Layout,
        own_path: str,
        tell: Callable[[HarmSeen], object],
        *,
        open_: Open = _open,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._loop = loop
        self._layout = layout
        self._own_path = own_path
        self._tell = tell
        self._open = open_
        self._settle_s = settle_s
        self._before: Census | None = None
        self._turn: Instant | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def reading(self) -> bool:
        """Whether a reading is under way, or about to be."""
        return self._thread is not None or self.waiting

    @property
    def waiting(self) -> bool:
        """Whether somebody was hurt and it is not read yet."""
        return self._waiting is not None

    def observe(self, made: Step, now: Instant) -> None:
        """Take in a step: a turn that begins, or a stop."""
        turn = made.state.turn
        if turn is not None and turn.started_at != self._turn:
            self._turn = turn.started_at
            if self._before is None or now - self._before.at > _HOLDS_US:
                self._read(made.state, tells=False)
        if self._waiting is None and any(map(_hurts, made.decisions)) and not self._closed:
            state = made.state
            self._waiting = self._loop.call_later(self._settle_s, self._look, state)

    def close(self) -> None:
        """Read no more; a reading under way is waited for a moment."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)

    def _look(self, state: State) -> None:
        self._waiting = None
        if self._thread is not None:  # of the turn's begin: it is over soon
            self._waiting = self._loop.call_later(self._settle_s, self._look, state)
        elif self._before is not None:
            self._read(state, tells=True)

    def _read(self, state: State, *, tells: bool) -> None:
        """Begin a reading, if none is under way and there is something to read."""
        if self._thread is None and not self._closed and self._counts():
            paths = _workloads(state, self._own_path)
            self._thread = threading.Thread(
                target=self._on_thread, args=(paths, tells), name="harm", daemon=True
            )
            self._thread.start()

    def _counts(self) -> bool:
        try:
            return read_delay_accounting(self._layout)
        except KernelioError:
            return False

    def _on_thread(self, paths: list[str], tells: bool) -> None:  # noqa: FBT001  # of a thread
        from memreact.sources.harm import take_census  # noqa: PLC0415  # see above

        census = None
        with suppress(KernelioError):
            ask, close = self._open()
            try:
                census = take_census(self._layout, paths, ask)
            finally:
                close()
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._take_in, census, tells)

    def _take_in(self, census: Census | None, tells: bool) -> None:  # noqa: FBT001  # see above
        from memreact.sources.harm import harm_between  # noqa: PLC0415  # see above

        before, self._before, self._thread = self._before, census, None
        if not tells or before is None or census is None or self._closed:
            return
        harm = harm_between(before, census)
        if harm is not None:
            self._tell(harm)


def _hurts(decision: Decision) -> bool:
    return decision.verdict in {"pause", "end"} and decision.because.code in _HURT


def _workloads(state: State, own_path: str) -> list[str]:
    """Those with processes, the largest first; the root has none but the kernel's own."""
    living = [
        memcg
        for path, memcg in state.memcgs.items()
        if memcg.populated and path != "/" and not is_within(path, own_path)
    ]
    living.sort(key=_pages, reverse=True)
    return [memcg.path for memcg in living[:_MEMCGS_MAX]]


def _pages(memcg: Memcg) -> int:
    nodes = memcg.view.nodes if memcg.view else ()
    return sum(generation.pages for node in nodes for generation in node.generations)
