"""What jumps under us."""

from __future__ import annotations

import select

from kernelio.timerfd import ClockStepWatch
from kernelio.uevent import LOST, Uevent, UeventMonitor
from memreact.events import ClockDisturbed
from memreact.sources.machine import ClockWatch, DeviceWatch


class Monitor(UeventMonitor):
    """A monitor that was told these."""

    def __init__(self, *events: Uevent) -> None:
        self.events = list(events)

    def fileno(self) -> int:
        """None is needed here."""
        return -1

    def read(self) -> list[Uevent]:
        """All of them, once."""
        events, self.events = self.events, []
        return events


def event(action: str, subsystem: str, **properties: str) -> Uevent:
    return Uevent(action, subsystem, "x", "/sys/devices/x", properties)


def causes(*events: Uevent) -> list[str]:
    return [each.cause for each in DeviceWatch(Monitor(*events)).read()]


def test_many_blocks_of_memory_are_one_cause() -> None:
    assert causes(*[event("online", "memory")] * 30) == ["memory_changed"]


def test_each_cause_is_told_in_its_order() -> None:
    restored = event("change", "platform", NEW_VMGENID="1")
    assert causes(event("add", "virtio"), restored, event("remove", "virtio")) == [
        "device_changed",
        "snapshot_restored",
    ]


def test_lost_events_are_a_cause() -> None:
    assert causes(LOST) == ["uevents_lost"]


def test_what_changes_nothing_for_us_is_none() -> None:
    assert causes(event("change", "memory"), event("add", "block"), event("bind", "acpi")) == []


def test_events_of_disks_are_passed_on_and_so_is_that_some_were_lost() -> None:
    told: list[Uevent] = []
    disk = event("add", "block")
    watch = DeviceWatch(Monitor(event("add", "virtio"), disk, LOST), told.append)
    assert [each.cause for each in watch.read()] == ["device_changed", "uevents_lost"]
    assert told == [disk, LOST]


def test_a_clock_that_was_not_set_says_nothing() -> None:
    watch = ClockWatch()
    assert not select.select([watch], [], [], 0)[0]
    assert watch.read() == []
    watch.close()


class Stepped(ClockWatch):
    """A clock that was set while the guest slept so long."""

    def __init__(self, slept_us: int) -> None:
        super().__init__()
        self._slept_us -= slept_us
        self._steps.close()
        self._steps = Steps()


class Steps(ClockStepWatch):
    """A timer that was cancelled, once."""

    def __init__(self) -> None:
        self.cancelled = True

    def read(self) -> bool:
        """Whether it was."""
        was, self.cancelled = self.cancelled, False
        return was

    def close(self) -> None:
        """Nothing is open."""


def test_a_suspend_shows_in_the_two_clocks_drifting_apart() -> None:
    watch = Stepped(60_000_000)
    assert watch.read() == [ClockDisturbed("suspend")]
    assert watch.read() == []


def test_a_clock_that_was_set_while_awake_is_a_step() -> None:
    assert Stepped(0).read() == [ClockDisturbed("clock_step")]
