"""A process of the guest that fills the daemon's vsock ports, over real AF_VSOCK by loop-back."""

from __future__ import annotations

import pytest

from lab.guest import Guest
from lab.workload import Cgroup, Line, Workload
from lab.workloads.chaos_calls import FLOOD, PORTS
from tests.system.service import Service

# With nothing else to do it opens and closes nothing else.
QUIET = "[memcg]\ndisabled = true\n[compact]\ndisabled = true\n"
LET_IN = QUIET + "[control]\nallow_guest = true\n"
KEPT_OUT = QUIET + "[control]\nallow_guest = false\n"
PLACES = 64


@pytest.fixture(scope="module")
def service(debian: Guest) -> Service:
    return Service(debian)


def flooded(service: Service, cgroup: Cgroup, port: int) -> Line:
    flooding = Workload(cgroup, "flood", str(port))
    return flooding.wait_for("over", timeout_s=180)


@pytest.mark.parametrize("port", PORTS)
def test_300_silent_connections_to_a_port_keep_nobody_out_and_are_let_go(
    service: Service, cgroup: Cgroup, port: int
) -> None:
    service.start(LET_IN)
    before = service.open_fds()
    told = flooded(service, cgroup, port).figures
    assert told["connected"] >= PLACES
    assert told["connected"] <= FLOOD
    assert told["root"] > 0
    assert told["newcomers"] == told["root"]
    assert (told["hung"], told["closed"]) == (0, 0)
    assert service.open_fds() <= before + PLACES
    service.guest.run("memreact-ctl status >/dev/null")
    assert service.open_fds() <= before + 2


def test_whoever_is_not_let_in_takes_no_place(service: Service, cgroup: Cgroup) -> None:
    service.start(KEPT_OUT)
    before = service.open_fds()
    told = flooded(service, cgroup, PORTS[0]).figures
    assert told["root"] > 0
    assert (told["newcomers"], told["hung"]) == (0, 0)
    assert told["closed"] == told["root"]
    assert service.open_fds() <= before + 1
