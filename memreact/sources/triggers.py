"""The triggers that are armed now: the guest's, and those of the memcg at work."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from typing import NamedTuple, Protocol

from kernelio.errors import KernelioError, Refused
from kernelio.layout import Layout
from kernelio.psi import TriggerSet, arm_trigger, guest_trigger_file
from memreact.actions import Trigger

__all__ = ["Triggers"]

_RESOURCES = ("memory", "io")
# 6.1 takes no window under 500 ms.
_OLDER_WINDOW_US = 500_000


class Alarm(Protocol):
    """Has the kernel kick whoever writes when something happens to a file: kernelio.alarm."""

    def watch(self, path: str) -> int:
        """Begin, and return a number for it."""

    def unwatch(self, watch: int) -> None:
        """End it."""


class _Armed(NamedTuple):
    """What an fd is armed for; the window is the one that was asked for."""

    file: str
    trigger: Trigger


class Triggers:
    """Arms on the loop, which takes microseconds; closes on a janitor, which waits for RCU.

    Settings may change faster than that, and each change plans a turn anew. So what the janitor has
    not come to yet is armed again as it is: what waits to be closed is never much more than what is
    armed.

    Args:
        layout: Where the kernel shows its files.
        waiting: The set that the waiting thread polls.
        alarm: What has the kernel itself break a write off when one of them fires; None for nobody.
    """

    def __init__(self, layout: Layout, waiting: TriggerSet, alarm: Alarm | None = None) -> None:
        self._layout = layout
        self._waiting = waiting
        self._alarm = alarm
        self._watches: dict[str, list[int]] = {}
        self._armed: dict[str, dict[int, _Armed]] = {}
        self._leaving: dict[int, _Armed] = {}
        self._lock = threading.Lock()  # of what is leaving; never held while an fd is closed
        self._closing: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._janitor = threading.Thread(
            target=self._close_all, name="memreact-janitor", daemon=True
        )

    def start(self) -> None:
        """Start the janitor."""
        self._janitor.start()

    def arm(self, path: str, triggers: tuple[Trigger, ...]) -> list[KernelioError]:
        """Arm each trigger on memory and io pressure; what cannot be armed is returned.

        Args:
            path: A memcg, or empty for the guest.
            triggers: Stall and window of each.
        """
        self.disarm(path)
        failed: list[KernelioError] = []
        fds = self._armed.setdefault(path, {})
        for resource in _RESOURCES:
            for trigger in triggers:
                wanted = _Armed(self._file(path, resource), trigger)
                try:
                    fd = self._taken_back(wanted)
                    if fd is None:
                        fd = self._arm(wanted.file, trigger)
                    fds[fd] = wanted
                    self._waiting.add(fd, path)
                except KernelioError as error:
                    failed.append(error)
        self._watches[path] = self._watch({armed.file for armed in fds.values()})
        return failed

    def _watch(self, files: set[str]) -> list[int]:
        """Have the kernel kick; where it cannot, the waiting thread does so alone."""
        if self._alarm is None:
            return []
        watches = []
        for file in files:
            with suppress(KernelioError):
                watches.append(self._alarm.watch(file))
        return watches

    def disarm(self, path: str) -> None:
        """Stop waiting for a memcg's triggers, or the guest's, and have them closed."""
        for watch in self._watches.pop(path, ()):
            if self._alarm is not None:
                self._alarm.unwatch(watch)
        for fd, was in self._armed.pop(path, {}).items():
            self._waiting.discard(fd)
            with self._lock:
                self._leaving[fd] = was
            self._closing.put(fd)

    def close(self) -> None:
        """Disarm all, and wait until they are closed."""
        for path in tuple(self._armed):
            self.disarm(path)
        self._closing.put(None)
        self._janitor.join()

    def _taken_back(self, wanted: _Armed) -> int | None:
        """One that is leaving, if it is the same trigger on a file that is still the same."""
        with self._lock:
            fd = next((fd for fd, was in self._leaving.items() if was == wanted), None)
            if fd is None or not _is_still(fd, wanted.file):
                return None
            del self._leaving[fd]
        return fd

    def _arm(self, path: str, trigger: Trigger) -> int:
        try:
            return self._arm_window(path, trigger, trigger.window_us)
        except Refused:
            if trigger.window_us >= _OLDER_WINDOW_US:
                raise
            return self._arm_window(path, trigger, _OLDER_WINDOW_US)

    def _arm_window(self, path: str, trigger: Trigger, window_us: int) -> int:
        return arm_trigger(path, "some", stall_us=trigger.stall_us, window_us=window_us)

    def _file(self, path: str, resource: str) -> str:
        if not path:
            return guest_trigger_file(self._layout, resource)
        return f"{self._layout.memcg_dir(path)}/{resource}.pressure"

    def _close_all(self) -> None:
        while (fd := self._closing.get()) is not None:
            with self._lock:
                leaves = self._leaving.pop(fd, None) is not None
            if leaves:
                os.close(fd)


def _is_still(fd: int, path: str) -> bool:
    """Whether a cgroup was not made again under the same path: its files are others then."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
