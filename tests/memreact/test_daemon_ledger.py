"""The ledger of a daemon that runs: where the memory is, over its own socket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing

import pytest

from kernelio.meminfo import page_size
from memreact.sources.pressure import now_us
from memreact.telemetry.ledger import Ledger, accounted
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import reporting_guest
from tests.memreact.telemetry.test_ledger import MIB, SECOND, account, evicted
from tests.memreact.test_daemon import LOOPS, Alive, Running
from tests.memreact.test_daemon_control import SLOW, Caller

PAGE = page_size()


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    """A guest below a short path, of 64 page frames: 16 are free and reported, 3 lie alone."""
    root = tempfile.mkdtemp(prefix="m", dir="/tmp")
    yield reporting_guest(FakeGuest(root), alone=3)
    shutil.rmtree(root)


@pytest.fixture(params=LOOPS)
def daemon(request: pytest.FixtureRequest, guest: FakeGuest) -> Iterator[Running]:
    """A daemon on it, on one of the two loops."""
    running = Running(guest, SLOW, request.param)
    running.hears("READY=1")
    yield running
    running.close()


def test_a_status_tells_where_the_memory_is_when_it_is_asked_for_it(
    daemon: Running, guest: FakeGuest
) -> None:
    with closing(Caller(guest)) as caller:
        ledger = caller.asks("GetStatus", ledger=True)["status"]["ledger"]
        assert (ledger["total_bytes"], ledger["free_bytes"]) == (64 * PAGE, 19 * PAGE)
        assert (ledger["reportable_bytes"], ledger["reported_bytes"]) == (16 * PAGE, 16 * PAGE)
        assert ledger["free_held_bytes"] == {"fragmented": 3 * PAGE}
        assert sum(ledger["used_estimates_bytes"].values()) == 45 * PAGE
        assert ledger["reporting"] is None
        guest.loses("/proc/zoneinfo")
        ledger = caller.asks("GetStatus", ledger=True)["status"]["ledger"]
        assert "zoneinfo" in ledger["problem"]
        assert ledger["reported_bytes"] == 16 * PAGE


@pytest.mark.asyncio
async def test_evictions_that_begin_or_end_to_lead_to_nothing_are_a_line(guest: FakeGuest) -> None:
    alive = Alive(guest)
    began = now_us() / SECOND - 60

    def lines_after(ledger: Ledger) -> list[str]:
        before = len(alive.lines)
        alive.daemon._books._ledger = ledger
        alive.daemon._books.host_holds(1 << 30)
        return alive.lines[before:]

    def read(*reported_mib: int) -> Ledger:
        ledger = evicted(100, began=began, ended=began + 1)
        for number, size in enumerate(reported_mib):
            at_s = began + 5 + number
            ledger = accounted(ledger, account(at_s, 200 - size, 0, size, reported_mib=size))
        return ledger

    nothing, something = read(0), read(0, 30)
    not_reporting = f"not_reporting because=fragmented evicted_bytes={100 * MIB}\n"
    assert lines_after(something) == []
    assert lines_after(nothing) == [not_reporting]
    assert lines_after(nothing) == []
    assert lines_after(Ledger()) == []
    assert lines_after(nothing) == []
    assert lines_after(something) == [
        f"reporting evicted_bytes={100 * MIB} reported_bytes={30 * MIB}\n"
    ]
    assert lines_after(nothing) == [not_reporting]
    await alive.ends()


def test_what_the_host_holds_is_shown(daemon: Running, guest: FakeGuest) -> None:
    with closing(Caller(guest)) as caller:
        caller.asks("HostHolds", held_bytes=100)
        caller.asks("HostHolds", held_bytes=40)
        ledger = caller.asks("GetStatus")["status"]["ledger"]
        assert (ledger["host_holds_bytes"], ledger["returned_bytes"]) == (40, 60)
