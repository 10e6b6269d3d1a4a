"""The daemon and the child that compacts for it, from the first check to whatever ends both."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from memreact.actions import Action, Compact, ReadFragmentation
from memreact.events import CompactionEnded, RulesChanged
from memreact_schemas.agent import COMPACT_CONFIG, MemAgentCompactConfig
from memreact_schemas.protobuf import encode
from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.control.ttrpc_ends import call
from tests.memreact.full_guest import full_guest
from tests.memreact.test_daemon import PATIENCE_S, QUIET, UNHEARD, Running
from tests.stuck import full_fifo

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
def guest() -> Iterator[FakeGuest]:
    """A guest below a short path: the name of a unix socket has 107 bytes."""
    root = tempfile.mkdtemp(prefix="m", dir="/tmp")
    yield FakeGuest(root)
    shutil.rmtree(root)


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
    with full_fifo(guest.path(TRIGGER)):
        yield


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


def pushed(guest: FakeGuest, **keys: int | bool) -> None:
    """Set keys of [compact] as Kata's client does, and hear the answer."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(PATIENCE_S)
        caller.connect(guest.path("/run/memreact/agent.sock"))
        keys_said = encode(COMPACT_CONFIG, MemAgentCompactConfig(**keys))  # type: ignore[arg-type]
        caller.sendall(call("MemAgentCompactSet", keys_said))
        assert caller.recv(1 << 16)


def after_the_push(daemon: Running) -> list[Action | str]:
    """What it did from the step on that took in the change, and why; less what it armed."""
    entries = daemon.entries()
    first = next(at for at, one in enumerate(entries) if isinstance(one.event, RulesChanged))
    done: list[Action | str] = []
    for entry in entries[first:]:
        done += [one for one in entry.actions if isinstance(one, Compact | ReadFragmentation)]
        done += [told.because.code for told in entry.decisions]
    return done


def compacts_again(done: list[Action | str]) -> bool:
    """Whether free memory was looked at, and a compaction began by the changed settings."""
    kinds = [type(one) for one in done]
    return Compact in kinds and ReadFragmentation in kinds[: kinds.index(Compact)]


def at_order_five(done: list[Action | str]) -> bool:
    """Whether both the look and the compaction are at the order that was pushed."""
    orders = [one.order for one in done if isinstance(one, Compact | ReadFragmentation)]
    return compacts_again(done) and set(orders) == {5}


def ends_for_good(done: list[Action | str]) -> bool:
    """Whether it ended for that reason, and not even a look followed."""
    return "plan_changed" in done and all(isinstance(one, str) for one in done)


def by_fragments(done: list[Action | str]) -> bool:
    """Whether it was looked at again, and not forced any more."""
    return bool({"fragments_grew", "below_threshold"} & {*done}) and "forced" not in done


ROWS: dict[str, tuple[int | bool, Callable[[list[Action | str]], bool]]] = {
    "disabled": (True, ends_for_good),
    "period_secs": (3600, compacts_again),
    "period_psi_percent_limit": (90, compacts_again),
    "compact_psi_percent_limit": (90, compacts_again),
    "compact_sec_max": (0, lambda done: "no_time" in done),
    "compact_order": (5, at_order_five),
    "compact_threshold": (7, compacts_again),
    "compact_force_times": (2**63 - 1, by_fragments),
}


@pytest.mark.usefixtures("_endless")
@pytest.mark.parametrize("key", ROWS)
def test_each_option_of_katas_agent_acts_on_the_compaction_that_runs_when_it_is_pushed(
    guest: FakeGuest, start: Start, key: str
) -> None:
    value, has_acted = ROWS[key]
    daemon = start()
    child = blocked_child(daemon)
    pushed(guest, **{key: value})
    assert is_gone(child)
    while not (outcomes(daemon) and has_acted(after_the_push(daemon))):
        os.sched_yield()
    assert outcomes(daemon)[0] == "broken_off"


def test_every_option_that_the_call_has_is_pushed_above() -> None:
    assert list(ROWS) == list(MemAgentCompactConfig.__struct_fields__)
