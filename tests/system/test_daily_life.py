"""What may happen to an eviction that is under way: ends, kills, stalls, freezes, removals."""

from __future__ import annotations

import re
import signal

import msgspec
import pytest

from lab.agent import Running
from lab.guest import Guest
from lab.workload import Cgroup, Workload
from memreact.actions import Decision
from memreact.telemetry.trace import Entry
from memreact_schemas.control import Explained
from memreact_schemas.explanation import Explanation
from tests.system.conftest import Decoded, Programs
from tests.system.rungs import EACH_KERNEL
from tests.system.service import RecordProperty, Service, batches, codes, decisions, turns

pytestmark = EACH_KERNEL
COLD_MIB = "400"
SETTINGS = "[memcg]\nperiod_secs = 4\n[log]\nlevel = 'debug'\n"
CHURN_PER_S, CHURN_S = 100, 10
TRIES = 3


@pytest.fixture(scope="module")
def service(debian: Guest) -> Service:
    """The service of that guest, stopped."""
    return Service(debian)


class Watched:
    """A cgroup with much cold memory, and a program that acts as soon as it begins to go.

    Args:
        programs: Of the guest.
        cgroup: The cgroup.
    """

    def __init__(self, programs: Programs, cgroup: Cgroup) -> None:
        self._programs = programs
        self._cgroup = cgroup
        self._acting: Running | None = None
        Workload(cgroup, "cold_files", COLD_MIB)

    def then(self, *words: str) -> None:
        """What to do then."""
        self._acting = self._programs.start("when_it_shrinks", self._cgroup.folder, *words)
        guest = self._programs.guest
        guest.run("until [ -e /run/watching ]; do sleep 0.05; done; rm /run/watching")

    def told(self) -> dict[str, int]:
        """Its file bytes before, then and after."""
        assert self._acting is not None
        return msgspec.json.decode(self._acting.wait(90).stdout, type=dict[str, int])


@pytest.fixture
def watched(service: Service, programs: Programs, cgroup: Cgroup) -> Watched:
    """That cgroup, its memory read once while nobody ages it: three turns of a start away."""
    service.stop()
    return Watched(programs, cgroup)


def test_killed_in_mid_eviction_it_is_started_again_and_goes_on(
    service: Service, watched: Watched, cgroup: Cgroup
) -> None:
    service.start(SETTINGS)
    killed = service.pid
    watched.then("kill", str(int(signal.SIGKILL)), str(killed))
    told = watched.told()
    assert 0 < told["after_bytes"] < told["before_bytes"]
    before = len(turns(service.trace()))
    service.wait_turns(before + 4)
    assert service.shown("NRestarts") == "1"
    assert service.pid not in {0, killed}
    assert service.guest.run("systemctl is-system-running").stdout == "running\n"
    assert cgroup.number("memory.stat", "file") < told["before_bytes"] // 10


def test_ended_in_mid_eviction_it_is_over_before_systemd_gives_up(
    service: Service, watched: Watched
) -> None:
    service.start(SETTINGS)
    watched.then("kill", str(int(signal.SIGTERM)), str(service.pid))
    told = watched.told()
    service.guest.run("while systemctl is-active -q memreact; do sleep 0.1; done")
    assert (service.shown("ActiveState"), service.shown("Result")) == ("inactive", "success")
    assert told["after_bytes"] > told["before_bytes"] // 10


@pytest.mark.parametrize("where", ["/test.slice/one", "/test.slice/other"])
def test_a_stall_breaks_the_eviction_off_wherever_it_is(
    service: Service, programs: Programs, cgroup: Cgroup, where: str
) -> None:
    stalled = cgroup if where == cgroup.path else Cgroup(service.guest, where)
    ends: set[str] = set()
    # Lowering memory.high reclaims as well, so that the rest may be gone before anybody stalls.
    for _ in range(TRIES):
        trace = _stalled_in_mid_eviction(service, programs, cgroup, stalled)
        # Between two writes nothing is there to break off; then the next one is held back.
        ends = {"broken_off", "held_back"} & {one.outcome for one in batches(trace, cgroup.path)}
        if ends:
            break
    if stalled is not cgroup:
        stalled.remove()
    assert ends
    wanted = {"stall_over_limit", "guest_stall_over_limit", "limit_hit"}
    assert wanted & set(codes(trace))


def _stalled_in_mid_eviction(
    service: Service, programs: Programs, cgroup: Cgroup, stalled: Cgroup
) -> list[Entry]:
    """Let a cgroup stall as soon as memory begins to go; what the service did."""
    service.stop()
    watched = Watched(programs, cgroup)
    stall = Workload(stalled, "stall", stalled.folder)
    service.start(SETTINGS)
    watched.then("kill", str(int(signal.SIGUSR1)), str(stall.pid))
    watched.told()
    stall.wait_for("over")
    trace = service.trace()
    service.stop()
    return trace


def test_what_a_stalled_cgroup_waited_is_told_by_kind_in_the_order_of_its_pressure(
    service: Service, watched: Watched, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    limited = ("--file", "memory.max", "--high", "24M", "--seconds", "3")
    stall = Workload(cgroup, "stall", cgroup.folder, *limited)
    service.start(SETTINGS)
    watched.then("kill", str(int(signal.SIGUSR1)), str(stall.pid))
    watched.told()
    stalled_us = int(stall.wait_for("over").figures["stalled_us"])
    entries = service.wait_until(lambda found: bool(_hurt(found, cgroup.path)))
    told = _explained(service, cgroup.path)
    people = service.guest.run(["memreact-ctl", "explain", cgroup.path]).stdout
    service.stop()
    waited = told.harm.total
    assert waited is not None
    assert told.harm.missing is None
    by_kind = (waited.reclaim_us or 0, waited.swap_in_us, waited.thrashing_us or 0)
    record_property("stalled, ms", stalled_us / 1000)
    record_property("reclaim, swap-in, thrashing, ms", [us / 1000 for us in by_kind])
    record_property("told after the stop", _hurt(entries, cgroup.path)[0].because.saw)
    assert by_kind[0] > 0
    assert by_kind[1] > 0
    assert stalled_us / 10 < sum(by_kind) < stalled_us * 10
    pressure_us = told.pressure.memory_total_us
    assert pressure_us is not None
    assert pressure_us >= stalled_us
    assert re.search(r"since they began: reclaim \d+ ms, swap-in \d", people)
    assert "hurt" in {row.verdict for row in told.decisions}


def _hurt(entries: list[Entry], path: str) -> list[Decision]:
    return [one for one in decisions(entries, path) if one.verdict == "hurt"]


def _explained(service: Service, path: str) -> Explanation:
    said = service.guest.run(["memreact-ctl", "explain", path, "--json"]).stdout
    return msgspec.json.decode(said, type=Explained).explanation


def test_a_cgroup_that_is_frozen_in_mid_eviction_is_left_alone(
    service: Service, watched: Watched, cgroup: Cgroup
) -> None:
    service.start(SETTINGS)
    watched.then("write", "cgroup.freeze", "1")
    told = watched.told()
    trace = service.wait_turns(len(turns(service.trace())) + 2)
    service.stop()
    left = cgroup.number("memory.stat", "file")
    cgroup.set("cgroup.freeze", 0)
    assert "frozen" in codes(trace, cgroup.path)
    assert left > told["before_bytes"] // 10
    assert left >= told["after_bytes"] - (1 << 20)


def test_a_cgroup_removed_in_mid_eviction_and_made_again_is_evicted_again(
    service: Service, watched: Watched, cgroup: Cgroup
) -> None:
    service.start(SETTINGS)
    first = service.pid
    watched.then("remove")
    watched.told()
    again = Cgroup(service.guest, cgroup.path)
    Workload(again, "cold_files", "100")
    before = again.number("memory.stat", "file")
    service.wait_turns(len(turns(service.trace())) + 6)
    left = again.number("memory.stat", "file")
    assert service.pid == first
    service.stop()
    assert left < before // 10


def test_cgroups_that_come_and_go_by_the_hundred_leave_nothing_open(
    service: Service, programs: Programs, cgroup: Cgroup
) -> None:
    service.start("[memcg]\nperiod_secs = 1\n")
    service.wait_turns(2)
    first, fds = service.pid, service.open_fds()
    told: Decoded = programs.run("churn", cgroup.folder, str(CHURN_PER_S), str(CHURN_S))
    service.wait_turns(len(turns(service.trace())) + 2)
    assert told["made"] == CHURN_PER_S * CHURN_S
    assert service.pid == first
    assert service.open_fds() <= fds + 2  # a turn at work may have its own
    service.stop()
