"""Uevents: memory blocks, balloons, disks and zram that come and go, and a changed VM generation.

pyudev's monitor is one plainly readable fd. No MonitorObserver, which is a thread.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kernelio.errors import Unsupported
from kernelio.layout import Layout
from kernelio.udev import pyudev

__all__ = ["LOST", "SUBSYSTEMS", "Uevent", "UeventMonitor", "open_monitor"]

# vmgenid is an ACPI device, and from Linux 6.9 on a platform device.
SUBSYSTEMS = ("acpi", "block", "memory", "platform", "virtio")
_PROPERTIES = ("DEVNAME", "DEVTYPE", "NEW_VMGENID")
_MOST_READ = 64  # events taken in one turn of the loop; the fd stays readable if there are more
_NAME = "netlink:uevent"  # stands for a path in errors


class Uevent(NamedTuple):
    """One event of a device.

    Args:
        action: "add", "remove", "change", "online", "offline", "bind", "unbind"; "lost" in `LOST`,
            and "present" for a device that was there when asked.
        subsystem: "memory", "virtio", "block", ...
        sys_name: "memory32", "virtio3", "zram0", ...
        sys_path: Its directory in sysfs; for a disk the bus address is in it.
        properties: Of the event's own: DEVNAME, DEVTYPE, NEW_VMGENID, those that it has.
    """

    action: str
    subsystem: str
    sys_name: str
    sys_path: str
    properties: Mapping[str, str]

    @property
    def is_new_generation(self) -> bool:
        """This guest was restored from a snapshot, or is a clone (drivers/virt/vmgenid.c)."""
        return self.properties.get("NEW_VMGENID") == "1"


# Events came faster than they were read, and the kernel dropped some: look at everything anew.
LOST = Uevent("lost", "", "", "", {})


class UeventMonitor:
    """A started monitor; nothing happens in it but `read`."""

    def __init__(self, context: Any, monitor: Any) -> None:  # noqa: ANN401  # pyudev has no types
        self._context = context
        self._monitor = monitor

    def fileno(self) -> int:
        """Readable when an event is there."""
        return int(self._monitor.fileno())

    def read(self) -> list[Uevent]:
        """Take the events that are there, a bounded number of them; never waits."""
        events: list[Uevent] = []
        while len(events) < _MOST_READ:
            try:
                device = self._monitor.poll(timeout=0)
            except OSError:
                _clear_error(self.fileno())
                events.append(LOST)
                continue
            if device is None:
                break
            events.append(_event(device, str(device.action)))
        return events

    def present(self, subsystem: str) -> list[Uevent]:
        """List the devices that are there now: one may have come before the monitor was started."""
        devices = self._context.list_devices(subsystem=subsystem)
        return [_event(device, "present") for device in devices]

    def close(self) -> None:
        """Close the socket; the object is of no use afterwards."""
        # libudev closes its fd when the last reference goes, which pyudev drops in __del__.
        del self._monitor
        del self._context


def open_monitor(layout: Layout, subsystems: Iterable[str] = SUBSYSTEMS) -> UeventMonitor:
    """Start listening to the events of some subsystems.

    Where udevd runs, its events are taken: the device node is there by then. Where it does not
    (small guests), its source would stay silent for ever, and the kernel's own events are taken.

    Raises:
        Unsupported: No libudev, or no permission for the socket.
    """
    with_udevd = os.path.exists(f"{layout.root}/run/udev/control")
    try:
        context = pyudev.Context()
        monitor = pyudev.Monitor.from_netlink(context, source="udev" if with_udevd else "kernel")
        for subsystem in subsystems:
            monitor.filter_by(subsystem)
        monitor.start()
    except (OSError, ImportError) as error:
        raise Unsupported(_NAME, str(error)) from error
    return UeventMonitor(context, monitor)


def _event(device: Any, action: str) -> Uevent:  # noqa: ANN401  # pyudev has no types
    properties = device.properties
    return Uevent(
        action=action,
        subsystem=str(device.subsystem or ""),
        sys_name=str(device.sys_name),
        sys_path=str(device.sys_path),
        properties={name: str(properties[name]) for name in _PROPERTIES if name in properties},
    )


def _clear_error(fd: int) -> None:
    """Take the pending error (ENOBUFS) off the socket, or every later poll would fail with it."""
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
