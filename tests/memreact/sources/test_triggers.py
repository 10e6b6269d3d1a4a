"""Triggers, on the kernel's own pressure files and on what a kernel may refuse."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from kernelio.errors import Refused, Unsupported, Vanished
from kernelio.layout import Layout
from kernelio.psi import TriggerSet
from memreact.actions import Trigger
from memreact.sources import triggers as module
from memreact.sources.triggers import Triggers
from tests.fake_guest import FakeGuest

BURST, SLOW = Trigger(5_000, 100_000), Trigger(25_000, 1_000_000)
UNPRIVILEGED = Trigger(50_000, 2_000_000)  # allowed to everybody


@dataclass
class Kernel:
    """Takes triggers by its rules, and gives an eventfd for each: an fd that can be polled."""

    shortest_us: int = 0
    absent: frozenset[str] = frozenset()
    armed: list[tuple[str, str, int, int]] = field(default_factory=list)

    def arm(self, path: str, kind: str, *, stall_us: int, window_us: int) -> int:
        """Arm as kernelio's arm_trigger."""
        if path in self.absent:
            raise Unsupported(path, "no such file here")
        if window_us < self.shortest_us:
            raise Refused(path, errno.EINVAL, "Invalid argument")
        self.armed.append((path, kind, stall_us, window_us))
        return os.eventfd(0, os.EFD_CLOEXEC)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(module, "arm_trigger", made.arm)
    return made


@pytest.fixture
def waiting() -> Iterator[TriggerSet]:
    made = TriggerSet()
    yield made
    made.close()


def open_fds() -> set[str]:
    """What is open now, but for the directory that is read to find out."""
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}


def test_arms_each_rung_on_memory_and_on_io(kernel: Kernel, waiting: TriggerSet) -> None:
    triggers = Triggers(Layout(cgroup="/cg"), waiting)
    triggers.start()
    assert triggers.arm("/a b", (BURST, SLOW)) == []
    assert triggers.arm("", (SLOW,)) == []
    triggers.close()
    assert kernel.armed == [
        ("/cg/a b/memory.pressure", "some", 5_000, 100_000),
        ("/cg/a b/memory.pressure", "some", 25_000, 1_000_000),
        ("/cg/a b/io.pressure", "some", 5_000, 100_000),
        ("/cg/a b/io.pressure", "some", 25_000, 1_000_000),
        ("/proc/pressure/memory", "some", 25_000, 1_000_000),
        ("/proc/pressure/io", "some", 25_000, 1_000_000),
    ]


def test_a_kernel_that_takes_no_short_window_gets_the_same_stall_in_half_a_second(
    kernel: Kernel, waiting: TriggerSet
) -> None:
    kernel.shortest_us = 500_000
    triggers = Triggers(Layout(), waiting)
    triggers.start()
    assert triggers.arm("", (BURST, SLOW)) == []
    triggers.close()
    assert [(stall, window) for _, _, stall, window in kernel.armed] == [
        (5_000, 500_000),
        (25_000, 1_000_000),
    ] * 2


def test_what_cannot_be_armed_is_returned_and_the_rest_is_armed(
    kernel: Kernel, waiting: TriggerSet
) -> None:
    kernel.shortest_us = 2_000_000
    kernel.absent = frozenset({"/proc/pressure/io"})
    triggers = Triggers(Layout(), waiting)
    triggers.start()
    failed = triggers.arm("", (SLOW, UNPRIVILEGED))
    triggers.close()
    assert [type(error) for error in failed] == [Refused, Unsupported, Unsupported]
    assert kernel.armed == [("/proc/pressure/memory", "some", 50_000, 2_000_000)]


def test_arming_again_closes_what_was_armed_before(kernel: Kernel, waiting: TriggerSet) -> None:
    before = open_fds()
    triggers = Triggers(Layout(), waiting)
    triggers.start()
    for _ in range(20):
        triggers.arm("", (BURST, SLOW))
        triggers.arm("/a", (BURST,))
    triggers.disarm("/a")
    assert waiting._tokens.keys() == set(triggers._armed[""])
    triggers.close()
    assert open_fds() == before
    assert not waiting._tokens


def test_is_told_by_name_what_fired_and_nothing_after_disarming(
    kernel: Kernel, waiting: TriggerSet
) -> None:
    triggers = Triggers(Layout(), waiting)
    triggers.start()
    triggers.arm("/a", (BURST,))
    triggers.disarm("/a")
    assert waiting.wait(0) == []
    triggers.close()


def test_disarming_what_was_never_armed_is_nothing(kernel: Kernel, waiting: TriggerSet) -> None:
    triggers = Triggers(Layout(), waiting)
    triggers.start()
    triggers.disarm("/a")
    triggers.close()
    assert kernel.armed == []


def test_closes_on_the_janitor_not_on_the_caller(kernel: Kernel, waiting: TriggerSet) -> None:
    triggers = Triggers(Layout(), waiting)
    triggers.arm("", (BURST,))
    fds = set(map(str, triggers._armed[""]))
    triggers.disarm("")
    assert fds <= open_fds()  # there is no janitor yet
    triggers.start()
    triggers.close()
    assert not fds & open_fds()


def test_a_file_that_nobody_can_poll_is_an_error_among_others_and_is_closed(
    guest: FakeGuest, waiting: TriggerSet
) -> None:
    """What a file system that merely looks like the kernel's gives."""
    guest.shows("/proc/pressure/memory", "")
    guest.shows("/proc/pressure/io", "")
    before = open_fds()
    triggers = Triggers(guest.layout, waiting)
    triggers.start()
    failed = triggers.arm("", (SLOW,))
    triggers.close()
    assert len(failed) == 2
    assert open_fds() == before


def test_a_guest_without_psi_arms_nothing(guest: FakeGuest, waiting: TriggerSet) -> None:
    triggers = Triggers(guest.layout, waiting)
    triggers.start()
    assert len(triggers.arm("", (BURST, SLOW))) == 4
    assert len(triggers.arm("/gone", (BURST,))) == 2
    triggers.close()


def test_arms_and_closes_the_kernels_own_triggers(waiting: TriggerSet) -> None:
    before = open_fds()
    triggers = Triggers(Layout(), waiting)
    triggers.start()
    assert triggers.arm("", (UNPRIVILEGED,)) == []
    assert len(waiting._tokens) == 2
    triggers.disarm("")
    triggers.close()
    assert open_fds() == before


def test_what_waits_to_be_closed_is_armed_again_as_it_is(waiting: TriggerSet) -> None:
    before = open_fds()
    triggers = Triggers(Layout(), waiting)  # its janitor is busy: there is none yet
    for _ in range(100):
        assert triggers.arm("", (UNPRIVILEGED,)) == []
    assert len(open_fds() - before) == 2
    assert len(waiting._tokens) == 2
    triggers.start()
    triggers.close()
    assert open_fds() == before


def test_a_trigger_with_other_numbers_is_armed_anew(waiting: TriggerSet) -> None:
    before = open_fds()
    triggers = Triggers(Layout(), waiting)
    triggers.arm("", (UNPRIVILEGED,))
    triggers.arm("", (Trigger(60_000, 2_000_000),))
    assert len(open_fds() - before) == 4
    triggers.start()
    triggers.close()
    assert open_fds() == before


def test_a_cgroup_that_was_made_again_is_not_waited_for_by_the_old_ones_trigger(
    kernel: Kernel, guest: FakeGuest, waiting: TriggerSet
) -> None:
    guest.has_memcg("/a", memory_pressure="", io_pressure="")
    triggers = Triggers(guest.layout, waiting)
    triggers.arm("/a", (SLOW,))
    triggers.arm("/a", (SLOW,))
    assert len(kernel.armed) == 4  # an eventfd is no file of the cgroup
    triggers.start()
    triggers.close()


class Watched:
    """What an alarm watches; no kernel in it: that part is tests/kernelio/test_alarm.py."""

    def __init__(self) -> None:
        self.files: dict[int, str] = {}
        self._next = 1

    def watch(self, path: str) -> int:
        """Watch, unless there is no such file."""
        if "gone" in path:
            raise Vanished(path)
        self.files[self._next] = path
        self._next += 1
        return self._next - 1

    def unwatch(self, watch: int) -> None:
        """Watch no more."""
        del self.files[watch]


def test_the_kernel_kicks_for_each_file_that_is_armed_and_no_longer(
    kernel: Kernel, waiting: TriggerSet
) -> None:
    alarm = Watched()
    triggers = Triggers(Layout(cgroup="/cg"), waiting, alarm)
    triggers.start()
    triggers.arm("/a", (BURST, SLOW))
    triggers.arm("/gone", (BURST,))  # the waiting thread kicks alone
    assert sorted(alarm.files.values()) == ["/cg/a/io.pressure", "/cg/a/memory.pressure"]
    triggers.arm("/a", (BURST,))
    assert sorted(alarm.files.values()) == ["/cg/a/io.pressure", "/cg/a/memory.pressure"]
    triggers.disarm("/a")
    assert alarm.files == {}
    triggers.close()
