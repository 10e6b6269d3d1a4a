"""Compaction of one node by a tiny child, which can be killed: nothing gentler ends it.

The child is /bin/sh with one `echo`, by way of setpriv, that has the kernel kill it when the thread
that started it ends: 1.7 MB of which 0.1 are its own, and 4 ms to the write. Where there is no
setpriv, or where it may not run, Python does the same in 9 MB and 24 ms.

It has the priority that we have, for a nice child dies late: with all CPUs busy a kill took 9 ms at
the median, 318 ms where the child had nice 19, and up to 1.4 s where it had SCHED_IDLE.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from kernelio import compaction
from kernelio.child import Child
from kernelio.errors import KernelioError, Unsupported, Vanished
from kernelio.layout import Layout
from memreact.actions import Compact, ReadFragmentation
from memreact.actuator.percpu import Switches, let_go
from memreact.events import CompactionEnded, Fragmentation, Outcome
from memreact.gate import Gate, HeldBack
from memreact.sources.fragmentation import read_fragmentation
from memreact.sources.pressure import now_us

__all__ = ["PROGRAMS", "Compactor"]

_ORPHAN, _REFUSED = 3, 4  # the statuses of a child that ran; any other is of one that could not
# Whoever became an orphan before it had said how it wants to die must not begin: we would not be
# there to kill it.
_SHELL = f'[ "$PPID" = "$0" ] || exit {_ORPHAN}; echo 1 || exit {_REFUSED}'
_PYTHON = f"""\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit({_ORPHAN})
try:
    os.write(1, b"1\\n")
except OSError:
    sys.exit({_REFUSED})
"""

PROGRAMS: tuple[tuple[str, ...], ...] = (
    ("/usr/bin/setpriv", "--pdeathsig", "KILL", "/bin/sh", "-c", _SHELL),
    (sys.executable, "-I", "-S", "-c", _PYTHON),
)


class _Ended(NamedTuple):
    outcome: Outcome
    detail: str = ""


class Compactor:
    """Compacts one node at a time, on the thread that calls.

    That thread has to live as long as the child, which is killed when it ends. Where the daemon is
    killed that thread ends too.

    Args:
        gate: Asked before the child starts; whoever stops kills the child.
        switches: Records what is changed meanwhile; None where nothing may be.
        programs: What to start, best first, each with our pid for a last argument; one that cannot
            run is not tried again while there is another.
    """

    def __init__(
        self,
        gate: Gate,
        switches: Switches | None = None,
        programs: Sequence[Sequence[str]] = PROGRAMS,
    ) -> None:
        self._gate = gate
        self._switches = switches
        self._programs = list(programs)
        self._child = Child()
        self._ending = False

    def compact(self, layout: Layout, own_path: str, work: Compact, token: int) -> CompactionEnded:
        """Have the kernel compact a node, and read what came of it.

        Args:
            layout: Where the kernel shows its files.
            own_path: memreact's own cgroup.
            work: What was decided.
            token: The gate's at the moment of the decision.
        """
        moved_before = _migrated_pages(layout)
        self._let_go(layout, work, token)
        began = now_us()
        how = self._guarded(layout, work, token)
        took_us = now_us() - began
        self._let_go(layout, work, token)
        moved = max(0, _migrated_pages(layout) - moved_before)
        # What was stopped was stopped for others' sake: no walk over free lists then.
        movable = work.with_movable and how.outcome == "done"
        after = read_fragmentation(layout, own_path, work.order, with_movable=movable)
        return CompactionEnded(work.node, how.outcome, took_us, moved, after, how.detail)

    def look(
        self, layout: Layout, own_path: str, work: ReadFragmentation, token: int
    ) -> Fragmentation:
        """Read in what pieces free memory lies, after the CPUs have let go of theirs if asked."""
        self._let_go(layout, work, token)
        return read_fragmentation(layout, own_path, work.order, with_movable=work.with_movable)

    def _let_go(self, layout: Layout, work: Compact | ReadFragmentation, token: int) -> None:
        if work.let_go and self._switches is not None and self._gate.open_for(token):
            let_go(layout, self._switches, lambda: self._gate.open_for(token))

    def end(self) -> None:
        """Kill the child that runs or is being started, and all that come after; for any thread."""
        self._ending = True
        self._child.kill()

    def close(self) -> None:
        """Let go of the child's fd; the gate must be asked no more."""
        self._child.close()

    def _guarded(self, layout: Layout, work: Compact, token: int) -> _Ended:
        try:
            trigger = compaction.open_trigger(layout, work.node)
            try:
                return self._by_a_program_that_runs(trigger, work, token)
            finally:
                os.close(trigger)
        except HeldBack:
            return _Ended("held_back")
        except Vanished as error:
            return _Ended("vanished", str(error))
        except Unsupported as error:
            return _Ended("unsupported", str(error))
        except KernelioError as error:
            return _Ended("refused", str(error))

    def _by_a_program_that_runs(self, trigger: int, work: Compact, token: int) -> _Ended:
        why = "nothing to start"
        for program in tuple(self._programs):
            try:
                with self._gate.writing(token, self._child.kill):
                    ended = self._run(program, trigger, work, token)
            except Unsupported as error:
                why = str(error)
            else:
                if ended is not None:
                    return ended
                why = f"{program[0]} could not run"
            if len(self._programs) > 1:
                self._programs.remove(program)
        return _Ended("unsupported", why)

    def _run(
        self, program: Sequence[str], trigger: int, work: Compact, token: int
    ) -> _Ended | None:
        """Start a child, and wait for its end; None where it could not run."""
        self._child.start((*program, str(os.getpid())), trigger)
        # Whoever stopped meanwhile found nobody to kill.
        if self._ending or not self._gate.open_for(token):
            self._child.kill()
        late = not self._child.ends_within((work.ends_by - now_us()) / 1000)
        if late:
            self._child.kill()
        status = self._child.reap()
        if status == -signal.SIGKILL:
            return _Ended("broken_off", self._killer(token, late=late))
        if status == _REFUSED:
            return _Ended("refused", "the kernel takes no order to compact")
        return _Ended("done") if status == 0 else None

    def _killer(self, token: int, *, late: bool) -> str:
        if self._ending or not self._gate.open_for(token):
            return ""
        return "its time was up" if late else "killed, and not by memreact"


def _migrated_pages(layout: Layout) -> int:
    """Pages that were moved since boot; 0 where the kernel does not count them."""
    try:
        return compaction.read_counters(layout).migrated_total_pages
    except KernelioError:
        return 0
