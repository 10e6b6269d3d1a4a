"""The whole daemon as a process of its own, on a guest made of files and on this machine."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import cycle
from typing import Any

import pytest

from kernelio.errors import Unsupported
from kernelio.inotify import IN_MODIFY, Inotify
from kernelio.process import voluntary_switches
from kernelio.psi import Fired
from memreact.actions import Action, Evict, Inspect, Survey
from memreact.control.store import SettingsStore
from memreact.daemon import Daemon
from memreact.events import (
    BatchEnded,
    ClockDisturbed,
    Event,
    GuestPressure,
    Inspected,
    Instant,
    MemcgAppeared,
    MemcgGone,
    PressureSample,
    RulesChanged,
    StallSeen,
    Stopping,
    Surveyed,
)
from memreact.policy.state import State, Step
from memreact.replay.moments import moments
from memreact.replay.verify import verify
from memreact.rules import Rules
from memreact.run_dir import RunDir
from memreact.settings.files import files_watched, read_layers
from memreact.sources.config_files import ConfigFiles
from memreact.sources.machine import DeviceWatch
from memreact.sources.pressure import now_us
from memreact.systemd import Notifier
from memreact.telemetry import status as status_module
from memreact.telemetry.journal import Journal
from memreact.telemetry.possible import first_of_all
from memreact.telemetry.trace import Entry, Trace, entries_in
from memreact_schemas.recording import opened, read_lines
from memreact_schemas.status import NextEviction, Status
from memreact_schemas.trace import Failed
from tests.effort import DAEMONS_LOOPS
from tests.fake_guest import FakeGuest
from tests.memreact.daemon_parent import Order
from tests.memreact.forked import Forked
from tests.memreact.full_guest import ENABLED, LRU_GEN, full_guest
from tests.memreact.kernel_files import shows_memcg, shows_stall

PATIENCE_S = 40  # bounds a failure; nothing waits for it when all is well
SILENCE_S = 1.5  # how long nothing must happen
PROGRAM = """
from memreact.process import run
sys.exit(run(sys.argv[1], loop=sys.argv[2], root=sys.argv[3], trace=sys.argv[4] or None))
"""
# Writes to lru_gen wait in the kernel, as those of a large memcg do, until they are kicked.
WRITES_BLOCK = """
import os
from kernelio.mglru import LruGen
_, full = os.pipe()
os.set_blocking(full, False)
try:
    while True:
        os.write(full, bytes(4096))
except BlockingIOError:
    os.set_blocking(full, True)
LruGen.open = classmethod(lambda cls, path: cls(os.dup(full), path))
"""
NOTHING_ENDS = """
import sys, time
from kernelio.mglru import LruGen
def evict(*ignored, **all_of_it):
    print("evicts", file=sys.stderr, flush=True)
    time.sleep(3600)
LruGen.evict = evict
"""
QUIET = "[memcg]\ndisabled = true\n"
BUSY = "[memcg]\nperiod_secs = 1\neviction_run_aging_count_min = 1\nswap = true\n"
UNHEARD = "[control]\nvsock = false\n"  # its ports are the machine's own
LOOPS = DAEMONS_LOOPS


class Running:
    """A memreact that runs, and systemd that listens to it."""

    def __init__(  # noqa: PLR0913  # each has a default
        self,
        guest: FakeGuest,
        settings: str,
        loop: str,
        *,
        native: bool = False,
        stderr: int = subprocess.PIPE,
        first: str = "",
        **environ: str,
    ) -> None:
        self.guest = guest
        self.settings = guest.shows("/etc/mine.toml", settings + UNHEARD)
        self.trace = guest.path("/trace")
        address = guest.path("/notify")
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(address)
        self.systemd.settimeout(PATIENCE_S)
        self.said: list[str] = []
        root = "" if native else guest.root
        ours = {key: value for key, value in os.environ.items() if key != "MEMREACT_PUT_BACK"}
        environ = {**ours, "NOTIFY_SOCKET": address, **environ}
        words = ["memreact", self.settings, loop, root, self.trace]
        self.process = Forked(Order(first + PROGRAM, words, environ), stderr)

    def hears(self, wanted: str) -> str:
        """Wait until systemd hears something that begins so, or holds it."""
        gives_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < gives_up_at:
            said = self.systemd.recv(4096).decode()
            self.said.append(said)
            if wanted in said:
                return said
        pytest.fail(f"never heard {wanted}: {self.said}")

    def tells(self, wanted: str) -> str:
        """Wait for a line on stderr that holds this."""
        assert self.process.stderr is not None
        watchdog = threading.Timer(PATIENCE_S, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stderr:
                self.said.append(line)
                if wanted in line:
                    return line
        finally:
            watchdog.cancel()
        pytest.fail(f"never told {wanted}: {self.said}")

    def is_silent(self) -> bool:
        """Whether systemd hears nothing for some time."""
        return not select.select([self.systemd], [], [], SILENCE_S)[0]

    def ends(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Stop it, within a second, and give its exit status and what it told."""
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=PATIENCE_S)
        return self.process.wait(timeout=PATIENCE_S), told

    def entries(self) -> list[Entry]:
        """What it traced; a line that it is still writing comes with the next look."""
        with open(self.trace, "rb") as file:
            text = file.read()
        return list(entries_in(text[: text.rfind(b"\n") + 1]))

    def does(self, kind: type[Action]) -> None:
        """Wait until it is ready, and then until it begins to do this."""
        self.hears("READY=1")
        gives_up_at = time.monotonic() + PATIENCE_S
        watch = Inotify()
        watch.add(self.trace, IN_MODIFY)
        with closing(watch):
            while not any(isinstance(a, kind) for entry in self.entries() for a in entry.actions):
                left = gives_up_at - time.monotonic()
                assert left > 0, f"never did {kind.__name__}"
                select.select([watch], [], [], left)
                watch.read()

    def close(self) -> None:
        """End it, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)
        self.systemd.close()


Start = Callable[..., Running]


@pytest.fixture(params=LOOPS)
def start(request: pytest.FixtureRequest, guest: FakeGuest) -> Iterator[Start]:
    """Start a daemon on one of the two loops."""
    started: list[Running] = []

    def running(settings: str = QUIET, **how: Any) -> Running:  # noqa: ANN401  # as Running takes it
        started.append(Running(guest, settings, request.param, **how))
        return started[-1]

    yield running
    for one in started:
        one.close()


def test_starts_says_why_it_idles_and_stops(guest: FakeGuest, start: Start) -> None:
    daemon = start()
    assert daemon.hears("READY=1") == (
        "READY=1\nSTATUS=idle: no cgroup v2 memory controller (memreact doctor says more)"
    )
    code, told = daemon.ends()
    assert code == 0
    assert 'idle because="no cgroup v2 memory controller"' in told
    assert "Traceback" not in told
    assert daemon.hears("STOPPING=1")


def test_starts_and_stops_on_this_machine_whatever_it_lacks(start: Start) -> None:
    daemon = start(native=True)
    daemon.hears("READY=1")
    code, told = daemon.ends(signal.SIGINT)
    assert code == 0
    assert "Traceback" not in told


def was_switched_on(guest: FakeGuest) -> None:
    """By the run before this one."""
    guest.shows("/run/memreact/switched-on", f"{guest.path(ENABLED)}\t0x0002\n")


def test_ends_at_sigterm_with_a_write_in_the_kernel(guest: FakeGuest, start: Start) -> None:
    was_switched_on(full_guest(guest))
    daemon = start(BUSY, first=WRITES_BLOCK)
    daemon.does(Evict)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=PATIENCE_S) == 0
    assert guest.received(ENABLED).startswith(b"0x0002")
    _, told = daemon.process.communicate(timeout=PATIENCE_S)
    assert "ends_in_mid_work" not in told


def test_the_kernel_itself_breaks_a_write_off_and_the_answer_has_the_totals(
    guest: FakeGuest, start: Start
) -> None:
    """No trigger fires here, so that no thread of the daemon's kicks: the files change, no more."""
    full_guest(guest)
    daemon = start(BUSY, first=WRITES_BLOCK)
    daemon.does(Evict)
    files = cycle(guest.path(f"/sys/fs/cgroup/shop/{name}.pressure") for name in ("memory", "io"))
    with closing(Inotify()) as watch:
        watch.add(daemon.trace, IN_MODIFY)
        for path, _ in zip(files, range(PATIENCE_S * 100), strict=False):
            with open(path, "r+b") as file:
                file.write(b"s")  # what it begins with anyway
            select.select([watch], [], [], 0.01)
            watch.read()
            events = [entry.event for entry in daemon.entries()]
            broken_off = [e for e in events if isinstance(e, BatchEnded)]
            if broken_off:
                break
    assert broken_off[0].outcome == "broken_off"
    assert broken_off[0].after is not None
    assert broken_off[0].after.pressure.at >= broken_off[0].ended_at


def test_ends_at_sigterm_though_the_kernel_lets_nothing_go(guest: FakeGuest, start: Start) -> None:
    """An aging, or a read that waits for a lock: no kick ends it, the end of the process does."""
    was_switched_on(full_guest(guest))
    daemon = start(BUSY, first=NOTHING_ENDS)
    daemon.hears("READY=1")
    daemon.tells("evicts")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=PATIENCE_S) == 0
    assert guest.received(ENABLED).startswith(b"0x0002")
    _, told = daemon.process.communicate(timeout=PATIENCE_S)
    assert "ends_in_mid_work" in told
    assert "wakeup fd" not in told, "kicks that find the loop busy are no errors"
    assert daemon.entries()[-1].event == Stopping()


def test_while_idle_no_thread_wakes_up(guest: FakeGuest, start: Start) -> None:
    full_guest(guest)
    daemon = start()
    assert "nothing due" in daemon.hears("READY=1")
    before = None
    while before != (before := voluntary_switches(daemon.process.pid)):
        assert daemon.is_silent()
    assert len(before) == 4  # the loop, the worker, the waiter, the janitor
    assert daemon.is_silent()
    assert voluntary_switches(daemon.process.pid) == before


def test_a_turn_on_a_guest_is_a_survey_an_inspection_and_evictions(
    guest: FakeGuest, start: Start
) -> None:
    full_guest(guest)
    daemon = start(BUSY + "[log]\nlevel = 'debug'\n")
    daemon.tells("action=turn")
    daemon.ends()
    entries = daemon.entries()
    actions = [action for entry in entries for action in entry.actions]
    asked = [action for action in actions if isinstance(action, Survey | Inspect | Evict)]
    kinds = [type(action) for action in asked]
    assert kinds[0] is Survey
    assert kinds.index(Inspect) < kinds.index(Evict)
    evictions = [action for action in asked if isinstance(action, Evict)]
    assert evictions[0].path == "/shop"
    ended = [entry.event for entry in entries if isinstance(entry.event, BatchEnded)]
    assert ended[0].outcome == "done"
    assert guest.received(LRU_GEN).startswith(b"- 5 0 ")
    assert entries[-1].event == Stopping()


def test_what_it_traced_is_a_recording_that_is_decided_again(
    guest: FakeGuest, start: Start
) -> None:
    full_guest(guest)
    daemon = start(BUSY + "[log]\nlevel = 'debug'\n")
    daemon.tells("action=turn")
    guest.shows("/etc/mine.toml", BUSY.replace("= 1\n", "= 2\n", 1) + UNHEARD)
    daemon.tells("rules_changed")
    daemon.ends()
    with opened(daemon.trace) as file:
        done = verify(moments(read_lines(file)))
    assert done.difference is None
    assert done.steps == len(daemon.entries())
    assert done.decisions > 3


def test_what_it_switched_on_is_put_back_when_it_stops(guest: FakeGuest, start: Start) -> None:
    full_guest(guest, mglru="0x0002\n")
    daemon = start(BUSY)
    daemon.hears("READY=1")
    assert guest.received(ENABLED).startswith(b"7")
    code, told = daemon.ends()
    assert code == 0
    assert "lru_gen_switched_on before=0x0002" in told
    assert guest.received(ENABLED).startswith(b"0x0002")


def test_what_one_that_was_killed_had_lowered_for_a_moment_is_put_back_at_the_start(
    guest: FakeGuest, start: Start
) -> None:
    full_guest(guest, mglru="0x0002\n")
    lists = guest.shows("/proc/sys/vm/percpu_pagelist_high_fraction", "2000000000\n")
    guest.shows("/run/memreact/switched-on", f"{lists}\t8\n")
    daemon = start(BUSY)
    daemon.hears("READY=1")
    assert guest.received("/proc/sys/vm/percpu_pagelist_high_fraction").startswith(b"8")
    daemon.ends()


def test_a_second_memreact_idles_and_puts_nothing_back(guest: FakeGuest, start: Start) -> None:
    full_guest(guest, mglru="0x0002\n")
    first = start(BUSY)
    first.hears("READY=1")
    os.unlink(guest.path("/notify"))
    second = start(BUSY)
    assert "idle: another memreact" in second.hears("READY=1")
    assert second.ends()[0] == 0
    assert guest.received(ENABLED).startswith(b"7")
    assert first.process.poll() is None


def test_sighup_takes_good_settings_and_refuses_bad_ones(guest: FakeGuest, start: Start) -> None:
    full_guest(guest)
    daemon = start()
    assert "nothing due" in daemon.hears("READY=1")
    guest.shows("/etc/mine.toml", "[memcg]\nperiod_secs = 3600\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in daemon.hears("RELOADING=1")
    assert "next turn at" in daemon.hears("READY=1")
    guest.shows("/etc/mine.toml", "[memcg]\nperiod_sex = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.hears("RELOADING=1")
    shown = daemon.hears("READY=1")
    assert "settings refused (" in shown
    assert "next turn at" in shown
    code, told = daemon.ends()
    assert code == 0
    assert "settings_refused" in told
    assert "period_secs" in told  # the near one is suggested
    assert "revision=2" in told


def test_a_burst_of_sighups_ends_ready(guest: FakeGuest, start: Start) -> None:
    full_guest(guest)
    daemon = start()
    daemon.hears("READY=1")
    for _ in range(20):
        daemon.process.send_signal(signal.SIGHUP)
    daemon.hears("RELOADING=1")
    daemon.hears("READY=1")
    assert daemon.ends()[0] == 0


def test_cgroups_that_come_and_go_by_the_hundred_are_followed(
    guest: FakeGuest, start: Start
) -> None:
    full_guest(guest)
    daemon = start()
    daemon.hears("READY=1")
    for number in range(300):
        shows_memcg(guest, f"/burst{number}")
        guest.loses(f"/sys/fs/cgroup/burst{number}")
    daemon.process.send_signal(signal.SIGSTOP)  # a kernel shows a cgroup with all its files
    shows_memcg(guest, "/last\udcff one")
    daemon.process.send_signal(signal.SIGCONT)
    daemon.process.send_signal(signal.SIGHUP)  # answered when what came before was read, or later
    daemon.hears("READY=1")
    assert daemon.is_silent()
    assert daemon.ends()[0] == 0
    there: set[str] = set()
    for entry in daemon.entries():
        match entry.event:
            case MemcgAppeared(path):
                there.add(path)
            case MemcgGone(path):
                there.discard(path)
    assert there == {"/", "/memreact.slice", "/memreact.slice/memreact.service", "/shop"} | {
        "/last\\udcff one"
    }


def test_killed_in_mid_turn_it_starts_again(guest: FakeGuest, start: Start) -> None:
    full_guest(guest)
    first = start(BUSY, first=WRITES_BLOCK)
    first.does(Evict)
    first.process.kill()
    first.process.wait(PATIENCE_S)
    os.unlink(guest.path("/notify"))
    full_guest(guest)
    second = start(BUSY)
    assert "idle" not in second.hears("READY=1")
    assert second.ends()[0] == 0


def test_the_watchdog_is_fed_from_the_start(
    guest: FakeGuest, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    full_guest(guest)
    daemon = start()
    for _ in range(3):
        daemon.hears("WATCHDOG=1")
    assert daemon.ends()[0] == 0


def test_a_full_disk_under_the_trace_stops_nothing(guest: FakeGuest, start: Start) -> None:
    full_guest(guest)
    os.symlink("/dev/full", guest.path("/trace"))
    daemon = start(BUSY)
    daemon.hears("READY=1")
    code, told = daemon.ends()
    assert (code, "Traceback" in told) == (0, False)


def inner_life() -> tuple[set[str], set[str]]:
    """Threads and open files of this process, with what they are open on."""
    fds = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the directory that was read
            fds.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
    return {thread.name for thread in threading.enumerate()}, fds


class Alive:
    """A daemon on the loop of the test."""

    def __init__(self, guest: FakeGuest) -> None:
        full_guest(guest)
        self.guest = guest
        patient = BUSY.replace("= 1\n", "= 3600\n", 1)
        file = guest.shows("/etc/mine.toml", patient + UNHEARD)
        self.run_dir = RunDir(guest.path("/run/memreact"))
        self.lines: list[str] = []
        self.store = SettingsStore(
            lambda: read_layers(file, root=guest.layout.root),
            lambda fresh: self.daemon.settle(fresh),  # noqa: PLW0108  # there is none yet
            self.run_dir.pushed,
        )
        self.daemon = Daemon(
            self.store,
            files=ConfigFiles(*files_watched(file, root=guest.layout.root), Inotify()),
            layout=guest.layout,
            run_dir=self.run_dir,
            journal=Journal("debug", write=self.lines.append),
            notifier=Notifier({}),
            trace=Trace(guest.path("/trace")),
        )

    async def ends(self) -> None:
        """Stop it and wait for that."""
        self.daemon.stop()
        await asyncio.wait_for(self.daemon.until_stopped(), PATIENCE_S)
        self.run_dir.release()

    def events(self) -> list[Event]:
        """What it heard so far."""
        return [entry.event for entry in entries_in(self.guest.received("/trace"))]


@pytest.mark.asyncio
async def test_what_is_passed_over_is_told_at_each_reload_that_finds_it_new(
    guest: FakeGuest,
) -> None:
    alive = Alive(guest)

    def warned_of(words: str) -> list[str]:
        guest.shows("/proc/cmdline", f"quiet {words}\n")
        before = len(alive.lines)
        alive.daemon.reload()
        lines = [line for line in alive.lines[before:] if line.startswith("settings_warning ")]
        return [line.partition("kernel command line: ")[2].partition(":")[0] for line in lines]

    swap, period = "memreact.memcg.swap", "memreact.memcg.period_secs"
    assert warned_of("") == []
    assert warned_of(f"{swap}=maybe") == [swap]
    assert warned_of(f"{swap}=maybe") == []
    assert warned_of(f"{swap}=maybe {period}=0") == [period]
    assert warned_of(f"{period}=0") == []
    assert warned_of(f"{swap}=maybe") == [swap]
    await alive.ends()
    ends = "".join(alive.lines)
    assert ends.count("settings_warning ") == 3


@pytest.mark.asyncio
async def test_what_is_passed_over_at_the_start_is_told_once(guest: FakeGuest) -> None:
    alive = Alive(guest)
    guest.shows("/proc/cmdline", "memreact.memcg.swap=maybe\n")
    alive.store.reload()
    assert alive.store.settings.warnings
    await alive.ends()
    assert "".join(alive.lines).count("settings_warning ") == 1


@pytest.mark.asyncio
async def test_systemd_is_told_once_of_all_that_is_decided_at_once(
    guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Alive(guest)
    await asyncio.sleep(0)
    told: list[str] = []
    monkeypatch.setattr(alive.daemon._notifier, "status", told.append)
    for revision in range(5):
        alive.daemon.reactor.handle(RulesChanged(revision))
    assert told == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(told) == 1
    await alive.ends()


@pytest.mark.asyncio
async def test_for_systemd_and_all_who_follow_the_next_eviction_is_found_once(
    guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Alive(guest)
    await asyncio.sleep(0)
    found: list[NextEviction] = []

    def finds(state: State, rules: Rules, now: Instant) -> NextEviction:
        found.append(first_of_all(state, rules, now))
        return found[-1]

    told: list[str] = []
    monkeypatch.setattr(status_module, "first_of_all", finds)
    monkeypatch.setattr(alive.daemon._notifier, "status", told.append)
    following = alive.daemon._hub.subscribe(lambda: 1, lambda: None, decisions=False, status=True)
    alive.daemon.reactor.handle(RulesChanged(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    status = following.take()
    assert isinstance(status, Status)
    assert found == [status.next_eviction]
    assert found[0].text in told[0]
    following.close()
    await alive.ends()


@pytest.mark.asyncio
async def test_rows_of_a_status_are_kept_while_somebody_follows_and_until_a_survey(
    guest: FakeGuest,
) -> None:
    alive = Alive(guest)
    shown, reactor = alive.daemon._shown, alive.daemon.reactor
    there = len(reactor.state.memcgs)
    assert len((await shown.whole_status()).cgroups) == there
    assert len(shown._rows) == 0
    following = alive.daemon._hub.subscribe(lambda: 1, lambda: None, status=True)
    await shown.whole_status()
    assert len(shown._rows) == there
    reactor.handle(Surveyed((), PressureSample(now_us(), GuestPressure(0))))
    assert len(shown._rows) == 0
    await shown.whole_status()
    following.close()
    assert len(shown._rows) == 0
    await alive.ends()


@pytest.mark.asyncio
async def test_leaves_no_thread_and_no_fd_behind(guest: FakeGuest) -> None:
    await asyncio.sleep(0)
    before = inner_life()
    alive = Alive(guest)
    assert len(inner_life()[0] - before[0]) == 3
    for _ in range(3):
        alive.daemon.reload()
    guest.shows("/etc/mine.toml", BUSY + UNHEARD + "[log]\ndecisions = 77\n")
    alive.daemon.reload()
    await alive.ends()
    assert inner_life() == before
    assert any("because=rules_changed revision=2" in line for line in alive.lines)


@pytest.mark.asyncio
async def test_what_fired_is_looked_at_with_the_exact_totals_once_for_each_name(
    guest: FakeGuest,
) -> None:
    alive = Alive(guest)
    shows_stall(guest, "", 40, 2)
    shows_stall(guest, "/shop", 7)
    fired = [Fired("/shop", False, 1), Fired("/shop", False, 1), Fired("", False, 1)]  # noqa: FBT003
    for number, each in enumerate((*fired, Fired("/gone", True, 1)), 1):  # noqa: FBT003
        alive.daemon._fired(each, number if not each.gone else 0)
    alive.daemon._mail()
    await alive.ends()
    seen = [event for event in alive.events() if isinstance(event, StallSeen)]
    assert [(event.trigger, event.pressure.memcg_us) for event in seen] == [
        ("/shop", 7),
        ("guest", 0),
    ]
    assert seen[0].pressure.guest.guest_us == 42
    assert alive.daemon._hands.stops_handled == 3


@pytest.mark.asyncio
async def test_what_fired_is_looked_at_before_an_answer_begins_the_next_write(
    guest: FakeGuest,
) -> None:
    alive = Alive(guest)
    alive.daemon._mailbox.post(Inspected("/shop", None))
    alive.daemon._fired(Fired("", False, 1), 1)  # noqa: FBT003  # positional
    alive.daemon._mail()
    await alive.ends()
    heard = [event for event in alive.events() if isinstance(event, StallSeen | Inspected)]
    assert [type(event) for event in heard] == [StallSeen, Inspected]


@pytest.mark.asyncio
async def test_mail_wakes_the_loop(guest: FakeGuest) -> None:
    alive = Alive(guest)
    heard: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    def observe(event: Event, _made: Step, _now: Instant) -> None:
        if not heard.done():
            heard.set_result(event)

    alive.daemon.reactor._observe = observe
    poster = threading.Thread(target=alive.daemon._fired, args=(Fired("", False, 1), 1))  # noqa: FBT003
    poster.start()
    assert isinstance(await asyncio.wait_for(heard, PATIENCE_S), StallSeen)
    poster.join(PATIENCE_S)
    await alive.ends()


class Odd(DeviceWatch):
    """A source that is readable, and says this or fails."""

    def __init__(self, *events: ClockDisturbed) -> None:
        self.events = events
        self.fd = os.eventfd(1, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable for ever."""
        return self.fd

    def read(self) -> list[ClockDisturbed]:
        """Say it, or fail."""
        if not self.events:
            raise Unsupported("netlink", "no more")
        return list(self.events)

    def close(self) -> None:
        """Give the fd back."""
        os.close(self.fd)


@pytest.mark.asyncio
async def test_a_source_that_fails_is_watched_no_more_and_stops_nothing(guest: FakeGuest) -> None:
    alive, odd = Alive(guest), Odd()
    loop = asyncio.get_running_loop()
    loop.add_reader(odd.fileno(), alive.daemon._read, odd)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [line for line in alive.lines if "not_watched what=Odd" in line] == [alive.lines[-1]]
    assert not loop.remove_reader(odd.fileno())
    odd.close()
    await alive.ends()


@pytest.mark.asyncio
async def test_after_a_restored_snapshot_turns_lie_elsewhere_than_the_clones(
    guest: FakeGuest,
) -> None:
    alive, odd = Alive(guest), Odd(ClockDisturbed("snapshot_restored"))
    before = alive.daemon.reactor.state.guest
    alive.daemon._read(odd)
    after = alive.daemon.reactor.state.guest
    odd.close()
    await alive.ends()
    assert before is not None
    assert after is not None
    assert after.boot_phase != before.boot_phase
    assert RunDir(alive.run_dir.path).phase() == pytest.approx(after.boot_phase, abs=1e-9)


BUGS = {
    "on the loop": "daemon.Daemon.reload = lambda self: 1 / 0",
    "on the worker": "daemon.Worker._carry_out = lambda self, *job: 1 / 0",
}


def test_a_bug_leaves_nothing_switched_on_where_no_unit_puts_it_back(
    guest: FakeGuest, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_guest(guest, mglru="0x0002\n")
    bug = BUGS["on the loop"]
    monkeypatch.setattr(
        sys.modules[__name__], "PROGRAM", f"from memreact import daemon; {bug}\n{PROGRAM}"
    )
    limping = start(BUSY)
    limping.hears("READY=1")
    assert guest.received(ENABLED).startswith(b"7")
    limping.process.send_signal(signal.SIGHUP)
    limping.process.communicate(timeout=PATIENCE_S)
    assert limping.process.returncode == 1
    assert guest.received(ENABLED).startswith(b"0x0002")


@pytest.mark.parametrize("where", BUGS)
def test_a_bug_is_told_and_ends_the_daemon(
    guest: FakeGuest, start: Start, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh start is better than to limp on."""
    full_guest(guest)
    monkeypatch.setattr(
        sys.modules[__name__], "PROGRAM", f"from memreact import daemon; {BUGS[where]}\n{PROGRAM}"
    )
    limping = start(BUSY)
    limping.hears("READY=1")
    if where == "on the loop":
        limping.process.send_signal(signal.SIGHUP)
    _, told = limping.process.communicate(timeout=PATIENCE_S)
    assert limping.process.returncode == 1
    assert "ZeroDivisionError" in told
    assert limping.hears("STOPPING=1")
    (left,) = [name for name in os.listdir(guest.path("/run/memreact")) if "flight" in name]
    with opened(guest.path(f"/run/memreact/{left}")) as file:
        lines = [line for _, line in read_lines(file)]
    (failed,) = [line for line in lines if isinstance(line, Failed)]
    assert failed.error == "ZeroDivisionError: division by zero"
