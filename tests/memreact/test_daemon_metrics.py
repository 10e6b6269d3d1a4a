"""The daemon's metrics as they are read: over its own sockets, while it runs."""

from __future__ import annotations

import os
import socket
import time

import pytest

from kernelio.process import voluntary_switches
from kernelio.psi import Fired
from memreact.actions import Evict
from memreact.events import BatchEnded, Instant
from tests.fake_guest import FakeGuest
from tests.memreact.test_daemon import BUSY, PATIENCE_S, WRITES_BLOCK, Alive, Running
from tests.memreact.test_daemon_control import SLOW, Call, Caller, Start, call, guest, start
from tests.official_openmetrics import families_of

__all__ = ["call", "guest", "start"]

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
Values = dict[tuple[str, str], float]


def scrape(guest: FakeGuest) -> Values:
    """Ask, and give each sample by its name and its first label."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(PATIENCE_S)
        stream.connect(guest.path("/run/memreact/metrics.sock"))
        stream.sendall(REQUEST)
        heard = b""
        while data := stream.recv(1 << 16):
            heard += data
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    samples = (sample for family in families_of(body.decode()) for sample in family.samples)
    return {(s.name, next(iter(s.labels.values()), "")): s.value for s in samples}


def test_the_figures_are_those_of_status(guest: FakeGuest, start: Start, call: Call) -> None:
    daemon, caller = start(), call()
    caller.asks("RunNow")
    daemon.tells("action=turn")
    found = scrape(guest)
    status = caller.asks("GetStatus")["status"]
    assert found["memreact_turns_total", ""] == status["turns"] == 1
    assert found["memreact_agings_total", ""] == status["counters"]["agings"]
    assert found["memreact_evictions_total", ""] == status["counters"]["evictions"]
    shop = next(each for each in status["cgroups"] if each["path"] == "/shop")
    assert found["memreact_cgroup_cold_bytes", "/shop"] == shop["cold_bytes"]
    taken = shop["counters"]["evicted_bytes"]
    assert found["memreact_cgroup_evicted_bytes_total", "/shop"] == taken
    assert found["memreact_eviction_rate_bytes_per_second_count", ""] == int(taken > 0)
    assert found["memreact_cpu_seconds_total", "memreact"] > 0
    assert daemon.ends()[0] == 0
    assert not os.path.exists(guest.path("/run/memreact/metrics.sock"))


def test_how_many_cgroups_are_named_can_be_set_while_it_runs(
    guest: FakeGuest, start: Start, call: Call
) -> None:
    start()
    assert ("memreact_cgroup_agings_total", "/shop") in scrape(guest)
    call().asks("PatchSettings", patch={"control": {"metrics_cgroups": 0}})
    found = scrape(guest)
    assert ("memreact_cgroup_agings_total", "/shop") not in found
    assert ("memreact_cgroup_agings_total", "others") in found


def test_who_has_read_the_metrics_leaves_no_thread_that_wakes_up(
    guest: FakeGuest, start: Start
) -> None:
    daemon = start(SLOW.replace("[memcg]", "[memcg]\ndisabled = true"))
    scrape(guest)
    before = None
    while before != (before := voluntary_switches(daemon.process.pid)):
        assert daemon.is_silent()
    assert daemon.is_silent()
    assert voluntary_switches(daemon.process.pid) == before


def test_how_long_changed_settings_take_to_stop_a_write_is_told(guest: FakeGuest) -> None:
    daemon = Running(guest, BUSY, "uvloop", first=WRITES_BLOCK)
    caller = None
    try:
        daemon.does(Evict)
        caller = Caller(guest)
        caller.asks("PatchSettings", patch={"memcg": {"disabled": True}})
        gives_up_at = time.monotonic() + PATIENCE_S
        while not (found := scrape(guest))["memreact_event_to_stop_seconds_count", "other"]:
            assert time.monotonic() < gives_up_at
        assert found["memreact_event_to_stop_seconds_count", "stall"] == 0
        assert found["memreact_event_to_stop_seconds_sum", "other"] < PATIENCE_S
    finally:
        if caller is not None:
            caller.close()
        daemon.close()


@pytest.mark.asyncio
async def test_a_stall_counts_from_when_its_trigger_woke_the_waiting_thread(
    guest: FakeGuest,
) -> None:
    alive = Alive(guest)
    ended = BatchEnded("/shop", 0, 64, "broken_off", None, took_us=9_000, ended_at=Instant(10_000))
    alive.daemon._mailbox.post(ended)
    alive.daemon._fired(Fired("/gone", True, 3_000), 0)  # noqa: FBT003  # positional
    alive.daemon._fired(Fired("/shop", False, 4_000), 1)  # noqa: FBT003
    alive.daemon._mail()
    await alive.ends()
    assert alive.daemon._measures.stops_by_stall.total == 6_000
