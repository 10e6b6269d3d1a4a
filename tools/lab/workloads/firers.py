"""What makes a waiting thread wake and kick: real triggers of three kinds, and what tells when.

Urgent    makes an fd urgent, EPOLLPRI as of a trigger; stamped the moment before
Pressure  the guest's own io trigger; stamped when a bare poll returned from an equal one
Stalls    a cgroup's io triggers, armed as the daemon arms them; told by the kernel's trace
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from kernelio.alarm import Alarm
from kernelio.layout import Layout
from kernelio.psi import TriggerSet, arm_trigger, can_arm_short_windows
from lab.workloads.direct import Reads, keep_stalling
from lab.workloads.ftrace import KICK, Kicks, Tracing, kicks_in
from lab.workloads.lines import monotonic_us
from memreact.actions import Trigger
from memreact.sources.triggers import Triggers

__all__ = ["Firer", "Pressure", "Stalls", "Urgent"]

_DELAY_S = (0.005, 0.030)
_BURST = Trigger(stall_us=5_000, window_us=100_000)
_ASK, _QUIET = b"!", b"."
_IO = "/proc/pressure/io"
_SHORT_US, _LONG_US = 500_000, 2_000_000
_SMALL_SHARE = 100  # of the window: what stalls a disk at all stalls it so long


class Threads(NamedTuple):
    """Who waits for the triggers, and who writes, as the kernel numbers them."""

    waiter: int
    worker: int


class Firer(Protocol):
    """Fires once for each `ask`, at a random moment."""

    def begin(self, threads: Threads) -> None:
        """Both threads are there."""

    def ask(self) -> None:
        """Ask for one."""

    def quiet(self) -> None:
        """It was seen: let it be over."""

    def measured(self, kicked_us: int) -> Kicks | None:
        """Tell what came of it; None if nothing was measured.

        Args:
            kicked_us: The moment before the thread's first kick; 0 if it gave none.
        """

    def end(self) -> None:
        """End it."""


class _Child:
    """A process that serves what is asked for over a socket."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        kind = socket.SOCK_SEQPACKET
        self.here, there = socket.socketpair(socket.AF_UNIX, kind)
        self._pid = os.fork()
        if self._pid == 0:
            self.here.close()
            try:
                serve(there)
            finally:
                os._exit(0)
        there.close()

    def end(self) -> None:
        """End the process."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class Urgent:
    """Makes an fd urgent, and stamps the moment before."""

    def __init__(self, waiting: TriggerSet) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._far = socket.create_connection(server.getsockname())
            self._near, _ = server.accept()
        self._child = _Child(self._serve)
        waiting.add(self._near.fileno(), "urgent")

    def _serve(self, asked: socket.socket) -> None:
        while asked.recv(1):
            time.sleep(random.uniform(*_DELAY_S))  # noqa: S311  # no secret
            stamp_us = monotonic_us()
            self._far.send(b"!", socket.MSG_OOB)
            asked.send(str(stamp_us).encode())

    def begin(self, threads: Threads) -> None:
        """Nobody is watched."""

    def ask(self) -> None:
        """Ask for one."""
        self._child.here.send(_ASK)

    def quiet(self) -> None:
        """Urgent data stays urgent until it is taken; a trigger's event is gone with its poll."""
        self._near.recv(1, socket.MSG_OOB)

    def measured(self, kicked_us: int) -> Kicks | None:
        """By its stamp."""
        stamp_us = int(self._child.here.recv(32))
        return Kicks(stamp_us, None, kicked_us) if kicked_us else None

    def end(self) -> None:
        """End it."""
        self._child.end()


class Pressure:
    """Fires at the end of each window: processes stall on a disk all the while.

    The kernel wakes the two that wait one after the other, so that a figure can be below zero.

    Args:
        waiting: What the waiting thread polls.
        folder: On that disk.
    """

    def __init__(self, waiting: TriggerSet, folder: str) -> None:
        self._stalling = keep_stalling(os.path.join(folder, f"kick-{os.getpid()}"))
        self._bare = _Child(self._watch)
        waiting.add(_armed(), "pressure")

    def _watch(self, there: socket.socket) -> None:
        poller = select.poll()
        poller.register(_armed(), select.POLLPRI)
        while poller.poll():  # until nobody listens, which ends it by a BrokenPipeError
            there.send(str(monotonic_us()).encode())

    def begin(self, threads: Threads) -> None:
        """Nobody is watched."""

    def ask(self) -> None:
        """Leave it at what comes: it fires at the end of a window."""

    def quiet(self) -> None:
        """Leave it at that: the event is gone."""

    def measured(self, kicked_us: int) -> Kicks | None:
        """By the moment at which the other poll returned."""
        stamp_us = int(self._bare.here.recv(32))
        return Kicks(stamp_us, None, kicked_us) if kicked_us else None

    def end(self) -> None:
        """End all processes."""
        self._bare.end()
        for pid in self._stalling:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _armed() -> int:
    window_us = _SHORT_US if can_arm_short_windows(_IO) else _LONG_US
    return arm_trigger(_IO, "some", stall_us=window_us // _SMALL_SHARE, window_us=window_us)


class Stalls:
    """Stalls in a cgroup until a trigger has fired.

    By direct reads, for such a stall is over with the read. One by memory.high is not: the kernel
    lets whoever is over it sleep for up to two seconds, though the limit is raised meanwhile.

    Args:
        waiting: What the waiting thread polls.
        path: The cgroup, as the kernel calls it.
        alarm: By which the kernel itself kicks.
        file: To make and to read, on a disk.
    """

    def __init__(self, waiting: TriggerSet, path: str, alarm: Alarm, file: str) -> None:
        layout = Layout()
        self._folder = layout.memcg_dir(path)
        self._reads = Reads(file)
        self._child = _Child(self._serve)
        self._tracing: Tracing | None = None
        self._threads = Threads(0, 0)
        self._triggers = Triggers(layout, waiting, alarm)
        self._triggers.start()
        for error in self._triggers.arm(path, (_BURST,)):
            raise error

    def _serve(self, asked: socket.socket) -> None:
        with open(f"{self._folder}/cgroup.procs", "w") as file:
            file.write("0")
        while word := asked.recv(1):
            if word == _QUIET:  # of a trigger that fired after the stall was over
                continue
            time.sleep(random.uniform(*_DELAY_S))  # noqa: S311  # no secret
            while not _has_come(asked):
                self._reads.next()
            asked.send(_QUIET)

    def begin(self, threads: Threads) -> None:
        """Have the kernel record what happens to these two."""
        self._threads = threads
        self._tracing = Tracing(
            {
                "sched/sched_waking": f"pid == {threads.waiter}",
                "signal/signal_generate": f"sig == {KICK} && pid == {threads.worker}",
            }
        )

    def ask(self) -> None:
        """Ask for one."""
        if self._tracing is not None:
            self._tracing.clear()
        self._child.here.send(_ASK)

    def quiet(self) -> None:
        """No more stall."""
        self._child.here.send(_QUIET)

    def measured(self, kicked_us: int) -> Kicks | None:
        """By the trace."""
        del kicked_us  # the kernel stamps it too, and by itself
        self._child.here.recv(1)
        seen = self._tracing.seen() if self._tracing is not None else []
        return kicks_in(seen, self._threads.waiter)

    def end(self) -> None:
        """Disarm, and end the process."""
        self._triggers.close()
        self._child.end()


def _has_come(asked: socket.socket) -> bool:
    try:
        return bool(asked.recv(1, socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False
