"""The daemon and the child that compacts for it, from the first check to whatever ends both."""

from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from memreact.actions import Compact
from memreact.events import CompactionEnded
from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.full_guest import full_guest
from tests.memreact.test_daemon import PATIENCE_S, QUIET, UNHEARD, Running

Start = Callable[..., Running]
TRIGGER = "/sys/devices/system/node/node0/compact"
COMPACTS = f"""\
{QUIET}
[compact]
period_secs = 1
compact_force_times = 0
[compact_policy]
rule = "threshold"
"""


@pytest.fixture
def start(guest: FakeGuest) -> Iterator[Start]:
    """Start a daemon on a guest that can be compacted."""
    full_guest(guest)
    for name in ("buddyinfo", "zoneinfo", "pagetypeinfo", "vmstat"):
        guest.shows(f"/proc/{name}", golden_text(f"6.12/proc/{name}"))
    if not os.path.exists(guest.path(TRIGGER)):
        guest.shows(TRIGGER, "")
    started: list[Running] = []

    def running(settings: str = COMPACTS) -> Running:
        started.append(Running(guest, settings, "uvloop"))
        return started[-1]

    yield running
    for one in started:
        one.close()


@pytest.fixture
def _endless(guest: FakeGuest) -> Iterator[None]:
    """Let a compaction go on until it is broken off."""
    os.makedirs(os.path.dirname(guest.path(TRIGGER)))
    os.mkfifo(guest.path(TRIGGER))
    reader = os.open(guest.path(TRIGGER), os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(guest.path(TRIGGER), os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    yield
    os.close(reader)
    os.close(writer)


def children(daemon: Running) -> list[int]:
    """The children of all its threads, zombies with them."""
    found: list[int] = []
    tasks = f"/proc/{daemon.process.pid}/task"
    for thread in os.listdir(tasks):
        with (
            suppress(FileNotFoundError, ProcessLookupError),  # that thread ended
            open(f"{tasks}/{thread}/children", encoding="ascii") as file,
        ):
            found += map(int, file.read().split())
    return found


def blocked_child(daemon: Running) -> int:
    """A pidfd of the one that compacts, once it waits in its write."""
    daemon.does(Compact)
    while True:
        for pid in children(daemon):
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{pid}/stat", encoding="ascii") as file,
            ):
                if re.match(r"\d+ \((sh|python3?[.\d]*)\) S", file.read()):
                    return os.pidfd_open(pid)
        os.sched_yield()


def is_gone(child: int, within_s: float = PATIENCE_S) -> bool:
    """Whether the child ends in time."""
    waiting = select.poll()
    waiting.register(child, select.POLLIN)
    gone = bool(waiting.poll(within_s * 1000))
    os.close(child)
    return gone


def outcomes(daemon: Running) -> list[str]:
    """How its compactions ended."""
    events = [entry.event for entry in daemon.entries()]
    return [event.outcome for event in events if isinstance(event, CompactionEnded)]


def test_free_memory_is_gathered_and_no_child_is_left(guest: FakeGuest, start: Start) -> None:
    daemon = start()
    daemon.does(Compact)
    while not outcomes(daemon):
        os.sched_yield()
    assert outcomes(daemon)[0] == "done"
    assert guest.received(TRIGGER) == b"1\n"
    while children(daemon):  # a zombie would stay
        os.sched_yield()
    code, told = daemon.ends()
    assert code == 0
    assert "Traceback" not in told


@pytest.mark.usefixtures("_endless")
def test_ends_at_sigterm_and_its_child_with_it(guest: FakeGuest, start: Start) -> None:
    daemon = start()
    child = blocked_child(daemon)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=PATIENCE_S) == 0
    assert is_gone(child, 0)
    _, told = daemon.process.communicate(timeout=PATIENCE_S)
    assert "ends_in_mid_work" not in told


@pytest.mark.usefixtures("_endless")
def test_no_child_outlives_it_when_it_is_killed(start: Start) -> None:
    daemon = start()
    child = blocked_child(daemon)
    daemon.process.kill()
    assert is_gone(child)


@pytest.mark.usefixtures("_endless")
def test_compactions_that_are_not_wanted_any_more_end_in_mid_compaction(
    guest: FakeGuest, start: Start
) -> None:
    daemon = start()
    child = blocked_child(daemon)
    guest.shows("/etc/mine.toml", QUIET + UNHEARD + "[compact]\ndisabled = true\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert is_gone(child)
    while not outcomes(daemon):  # a daemon that ends listens to no answer any more
        os.sched_yield()
    code, told = daemon.ends()
    assert code == 0
    assert "Traceback" not in told
    assert outcomes(daemon) == ["broken_off"]
