"""The daemon where something is short, full, stuck or flooded."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from kernelio.cgroup import walk
from kernelio.errors import Refused
from kernelio.inotify import Inotify
from memreact.events import (
    CapabilitiesRead,
    ClockDisturbed,
    GuestPressure,
    Instant,
    MemcgAppeared,
    MemcgGone,
    MemcgView,
    PressureSample,
    Surveyed,
)
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import ENABLED, LRU_GEN, full_guest
from tests.memreact.kernel_files import shows_memcg
from tests.memreact.test_daemon import (
    BUSY,
    NOTHING_ENDS,
    PATIENCE_S,
    QUIET,
    UNHEARD,
    Alive,
    Odd,
    Running,
    was_switched_on,
)

Start = Callable[..., Running]
DEVICE = ClockDisturbed("device_changed")


@pytest.fixture
def start(guest: FakeGuest) -> Iterator[Start]:
    """Start a daemon."""
    started: list[Running] = []

    def running(settings: str = QUIET, **how: int | str) -> Running:
        started.append(Running(guest, settings, "uvloop", **how))  # type: ignore[arg-type]
        return started[-1]

    yield running
    for one in started:
        one.close()


# What is short


def without_watches(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Let the kernel have so many watches for cgroups, and no more."""
    adds, given = Inotify.add, 0

    def add(self: Inotify, path: str, mask: int) -> int:
        nonlocal given
        if "/sys/fs/cgroup" in path:
            given += 1
            if given > left:
                raise Refused(path, errno.ENOSPC, "no watches left")
        return adds(self, path, mask)

    monkeypatch.setattr(Inotify, "add", add)


def surveyed(guest: FakeGuest) -> Surveyed:
    views = tuple(MemcgView(path, inode, 0, 0, 0) for path, inode in walk(guest.layout))
    return Surveyed(views, PressureSample(Instant(0), GuestPressure(0)))


def told(alive: Alive, what: str) -> list[str]:
    return [line for line in alive.lines if line.startswith(what)]


@pytest.mark.asyncio
async def test_memcgs_that_are_not_watched_are_told_of_again_when_twice_as_many(
    guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_watches(monkeypatch, 1)
    alive = Alive(guest)
    assert told(alive, "cgroups_not_watched") == ["cgroups_not_watched n=3\n"]
    for number in range(4):
        shows_memcg(guest, f"/later{number}")
        alive.daemon._mailbox.post(surveyed(guest))
        alive.daemon._mail()
    await alive.ends()
    assert told(alive, "cgroups_not_watched")[1:] == ["cgroups_not_watched n=6\n"]
    appeared = {event.path for event in alive.events() if isinstance(event, MemcgAppeared)}
    assert {f"/later{number}" for number in range(4)} < appeared


@pytest.mark.asyncio
async def test_memcgs_beyond_the_bound_are_told_of(
    guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelio.cgroup.MEMCGS_MAX", 3)
    alive = Alive(guest)
    await alive.ends()
    assert told(alive, "cgroups_left_out") == ["cgroups_left_out n=1\n"]


@pytest.mark.asyncio
async def test_what_a_survey_finds_is_known_before_it_is_planned_on(guest: FakeGuest) -> None:
    alive = Alive(guest)
    os.unlink(guest.path("/sys/fs/cgroup/shop/memory.current"))  # nothing tells of that
    alive.daemon._mailbox.post(surveyed(guest))
    alive.daemon._mail()
    shows_memcg(guest, "/shop")
    alive.daemon._mailbox.post(surveyed(guest))
    alive.daemon._mail()
    await alive.ends()
    heard = [
        type(event)
        for event in alive.events()
        if isinstance(event, Surveyed) or getattr(event, "path", "") == "/shop"
    ]
    assert heard == [MemcgAppeared, MemcgGone, Surveyed, MemcgAppeared, Surveyed]


# What is full


def full_pipe() -> tuple[int, int]:
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
    os.write(into, b"x" * 4095 + b"\n")
    return out, into


def full_stream() -> tuple[int, int]:
    out, into = (end.detach() for end in socket.socketpair())
    os.set_blocking(into, False)
    with suppress(BlockingIOError):
        while True:
            os.write(into, b"x" * 1023 + b"\n")
    os.set_blocking(into, True)
    return out, into


@pytest.mark.parametrize("full", [full_pipe, full_stream])
def test_a_journal_that_reads_nothing_holds_up_nothing(
    guest: FakeGuest, start: Start, full: Callable[[], tuple[int, int]]
) -> None:
    out, into = full()
    daemon = start(stderr=into)  # no cgroups here: it has something to say
    os.close(into)
    assert "idle" in daemon.hears("READY=1")
    guest.shows("/etc/mine.toml", "[memcg]\nperiod_sex = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.hears("READY=1")
    os.set_blocking(out, False)
    while select.select([out], [], [], 0)[0]:
        os.read(out, 1 << 16)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.hears("READY=1")
    said = os.read(out, 1 << 16).decode()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=PATIENCE_S) == 0
    os.close(out)
    lost = re.match(r"lines_lost n=(\d+)\nsettings_refused ", said)
    assert lost is not None
    assert int(lost[1]) >= 2


# What is flooded


@pytest.mark.asyncio
async def test_a_storm_of_devices_reads_the_guest_once_and_again_a_second_later(
    guest: FakeGuest,
) -> None:
    alive, odd = Alive(guest), Odd(*[DEVICE] * 50)
    for _ in range(20):
        alive.daemon._read(odd)
    odd.close()
    read = [event for event in alive.events() if isinstance(event, CapabilitiesRead)]
    assert len(read) == 2  # at start, and at once
    assert alive.daemon._disturbances._waiting == DEVICE
    await alive.ends()


# What is stuck


def test_a_turn_that_is_stuck_feeds_the_watchdog_no_more(guest: FakeGuest, start: Start) -> None:
    full_guest(guest)
    impatient = "from memreact import daemon\ndaemon._STUCK_US = 0\n"
    daemon = start(BUSY, first=NOTHING_ENDS + impatient, WATCHDOG_USEC="100000")
    daemon.hears("WATCHDOG=1")
    daemon.tells("evicts")
    while select.select([daemon.systemd], [], [], 0)[0]:
        daemon.systemd.recv(4096)
    assert daemon.is_silent()


@pytest.mark.asyncio
async def test_other_settings_stop_what_was_decided_by_the_old(guest: FakeGuest) -> None:
    alive = Alive(guest)
    token = alive.daemon._gate.token(alive.daemon._hands.stops_handled)
    guest.shows("/etc/mine.toml", BUSY + UNHEARD)
    alive.daemon.reload()
    assert not alive.daemon._gate.open_for(token)
    await alive.ends()


def test_where_lru_gen_cannot_be_opened_it_idles_and_says_why(
    guest: FakeGuest, start: Start
) -> None:
    full_guest(guest)
    no_fds = f"""
from kernelio.errors import Refused
from kernelio.mglru import LruGen
def no_fds(path):
    raise Refused(path, {errno.EMFILE}, "Too many open files")
LruGen.open = no_fds
"""
    daemon = start(BUSY, first=no_fds)
    assert "idle: lru_gen cannot be opened" in daemon.hears("READY=1")
    code, said = daemon.ends()
    assert code == 0
    assert f'idle because="lru_gen cannot be opened ({guest.path(LRU_GEN)}: Too many' in said


# What is set up before all else


@pytest.mark.parametrize(("unit", "left"), [("", b"0x0002"), ("unit", b"0x0007")])
def test_what_was_switched_on_is_left_to_our_own_unit_alone(
    guest: FakeGuest, start: Start, unit: str, left: bytes
) -> None:
    """Whatever is started below any unit has INVOCATION_ID."""
    was_switched_on(full_guest(guest))
    daemon = start(MEMREACT_PUT_BACK=unit, INVOCATION_ID="abc")
    daemon.hears("READY=1")
    assert daemon.ends()[0] == 0
    assert guest.received(ENABLED).startswith(left)


def test_lines_have_priorities_only_where_the_journal_reads_them(
    guest: FakeGuest, start: Start
) -> None:
    out, into = os.pipe()
    there = os.fstat(into)
    daemon = start(stderr=into, JOURNAL_STREAM=f"{there.st_dev}:{there.st_ino}")
    daemon.hears("READY=1")
    os.close(into)
    assert os.read(out, 4096).startswith(b"<4>idle ")
    os.close(out)
    os.unlink(guest.path("/notify"))
    by_hand = start(JOURNAL_STREAM="1:1")
    by_hand.hears("READY=1")
    assert by_hand.ends()[1].startswith("idle ")


def test_memory_is_locked_as_it_is_touched(guest: FakeGuest, start: Start) -> None:
    daemon = start()
    daemon.hears("READY=1")
    with open(f"/proc/{daemon.process.pid}/status", encoding="utf-8") as file:
        locked_kib = int(re.findall(r"VmLck:\s+(\d+) kB", file.read())[0])
    code, said = daemon.ends()
    assert code == 0
    assert locked_kib > 0 or "memory_not_locked" in said


def test_the_waiting_thread_gets_the_interpreter_within_a_tenth_of_a_millisecond(
    guest: FakeGuest, start: Start
) -> None:
    at_exit = "lambda: print(f'interval {sys.getswitchinterval():.6f}', file=sys.stderr)"
    daemon = start(first=f"import atexit, sys\natexit.register({at_exit})\n")
    daemon.hears("READY=1")
    _, said = daemon.ends()
    assert "interval 0.000100\n" in said
