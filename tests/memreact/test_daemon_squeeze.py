"""A squeeze of a daemon that runs: asked for over its own socket, cancelled, and one at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from kernelio.meminfo import page_size
from memreact.actions import Decision, Evict
from memreact.events import SqueezeAsked, SqueezeCancelled
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import LRU_GEN, reporting_guest
from tests.memreact.test_daemon import LOOPS, WRITES_BLOCK, Running
from tests.memreact.test_daemon_control import SLOW, Caller

PAGE = page_size()
Start = Callable[..., Running]


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    """A guest below a short path, that tells its host of all that is free: 16 page frames."""
    root = tempfile.mkdtemp(prefix="m", dir="/tmp")
    yield reporting_guest(FakeGuest(root))
    shutil.rmtree(root)


@pytest.fixture(params=LOOPS)
def start(request: pytest.FixtureRequest, guest: FakeGuest) -> Iterator[Start]:
    """Start a daemon on one of the two loops."""
    started: list[Running] = []

    def running(first: str = "") -> Running:
        started.append(Running(guest, SLOW, request.param, first=first))
        return started[-1]

    yield running
    for one in started:
        one.close()


def ends(daemon: Running) -> list[Decision]:
    """How squeezes ended, by its trace."""
    decisions = (decision for entry in daemon.entries() for decision in entry.decisions)
    return [decision for decision in decisions if decision.verdict == "squeezed"]


def end_of(caller: Caller, **what: Any) -> dict[str, Any]:  # noqa: ANN401  # as a call takes them
    """Ask for a squeeze, and give its end."""
    answer = caller.asks("Squeeze", more=True, deadline_seconds=30, **what)
    while answer["end"] is None:
        answer = caller.hears()
    found: dict[str, Any] = answer["end"]
    return found


def test_what_goes_is_written_and_its_end_says_why_it_was_not_enough(
    start: Start, guest: FakeGuest
) -> None:
    daemon = start()
    daemon.hears("READY=1")
    with closing(Caller(guest)) as caller:
        end = end_of(caller, target_bytes=100 << 20)
        # The files of this guest say the same whatever is written: nothing was evicted.
        assert (end["because"], end["wanted_bytes"]) == ("nothing_left", 100 << 20)
        assert (end["reportable_bytes"], end["reported_bytes"]) == (16 * PAGE, 16 * PAGE)
        assert (end["reported_grew_bytes"], end["overrun_us"]) == (0, 0)
        assert sum(end["left_alone"].values()) > 0
        assert caller.asks("GetStatus")["status"]["version"]
    evictions = [
        action
        for entry in daemon.entries()
        for action in entry.actions
        if isinstance(action, Evict)
    ]
    assert evictions
    assert {action.path for action in evictions} == {"/shop"}
    assert guest.received(LRU_GEN).startswith(b"- 5 0 7 ")
    assert [decision.because.code for decision in ends(daemon)] == ["nothing_left"]
    assert daemon.ends()[0] == 0


def test_what_is_held_already_by_less_needs_no_write(start: Start, guest: FakeGuest) -> None:
    daemon = start()
    daemon.hears("READY=1")
    with closing(Caller(guest)) as caller:
        assert end_of(caller, held_percent=90)["because"] == "target"
    assert not any(isinstance(a, Evict) for entry in daemon.entries() for a in entry.actions)


def test_what_is_held_shows_and_outlives_its_client_until_it_is_released(
    start: Start, guest: FakeGuest
) -> None:
    daemon = start()
    daemon.hears("READY=1")
    with closing(Caller(guest)) as caller:
        end = end_of(caller, held_percent=90, then="hold", hold_seconds=600)
        assert end["held_until_us"] > 0
    with closing(Caller(guest)) as caller:
        keep = caller.asks("GetStatus", cgroups=False)["status"]["keep"]
        assert (keep["by"], keep["until_us"]) == ("root", end["held_until_us"])
        answer = caller.fails("Squeeze", more=True, cold=True, deadline_seconds=5)
        assert answer["error"] == "io.memreact.Busy"
        caller.asks("ReleaseSqueeze")
        assert caller.asks("GetStatus", cgroups=False)["status"]["keep"] is None
    assert daemon.ends()[0] == 0


def test_a_second_one_is_busy_and_the_first_ends_when_its_client_goes(
    start: Start, guest: FakeGuest
) -> None:
    daemon = start(first=WRITES_BLOCK)
    daemon.hears("READY=1")
    with closing(Caller(guest)) as second, closing(Caller(guest)) as first:
        first.asks("Squeeze", more=True, target_bytes=100 << 20, deadline_seconds=3000)
        while not any(isinstance(a, Evict) for entry in daemon.entries() for a in entry.actions):
            os.sched_yield()
        answer = second.fails("Squeeze", more=True, cold=True, deadline_seconds=5)
        assert (answer["error"], answer["parameters"]["by"]) == ("io.memreact.Busy", "root")
        assert 0 < answer["parameters"]["left_us"] <= 3_000_000_000
        first.close()
        while not ends(daemon):
            os.sched_yield()
    assert [decision.because.code for decision in ends(daemon)] == ["cancelled"]
    asked = [e.event for e in daemon.entries() if isinstance(e.event, SqueezeAsked)]
    gone = [e.event for e in daemon.entries() if isinstance(e.event, SqueezeCancelled)]
    assert (len(asked), gone) == (1, [SqueezeCancelled("root")])
    code, told_last = daemon.ends()
    assert code == 0
    assert "Traceback" not in told_last


def test_it_ends_with_the_daemon(start: Start, guest: FakeGuest) -> None:
    daemon = start(first=WRITES_BLOCK)
    daemon.hears("READY=1")
    with closing(Caller(guest)) as caller:
        caller.asks("Squeeze", more=True, target_bytes=100 << 20, deadline_seconds=3000)
        while not any(isinstance(a, Evict) for entry in daemon.entries() for a in entry.actions):
            os.sched_yield()
        code, told = daemon.ends()
    assert code == 0
    assert "Traceback" not in told
    assert "ends_in_mid_work" not in told
