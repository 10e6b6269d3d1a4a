"""The triggers that are armed now: the guest's, and those of the memcg at work."""

from __future__ import annotations

import os
import queue
import threading

from kernelio.errors import KernelioError, Refused
from kernelio.layout import Layout
from kernelio.psi import TriggerSet, arm_trigger
from memreact.actions import Trigger

__all__ = ["Triggers"]

_RESOURCES = ("memory", "io")
# 6.1 takes no window under 500 ms.
_OLDER_WINDOW_US = 500_000


class Triggers:
    """Arms on the loop, which takes microseconds; closes on a janitor, which waits for RCU.

    Args:
        layout: Where the kernel shows its files.
        waiting: The set that the waiting thread polls.
    """

    def __init__(self, layout: Layout, waiting: TriggerSet) -> None:
        self._layout = layout
        self._waiting = waiting
        self._armed: dict[str, list[int]] = {}
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
        fds = self._armed.setdefault(path, [])
        for resource in _RESOURCES:
            for trigger in triggers:
                try:
                    fd = self._arm(self._file(path, resource), trigger)
                    fds.append(fd)
                    self._waiting.add(fd, path)
                except KernelioError as error:
                    failed.append(error)
        return failed

    def disarm(self, path: str) -> None:
        """Stop waiting for a memcg's triggers, or the guest's, and have them closed."""
        for fd in self._armed.pop(path, ()):
            self._waiting.discard(fd)
            self._closing.put(fd)

    def close(self) -> None:
        """Disarm all, and wait until they are closed."""
        for path in tuple(self._armed):
            self.disarm(path)
        self._closing.put(None)
        self._janitor.join()

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
            return self._layout.proc(f"pressure/{resource}")
        return f"{self._layout.memcg_dir(path)}/{resource}.pressure"

    def _close_all(self) -> None:
        while (fd := self._closing.get()) is not None:
            os.close(fd)
