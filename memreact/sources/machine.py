"""What jumps under us: the clock, a suspend, a restored snapshot, memory and devices that come."""

from __future__ import annotations

from collections.abc import Callable

from kernelio.timerfd import ClockStepWatch, boottime_us, monotonic_us
from kernelio.uevent import LOST, Uevent, UeventMonitor
from memreact.events import ClockDisturbed

__all__ = ["ClockWatch", "DeviceWatch"]

# The two clocks are read one after the other.
_APART_US = 100_000
_DEVICES = {"virtio": "device_changed", "memory": "memory_changed"}
_ACTIONS = {"add", "remove", "online", "offline"}


class ClockWatch:
    """Tells that the wall clock was set; a suspend sets it too, and shows in CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._steps = ClockStepWatch()
        self._slept_us = boottime_us() - monotonic_us()

    def fileno(self) -> int:
        """Readable when the clock was set."""
        return self._steps.fileno()

    def read(self) -> list[ClockDisturbed]:
        """What happened to time since the last call."""
        if not self._steps.read():
            return []
        slept_us = boottime_us() - monotonic_us()
        suspended = slept_us - self._slept_us > _APART_US
        self._slept_us = slept_us
        return [ClockDisturbed("suspend" if suspended else "clock_step")]

    def close(self) -> None:
        """Give the fd back."""
        self._steps.close()


class DeviceWatch:
    """Tells that this guest's hardware is not what it was.

    Args:
        monitor: A started monitor; plainly readable.
        of_a_disk: Told of each event of a disk, and that some were lost.
    """

    def __init__(
        self, monitor: UeventMonitor, of_a_disk: Callable[[Uevent], None] = lambda _: None
    ) -> None:
        self._monitor = monitor
        self._of_a_disk = of_a_disk

    def fileno(self) -> int:
        """Readable when an event is there."""
        return self._monitor.fileno()

    def read(self) -> list[ClockDisturbed]:
        """One event for each cause, however many blocks of memory came."""
        causes: dict[str, None] = {}
        for event in self._monitor.read():
            if event is LOST or event.subsystem == "block":
                self._of_a_disk(event)
            if event is LOST:
                causes["uevents_lost"] = None
            elif event.is_new_generation:
                causes["snapshot_restored"] = None
            elif event.action in _ACTIONS and event.subsystem in _DEVICES:
                causes[_DEVICES[event.subsystem]] = None
        return [ClockDisturbed(cause) for cause in causes]

    def close(self) -> None:
        """Give the socket back."""
        self._monitor.close()
