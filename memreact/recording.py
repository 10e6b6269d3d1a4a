"""Records what happens, and leaves it in a file after a bug or a breached limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from msgspec import Raw

from kernelio.boot import read_boot_id
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from memreact import __version__
from memreact.events import Event, Instant
from memreact.policy.state import Step
from memreact.run_dir import RunDir
from memreact.settings.layers import Settings
from memreact.telemetry.journal import Journal
from memreact.telemetry.recorder import About, Recorder
from memreact.telemetry.trace import Trace, encoded
from memreact_schemas.config import Log
from memreact_schemas.status import Status
from memreact_schemas.trace import NULL, Failed, Source

__all__ = ["Breaches", "Recording"]

_TOLD = frozenset({"turn", "resume"})  # where nobody is hurt, and nothing runs
_BREACHES = frozenset({"stall_over_limit", "guest_stall_over_limit", "oom", "limit_hit"})
_OVER = frozenset({"resume", "turn"})
_APART_US = 600_000_000
_ERROR_MAX = 500  # characters


class Breaches:
    """Notices that a limit was breached, and when it is over, so that what followed is told too.

    While somebody is hurt nothing is written: it would take memory from them.
    """

    def __init__(self) -> None:
        self._breached = False
        self._not_before: Instant | None = None

    def are_over(self, made: Step, now: Instant) -> bool:
        """Take in a step; returns whether it is time to write, once in ten minutes at the most."""
        for decision in made.decisions:
            self._breached = self._breached or decision.because.code in _BREACHES
        if not self._breached or all(each.verdict not in _OVER for each in made.decisions):
            return False
        self._breached = False
        if self._not_before is not None and now < self._not_before:
            return False
        self._not_before = Instant(now + _APART_US)
        return True


class Recording:
    """The recorder of one daemon, and its files.

    Args:
        layout: Where the kernel shows its files.
        run_dir: Where files are left.
        settings: In force.
        clock: Reads the moment.
        journal: Told of each file.
        trace: Where every line is appended to, if anywhere.
    """

    def __init__(  # noqa: PLR0913  # what is around it
        self,
        layout: Layout,
        run_dir: RunDir,
        settings: Settings,
        *,
        clock: Callable[[], Instant],
        journal: Journal,
        trace: Trace | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._clock = clock
        self._journal = journal
        self._breaches = Breaches()
        self._files = settings.config.log.flight_files or 0
        about = About(__version__, os.uname().release, _boot_id(layout), _wall_us)
        self.recorder = Recorder(about, settings, clock(), trace)

    def settle(self, log: Log) -> None:
        """Keep as much from now on as these settings say."""
        self._files = log.flight_files or 0
        self.recorder.keep(log)

    def observe(
        self,
        event: Event,
        made: Step,
        now: Instant,
        settings: Settings,
        status: Callable[[], Status],
    ) -> None:
        """Take in a step.

        Args:
            event: What happened.
            made: What it led to.
            now: When.
            settings: What was in force.
            status: Tells how things stand, which is recorded where turns and pauses end.
        """
        self.recorder.observe(event, made, now, settings)
        if self.recorder.flight.held_bytes and any(
            decision.verdict in _TOLD for decision in made.decisions
        ):
            self.recorder.add_status(status(), now)
        if self._breaches.are_over(made, now):
            self._leave("limit")

    def failed(self, error: BaseException, at_hand: Event | None) -> None:
        """Leave what was recorded before a bug, with what was at hand.

        Args:
            error: The bug.
            at_hand: The event that was decided on just then.
        """
        text = f"{type(error).__name__}: {error}"[:_ERROR_MAX]
        event = NULL if at_hand is None else Raw(encoded(at_hand))
        self._leave("crash", Failed(at=self._clock(), event=event, error=text))

    def close(self) -> None:
        """Record no more."""
        self.recorder.close()

    def _leave(self, source: Source, failed: Failed | None = None) -> None:
        if not self._files or not self._run_dir.locked or not self.recorder.flight.held_bytes:
            return
        from memreact.telemetry.flight_files import leave_file  # noqa: PLC0415  # seldom

        members = self.recorder.packed(source, self._clock(), failed)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        try:
            path = leave_file(self._run_dir.path, source, stamp, members, self._files)
        except OSError as error:
            self._journal.say("warning", "flight_not_recorded", because=source, error=error)
        else:
            self._journal.say("notice", "flight_recorded", because=source, file=path)


def _boot_id(layout: Layout) -> str | None:
    try:
        return read_boot_id(layout)
    except KernelioError:
        return None


def _wall_us() -> int:
    return time.time_ns() // 1000
