"""Compactions by a child, on a kernel that takes its time: a pipe into which nothing fits."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from kernelio.psi import TriggerSet
from memreact.actions import Compact, ReadFragmentation
from memreact.actuator.compaction import PROGRAMS, Compactor
from memreact.events import CompactionEnded
from memreact.gate import Gate
from memreact.sources.pressure import now_us
from memreact.sources.waiter import Waiter
from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.kernel_files import shows_stall
from tests.stuck import fill

ROOT = Path(__file__).parents[3]
TRIGGER = "/sys/devices/system/node/node0/compact"
PATIENCE_MS = 20_000  # bounds a failure; nothing waits for it when all is well
LATER = 2**62
CANNOT_RUN = ("/bin/sh", "-c", "exit 127")


def vmstat(moved: int) -> str:
    return (
        f"pgmigrate_success {moved}\ncompact_migrate_scanned 5\ncompact_free_scanned 5\n"
        "compact_isolated 5\n"
    )


class Bench:
    """A guest that can be compacted, a gate, and one that does it."""

    def __init__(self, guest: FakeGuest, programs: Sequence[Sequence[str]] = PROGRAMS) -> None:
        self.guest = guest
        self.gate = Gate()
        self.compactor = Compactor(self.gate, None, programs)
        for name in ("buddyinfo", "zoneinfo", "meminfo", "pagetypeinfo"):
            guest.shows(f"/proc/{name}", golden_text(f"6.12/proc/{name}"))
        guest.shows("/proc/vmstat", vmstat(100))
        guest.shows(TRIGGER, "")
        shows_stall(guest, "", 40, 2)

    def compact(self, node: int = 0, ends_by: int = LATER, **other: bool) -> CompactionEnded:
        """Have a node compacted, as decided now."""
        work = Compact(node, ends_by, **other)
        return self.compactor.compact(self.guest.layout, "/", work, self.gate.token(0))


@pytest.fixture
def bench(guest: FakeGuest) -> Iterator[Bench]:
    made = Bench(guest)
    yield made
    made.compactor.close()
    assert children() == []


def children() -> list[int]:
    """Our own children of all threads, zombies with them."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        with (
            suppress(
                FileNotFoundError, ProcessLookupError
            ),  # that thread ended, and its children are another's
            open(f"/proc/self/task/{thread}/children", encoding="ascii") as file,
        ):
            found += map(int, file.read().split())
    return found


class Full:
    """A trigger whose write goes on until it is broken off."""

    def __init__(self, guest: FakeGuest) -> None:
        path = guest.path(TRIGGER)
        guest.loses(TRIGGER)
        os.mkfifo(path)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        fill(self.writer)

    def close(self) -> None:
        """Let all writers fail."""
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def full(bench: Bench) -> Iterator[Full]:
    made = Full(bench.guest)
    yield made
    made.close()


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_writes_to_the_nodes_file(guest: FakeGuest, program: Sequence[str]) -> None:
    bench = Bench(guest, [program])
    ended = bench.compact()
    assert (ended.node, ended.outcome, ended.detail) == (0, "done", "")
    assert guest.received(TRIGGER) == b"1\n"
    assert ended.took_us > 0
    assert ended.after is not None
    assert [zone.zone for zone in ended.after.zones] == ["DMA", "DMA32"]
    assert ended.after.pressure.guest.guest_us == 42
    assert children() == []


def test_a_kernel_without_nodes_is_told_what_it_takes(bench: Bench) -> None:
    bench.guest.loses("/sys/devices/system/node")
    bench.guest.shows("/proc/sys/vm/compact_memory", "")
    assert bench.compact().outcome == "done"
    assert bench.guest.received("/proc/sys/vm/compact_memory") == b"1\n"


def test_tells_how_many_pages_were_moved_meanwhile(guest: FakeGuest) -> None:
    moves = ("/bin/sh", "-c", f'echo "{vmstat(350)}" > {guest.path("/proc/vmstat")}')
    assert Bench(guest, [moves]).compact().migrated_pages == 250


def test_a_kernel_that_counts_nothing_moved_nothing_that_we_know_of(bench: Bench) -> None:
    bench.guest.loses("/proc/vmstat")
    ended = bench.compact()
    assert (ended.outcome, ended.migrated_pages) == ("done", 0)


def test_page_types_are_looked_at_where_the_rule_needs_them(bench: Bench) -> None:
    after = bench.compact(with_movable=True).after
    assert after is not None
    assert after.movable_small_pages is not None
    after = bench.compact().after
    assert after is not None
    assert after.movable_small_pages is None


class Limits:
    """Records when the lists of the CPUs were emptied: before the child wrote, or after."""

    def __init__(self, guest: FakeGuest) -> None:
        self.written: list[bytes] = []
        self._guest = guest
        guest.shows("/proc/sys/vm/percpu_pagelist_high_fraction", "0")
        guest.shows("/proc/sys/vm/stat_refresh", "")

    def remember_switch(self, path: str, before: str) -> bool:  # noqa: ARG002  # always
        """Take it for recorded."""
        return True

    def put_back_one(self, path: str) -> None:  # noqa: ARG002  # there is one
        """Look at what the child has written by then."""
        self.written.append(self._guest.received(TRIGGER))
        self._guest.shows("/proc/sys/vm/percpu_pagelist_high_fraction", "0")


@pytest.fixture
def limits(bench: Bench) -> Limits:
    made = Limits(bench.guest)
    bench.compactor = Compactor(bench.gate, made)
    return made


def test_cpus_let_go_of_free_pages_before_it_and_after_it(bench: Bench, limits: Limits) -> None:
    bench.compact()
    assert limits.written == []
    assert bench.compact(let_go=True).outcome == "done"
    assert limits.written == [b"1\n", b"1\n"]
    bench.guest.shows(TRIGGER, "")
    bench.compact(let_go=True)
    assert limits.written[2:] == [b"", b"1\n"]


def test_cpus_let_go_before_a_look_too(bench: Bench, limits: Limits) -> None:
    seen = bench.compactor.look(
        bench.guest.layout, "/", ReadFragmentation("auto", let_go=True), bench.gate.token(0)
    )
    assert seen.failed is None
    assert len(limits.written) == 1


def test_nothing_is_let_go_while_others_want_us_to_stop(bench: Bench, limits: Limits) -> None:
    work = Compact(0, LATER, let_go=True)
    token = bench.gate.token(0)
    bench.gate.stop_from_loop()
    ended = bench.compactor.compact(bench.guest.layout, "/", work, token)
    assert ended.outcome == "held_back"
    assert limits.written == []


def test_a_stop_before_it_began_holds_it_back(bench: Bench) -> None:
    token = bench.gate.token(0)
    bench.gate.stop_from_waiter()
    work = Compact(0, LATER)
    ended = bench.compactor.compact(bench.guest.layout, "/", work, token)
    assert ended.outcome == "held_back"
    assert bench.guest.received(TRIGGER) == b""


def compact_until(bench: Bench, stop: str, **other: bool) -> CompactionEnded:
    """Compact on a thread, and stop once the child is there and blocked in its write."""
    ended: list[CompactionEnded] = []
    worker = threading.Thread(target=lambda: ended.append(bench.compact(**other)))
    worker.start()
    wait_until_blocked()
    getattr(bench.gate, stop)()
    worker.join(PATIENCE_MS / 1000)
    return ended[0]


def wait_until_blocked() -> None:
    """Return once a child of ours sleeps in its write."""
    while not any(_sleeps_in_write(child) for child in children()):
        os.sched_yield()


def _sleeps_in_write(pid: int) -> bool:
    """Whether it is the last of its programs, and waits: there is nothing else it waits for."""
    with suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return re.match(r"\d+ \((sh|python3?[.\d]*)\) S", file.read()) is not None
    return False


@pytest.mark.parametrize("stop", ["stop_from_waiter", "stop_from_loop"])
def test_whoever_stops_kills_the_child(bench: Bench, full: Full, stop: str) -> None:
    ended = compact_until(bench, stop)
    assert (ended.outcome, ended.detail) == ("broken_off", "")
    assert ended.after is not None
    assert not bench.gate.must_kick
    assert children() == []


def test_a_trigger_that_fires_kills_the_child_before_the_loop_hears_of_it(
    bench: Bench, full: Full
) -> None:
    heard: list[int] = []
    triggers = TriggerSet()
    waiter = Waiter(triggers, bench.gate, lambda _fired, stops: heard.append(stops))
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    triggers.add(near.fileno(), "/shop")  # urgent data comes as EPOLLPRI, as a trigger's event does
    ended: list[CompactionEnded] = []
    worker = threading.Thread(target=lambda: ended.append(bench.compact()))
    worker.start()
    wait_until_blocked()
    waiter.start()
    far.send(b"!", socket.MSG_OOB)
    worker.join(PATIENCE_MS / 1000)
    near.recv(1, socket.MSG_OOB)
    waiter.close()
    triggers.close()
    for end in (far, near):
        end.close()
    assert [one.outcome for one in ended] == ["broken_off"]
    assert heard[0] == 1
    assert not bench.gate.open_for(bench.gate.token(0))


def test_what_was_stopped_is_not_followed_by_a_walk_over_free_lists(
    bench: Bench, full: Full
) -> None:
    after = compact_until(bench, "stop_from_loop", with_movable=True).after
    assert after is not None
    assert after.movable_small_pages is None


def test_it_is_broken_off_when_its_time_is_up(bench: Bench, full: Full) -> None:
    ended = bench.compact(ends_by=now_us() + 1000)
    assert (ended.outcome, ended.detail) == ("broken_off", "its time was up")


def test_one_whose_time_was_up_before_it_began_ends_at_once(bench: Bench, full: Full) -> None:
    assert bench.compact(ends_by=0).outcome == "broken_off"


def test_a_child_that_somebody_else_kills_is_told_as_such(guest: FakeGuest) -> None:
    ended = Bench(guest, [("/bin/sh", "-c", "kill -KILL $$")]).compact()
    assert (ended.outcome, ended.detail) == ("broken_off", "killed, and not by memreact")


class StoppedWhileStarting(Gate):
    """A gate that a stop passes between the last question and the child's start."""

    def open_for(self, token: int) -> bool:
        """Whether nothing was stopped, and then comes the stop, which finds nobody to kill."""
        is_open = super().open_for(token)
        self._waiter_stops = 1
        return is_open


def test_a_stop_while_the_child_is_being_started_is_not_lost(bench: Bench, full: Full) -> None:
    bench.gate = StoppedWhileStarting()
    bench.compactor = Compactor(bench.gate)
    assert bench.compact().outcome == "broken_off"


def test_after_the_end_whatever_is_started_is_killed(bench: Bench, full: Full) -> None:
    bench.compactor.end()
    ended = bench.compact()
    assert (ended.outcome, ended.detail) == ("broken_off", "")


def test_after_one_that_was_broken_off_comes_another(bench: Bench, full: Full) -> None:
    compact_until(bench, "stop_from_loop")
    bench.guest.loses(TRIGGER)
    bench.guest.shows(TRIGGER, "")
    assert bench.compact().outcome == "done"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_kernel_that_takes_no_such_order_refuses(
    guest: FakeGuest, program: Sequence[str]
) -> None:
    bench = Bench(guest, [program])
    guest.loses(TRIGGER)
    os.symlink("/dev/full", guest.path(TRIGGER))
    ended = bench.compact()
    assert (ended.outcome, ended.detail) == ("refused", "the kernel takes no order to compact")


def test_a_node_that_is_gone_and_a_kernel_that_does_not_compact(bench: Bench) -> None:
    assert bench.compact(node=3).outcome == "vanished"
    bench.guest.loses(TRIGGER)
    ended = bench.compact()
    assert ended.outcome == "unsupported"
    assert "node0/compact" in ended.detail


def test_where_the_best_program_cannot_run_the_next_does_from_then_on(guest: FakeGuest) -> None:
    log = guest.shows("/log", "")
    cannot = ("/bin/sh", "-c", f"echo tried >> {log}; exit 127")
    bench = Bench(guest, [("/no/such/program",), cannot, PROGRAMS[0]])
    assert bench.compact().outcome == "done"
    assert bench.compact().outcome == "done"
    assert guest.received("/log") == b"tried\n"


def test_where_no_program_can_run_each_time_the_last_is_tried(guest: FakeGuest) -> None:
    bench = Bench(guest, [("/no/such/program",), CANNOT_RUN])
    for _ in range(2):
        ended = bench.compact()
        assert (ended.outcome, ended.detail) == ("unsupported", "/bin/sh could not run")
    assert guest.received(TRIGGER) == b""


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_whose_parent_is_not_the_one_that_started_it_begins_nothing(
    program: Sequence[str],
) -> None:
    """It was an orphan before it could say that it wants to die with its parent."""
    orphan = subprocess.run([*program, "0"], check=False, capture_output=True)
    assert orphan.returncode == 3
    assert orphan.stdout == b""


DAEMON = """\
import os, sys, threading
from kernelio.layout import Layout
from memreact.actions import Compact, ReadFragmentation
from memreact.actuator.compaction import PROGRAMS, Compactor
from memreact.gate import Gate
compactor = Compactor(Gate(), None, [PROGRAMS[int(sys.argv[2])]])
compactor.compact(Layout(sys.argv[1]), "/", Compact(0, 2**62), 0)
"""


@pytest.mark.parametrize("which", range(len(PROGRAMS)))
def test_no_child_outlives_a_daemon_that_is_killed(bench: Bench, full: Full, which: int) -> None:
    path = os.pathsep.join((str(ROOT), str(ROOT / "schemas")))
    command = [sys.executable, "-c", DAEMON, bench.guest.root, str(which)]
    with subprocess.Popen(command, env={"PYTHONPATH": path}) as daemon:
        child = _grandchild(daemon.pid)
        daemon.send_signal(signal.SIGKILL)
        gone = select.poll()
        gone.register(child, select.POLLIN)
        assert gone.poll(PATIENCE_MS)
        os.close(child)


def _grandchild(daemon: int) -> int:
    """A pidfd of the daemon's child, once that is blocked in its write."""
    while True:
        with open(f"/proc/{daemon}/task/{daemon}/children", encoding="ascii") as file:
            found = [int(pid) for pid in file.read().split()]
        if found and _sleeps_in_write(found[0]):
            return os.pidfd_open(found[0])
        os.sched_yield()
