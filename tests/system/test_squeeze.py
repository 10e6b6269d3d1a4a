"""What a squeeze gives back to the host, how long it takes, and what ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import msgspec
import pytest

from lab.guest import Guest
from lab.hybrid import Bridge
from lab.workload import Cgroup, Workload
from memreact.actions import Decision
from memreact.events import SqueezeAsked
from memreact_schemas.control import PORT
from tests.system.conftest import Programs
from tests.system.service import RecordProperty, Service, decisions

MIB = 1 << 20
COLD_MIB, SQUEEZED_MIB = "400", 300
HOST_AGREES = 0.05
TAKEN_AGAIN = 0.05  # of what was made reportable, by whoever else runs
SLOW = "[memcg]\nperiod_secs = 3600\n[log]\nlevel = 'debug'\n"
BY_BRIDGE = SLOW + "[control]\nallow_guest = true\n"
PERIOD_S = 10
KEPT_S = 2 * PERIOD_S  # inside its budget for so long, it stays there
SLACK_MIB = 64  # what else in the guest grew, and a share is a whole percent
WRITE_S = 2.5  # a write is broken off after two seconds

End = dict[str, Any]


@pytest.fixture(scope="module")
def service(debian: Guest) -> Service:
    """The service of that guest, stopped; nothing is due in it for an hour."""
    return Service(debian)


def squeeze(guest: Guest, *words: str, timeout_s: float = 120) -> End:
    """Ask for one, and return its end."""
    words = ("/usr/bin/memreact-ctl", "--json", "squeeze", *words)
    printed = guest.run(list(words), timeout_s=timeout_s).stdout
    end: End = msgspec.json.decode(printed)["end"]
    return end


def squeeze_from_host(bridge: Bridge, *words: str) -> End:
    """Ask from the host: a caller in the guest takes several blocks for itself as it starts."""
    address = f"hvsock:{bridge.path}:{PORT}"
    command = ["-m", "memreact_tools.ctl", "--json", "--address", address, "squeeze", *words]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *command],
        check=True,
        stdout=subprocess.PIPE,
        timeout=120,
        env={**os.environ, **path},
    )
    end: End = msgspec.json.decode(done.stdout)["end"]
    return end


def status(guest: Guest) -> dict[str, Any]:
    """What goes on, with stock taken."""
    words = ["/usr/bin/memreact-ctl", "--json", "status", "--ledger"]
    found: dict[str, Any] = msgspec.json.decode(guest.run(words).stdout)["status"]
    return found


def ended(service: Service) -> list[Decision]:
    """How squeezes ended since the start."""
    return [one for one in decisions(service.trace()) if one.verdict == "squeezed"]


def test_what_it_says_that_it_reported_is_what_the_host_has_less(
    service: Service, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    cold = Workload(cgroup, "cold_files", COLD_MIB)
    service.start(BY_BRIDGE)
    with Bridge(service.guest) as bridge:
        held, began = service.guest.held_bytes(), time.monotonic()
        end = squeeze_from_host(bridge, f"{SQUEEZED_MIB}M", "--deadline", "60s")
        record_property("seconds to its answer", time.monotonic() - began)
        gone = held - service.guest.held_bytes()
    record_property("MiB reported", end["reported_grew_bytes"] / MIB)
    record_property("MiB that the host holds less", gone / MIB)
    service.stop()
    assert end["because"] == "target"
    assert end["settled"] is True
    assert end["reportable_grew_bytes"] >= SQUEEZED_MIB * MIB * (1 - TAKEN_AGAIN)
    assert end["tally"]["evicted_file_bytes"] <= (SQUEEZED_MIB + 128) * MIB
    assert end["reported_grew_bytes"] == pytest.approx(gone, rel=HOST_AGREES)
    assert cold.running.poll() is None


def test_past_its_deadline_it_goes_on_for_one_write_at_most(
    service: Service, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    Workload(cgroup, "cold_files", COLD_MIB)
    service.start(SLOW)
    end = squeeze(service.guest, "0%", "--deadline", "2s")
    record_property("ms of overrun", end["overrun_us"] / 1000)
    service.stop()
    assert end["because"] in {"deadline", "nothing_left"}
    assert end["overrun_us"] < WRITE_S * 1e6


def test_a_stall_of_the_guest_ends_it_and_it_says_so(
    service: Service, programs: Programs, cgroup: Cgroup
) -> None:
    Workload(cgroup, "cold_files", COLD_MIB)
    other = Cgroup(service.guest, "/test.slice/other")
    stall = Workload(other, "stall", other.folder)
    service.start(SLOW + "[pressure]\nsystem_psi_percent_limit = 1\n")
    acting = programs.start(
        "when_it_shrinks", cgroup.folder, "kill", str(int(signal.SIGUSR1)), str(stall.pid)
    )
    service.guest.run("until [ -e /run/watching ]; do sleep 0.05; done; rm /run/watching")
    end = squeeze(service.guest, "390M", "--deadline", "60s")
    acting.wait(90)
    stall.wait_for("over")
    service.stop()
    other.remove()
    assert end["because"] == "pressure"
    assert cgroup.number("memory.stat", "file") > 40 * MIB


def test_a_held_guest_that_reads_much_is_soon_back_inside_its_budget(
    service: Service, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    service.start(SLOW.replace("3600", str(PERIOD_S)))
    guest = service.guest
    ledger = status(guest)["ledger"]
    budget_bytes = ledger["reportable_bytes"] // 3
    most = ledger["total_bytes"] - ledger["reportable_bytes"] + budget_bytes
    share = -(-100 * most // ledger["total_bytes"])
    end = squeeze(guest, f"{share}%", "--deadline", "20s", "--hold", "10m")
    assert end["held_until_us"] is not None
    assert end["tally"]["evicted_file_bytes"] == 0  # it holds less by now
    Workload(cgroup, "cold_files", str(2 * budget_bytes // MIB))
    began, over_s = time.monotonic(), 0.0
    while (gone_s := time.monotonic() - began) < min(over_s + KEPT_S, 6 * PERIOD_S):
        time.sleep(0.5)
        if cgroup.number("memory.stat", "file") > budget_bytes + SLACK_MIB * MIB:
            over_s = gone_s
    record_property("seconds over its budget after it had read twice as much", over_s)
    left = cgroup.number("memory.stat", "file")
    guest.run(["/usr/bin/memreact-ctl", "squeeze", "--release"])
    service.stop()
    assert left <= budget_bytes + SLACK_MIB * MIB
    assert over_s < 4 * PERIOD_S


def test_memory_that_a_cgroup_keeps_is_not_squeezed(service: Service, cgroup: Cgroup) -> None:
    Workload(cgroup, "cold_files", COLD_MIB)
    cgroup.set("memory.low", "1G")
    before = cgroup.number("memory.stat", "file")
    service.start(SLOW)
    end = squeeze(service.guest, f"{SQUEEZED_MIB}M", "--scope", cgroup.path)
    service.stop()
    assert end["because"] == "nothing_left"
    assert end["left_alone"].get("protected")
    assert cgroup.number("memory.stat", "file") > before - 8 * MIB


def test_whoever_goes_away_ends_it_and_the_next_one_may_begin(
    service: Service, cgroup: Cgroup
) -> None:
    Workload(cgroup, "cold_files", COLD_MIB)
    service.start(SLOW)
    words = ["/usr/bin/memreact-ctl", "squeeze", "0%", "--deadline", "600s"]
    asking = service.guest.start(words)
    service.wait_until(lambda found: any(isinstance(one.event, SqueezeAsked) for one in found))
    service.guest.run(f"kill -INT {asking.pid} || true")
    asking.wait(30, check=False)
    service.wait_until(lambda _: bool(ended(service)))
    end = squeeze(service.guest, "cold", "--deadline", "10s")
    service.stop()
    assert ended(service)[0].because.code in {"cancelled", "nothing_left"}
    assert end["because"] == "cold_gone"
