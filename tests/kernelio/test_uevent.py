from __future__ import annotations

import os
import select
import socket

import pytest

from kernelio.layout import Layout
from kernelio.uevent import LOST, Uevent, UeventMonitor, open_monitor
from tests.fake_guest import FakeGuest

# Any device will do: writing an action into its uevent file makes the kernel send that event.
_ZERO = "/sys/class/mem/zero"
_UUID = "1c5a7e6e-5f0a-4c39-9d3b-9a2b7c1d0e4f"
_sends = pytest.mark.skipif(
    not os.access(f"{_ZERO}/uevent", os.W_OK), reason="only root makes the kernel send events"
)


def _send(action: str, device: str = _ZERO) -> None:
    with open(f"{device}/uevent", "w") as file:
        file.write(action)


def _open(*subsystems: str) -> UeventMonitor:
    """A monitor of the kernel's own events, udevd or not."""
    return open_monitor(Layout(root="/nowhere"), subsystems)


def _wait(monitor: UeventMonitor) -> list[Uevent]:
    assert select.select([monitor], [], [], 5)[0]
    return monitor.read()


@_sends
@pytest.mark.parametrize("action", ["add", "change", "online", "offline"])
def test_tells_what_happened_to_which_device(action: str) -> None:
    monitor = _open("mem")
    assert monitor.read() == []
    _send(action)
    (event,) = _wait(monitor)
    assert event.action == action
    assert (event.subsystem, event.sys_name) == ("mem", "zero")
    assert event.sys_path == os.path.realpath(_ZERO)
    assert event.properties["DEVNAME"] == "/dev/zero"
    assert not event.is_new_generation
    assert monitor.read() == []
    monitor.close()


@_sends
def test_events_of_other_subsystems_are_not_told() -> None:
    monitor = _open("virtio")
    _send("change")
    assert monitor.read() == []
    monitor.close()


@_sends
def test_only_the_properties_in_use_are_kept() -> None:
    monitor = _open("mem")
    _send(f"change {_UUID} A=1 B=2")
    (event,) = _wait(monitor)
    assert event.properties.keys() <= {"DEVNAME", "DEVTYPE", "NEW_VMGENID"}
    monitor.close()


@pytest.mark.parametrize(("properties", "new"), [({"NEW_VMGENID": "1"}, True), ({}, False)])
def test_a_changed_generation_id_is_a_new_generation(
    properties: dict[str, str], *, new: bool
) -> None:
    assert Uevent("change", "acpi", "QEMUVGID:00", "/sys/x", properties).is_new_generation is new


@_sends
def test_one_read_takes_a_bounded_number_of_events_and_the_rest_stays() -> None:
    monitor = _open("mem")
    for _ in range(100):
        _send("change")
    first = _wait(monitor)
    assert 0 < len(first) < 100
    assert len(first) + len(_wait(monitor)) == 100
    monitor.close()


@_sends
def test_events_that_found_no_room_are_told_as_lost_and_later_ones_come() -> None:
    monitor = _open("mem")
    # Not pyudev's own call: it raises whatever errno an earlier one has left behind.
    with socket.socket(fileno=os.dup(monitor.fileno())) as queue:
        queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(300):
        _send("change")
    events: list[Uevent] = []
    while select.select([monitor], [], [], 0)[0]:
        events += monitor.read()
    assert LOST in events
    _send("online")
    assert [event.action for event in _wait(monitor)] == ["online"]
    monitor.close()


def test_lists_the_devices_that_were_there_before() -> None:
    monitor = _open("block")
    there = monitor.present("block")
    assert {event.action for event in there} <= {"present"}
    assert {event.sys_name for event in there} >= set(os.listdir("/sys/block"))
    monitor.close()


@_sends
def test_where_udevd_should_run_the_kernels_own_events_are_left_to_it(guest: FakeGuest) -> None:
    guest.shows("/run/udev/control", "")
    monitor = open_monitor(guest.layout, ("mem",))
    _send(f"change {_UUID} OURS=1")
    if not os.path.exists("/run/udev/control"):
        assert monitor.read() == []
    else:
        assert [event.sys_name for event in _wait(monitor)] == ["zero"]
    monitor.close()


def test_a_closed_monitor_gives_its_fd_back() -> None:
    monitor = _open("block")
    fd = monitor.fileno()
    assert not os.get_inheritable(fd)
    monitor.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
