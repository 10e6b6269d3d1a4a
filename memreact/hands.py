"""Carries actions out: each to the one that can do it."""

from __future__ import annotations

from collections.abc import Callable

from kernelio.errors import Vanished
from kernelio.layout import Layout
from memreact.actions import (
    Action,
    Age,
    Arm,
    BreakOff,
    Compact,
    Disarm,
    Evict,
    Inspect,
    ReadCapabilities,
    ReadFragmentation,
    ReadPressure,
    Reclaim,
    Survey,
)
from memreact.actuator.worker import Worker
from memreact.events import CapabilitiesRead, Event, StallSeen
from memreact.gate import Gate
from memreact.sources.limits import LimitWatch
from memreact.sources.pressure import read_sample
from memreact.sources.triggers import Triggers
from memreact.sources.waiter import Waiter
from memreact.telemetry.journal import Journal

__all__ = ["Hands"]


class Hands:
    """What the policy moves.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own cgroup.
        gate: The stop.
        worker: Writes to the kernel.
        triggers: Arms and disarms.
        limits: Watches memory.events.
        waiter: Repeats kicks.
        journal: Told what could not be armed.
        read_capabilities: Finds out again what this guest can do.
    """

    def __init__(  # noqa: PLR0913  # it holds all hands, and nothing else does
        self,
        *,
        layout: Layout,
        own_path: str,
        gate: Gate,
        worker: Worker,
        triggers: Triggers,
        limits: LimitWatch,
        waiter: Waiter,
        journal: Journal,
        read_capabilities: Callable[[], CapabilitiesRead],
    ) -> None:
        self._layout = layout
        self._own_path = own_path
        self._gate = gate
        self._worker = worker
        self._triggers = triggers
        self._limits = limits
        self._waiter = waiter
        self._journal = journal
        self._read_capabilities = read_capabilities
        self.stops_handled = 0

    def perform(self, action: Action) -> Event | None:
        """Do it, or have it done; what is known at once is the answer."""
        match action:
            case (
                Survey() | Inspect() | Evict() | Reclaim() | Age() | ReadFragmentation() | Compact()
            ):
                self._worker.submit(action, self._gate.token(self.stops_handled))
            case BreakOff():
                self.break_off()
            case Arm():
                self._arm(action)
            case Disarm(path):
                self._triggers.disarm(path)
                self._limits.disarm(path)
            case ReadPressure(path):
                return StallSeen(read_sample(self._layout, self._own_path, path))
            case ReadCapabilities():
                return self._read_capabilities()
        return None

    def break_off(self) -> None:
        """End the write that is under way, and see to it that it ends."""
        self._gate.stop_from_loop()
        # What has not begun by now will not: only a kick that came too early has to be repeated.
        if self._gate.must_kick:
            self._waiter.keep_kicking()

    def _arm(self, action: Arm) -> None:
        self._limits.arm(action.path)
        for error in self._triggers.arm(action.path, action.triggers):
            if not isinstance(error, Vanished):
                self._journal.say("warning", "trigger_not_armed", error=error)
