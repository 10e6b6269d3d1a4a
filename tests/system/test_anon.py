"""Anonymous memory to zram, on a kernel before and one after its eviction changed (6.14)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest
from lab.kernels import DEFAULT_KERNEL
from lab.machine import MachineOptions
from lab.workload import Cgroup, Workload, zram_swap
from memreact.actions import Evict
from tests.system.rungs import SECOND_KERNEL
from tests.system.service import RecordProperty, Service, batches

MIB = 1 << 20
COLD_MIB, YOUNG_MIB, HOT_MIB, FILE_MIB = 200, 60, 64, 16
FEW_FAULTS = 64
SETTINGS = """
[memcg]
period_secs = 8
swap = true
swappiness_max = 200
[log]
level = 'debug'
"""


@pytest.fixture(params=[DEFAULT_KERNEL, pytest.param(SECOND_KERNEL, marks=pytest.mark.kernels)])
def service(request: pytest.FixtureRequest, package: Path) -> Iterator[Service]:
    """The service of a guest with that kernel, stopped, and swap on zram."""
    options = MachineOptions(kernel=request.param)
    with Guest.restore(options, package=package) as guest:
        guest.run("systemctl stop memreact.service")
        zram_swap(guest, 512)
        yield Service(guest)


def _swapped_bytes(workload: Workload) -> int:
    """What a process has in swap, shared memory included."""
    rollup = f"/proc/{workload.pid}/smaps_rollup"
    told = workload.guest.run(f"awk '/^Swap:/ {{print $2}}' {rollup}").stdout
    return int(told) * 1024


def _faults(hot: Workload) -> int:
    said = hot.wait_for("totals", after=len(hot.lines()))
    return int(said.figures["major_faults"])


def _resident(cgroup: Cgroup) -> int:
    return cgroup.number("memory.stat", "anon") + cgroup.number("memory.stat", "shmem")


def test_cold_anonymous_memory_goes_to_zram_and_neither_younger_nor_hot_pages_do(
    service: Service, record_property: RecordProperty
) -> None:
    shop, busy = (Cgroup(service.guest, f"/test.slice/{name}") for name in ("shop", "busy"))
    cold = Workload(shop, "cold_anon", str(COLD_MIB))
    Workload(shop, "cold_files", str(FILE_MIB))
    hot = Workload(busy, "hot", str(HOT_MIB))
    faults = _faults(hot)
    service.start(SETTINGS)
    service.wait_turns(1)
    young = Workload(shop, "cold_anon", str(YOUNG_MIB))
    service.wait_turns(3)
    # Its old pages are in use again: an eviction that does not stop there takes younger ones.
    cold.signal("USR1")
    cold.wait_for("touched")
    trace = service.wait_turns(4)
    swapped = _swapped_bytes(young)
    evicts = [a for entry in trace for a in entry.actions if isinstance(a, Evict)]
    assert [a for a in evicts if a.path == shop.path and a.swappiness], "it was asked for"
    # An eviction that does not stop there takes all of it; one huge page was seen to go once.
    assert swapped < YOUNG_MIB * MIB // 10
    assert _swapped_bytes(cold) < COLD_MIB * MIB // 10
    before = _resident(shop)
    trace = service.wait_turns(9, timeout_s=180)
    service.stop()
    after, faults = _resident(shop), _faults(hot) - faults
    record_property("MiB of cold anonymous memory before and after", (before >> 20, after >> 20))
    record_property("major faults of the hot one", faults)
    assert before > (COLD_MIB + YOUNG_MIB) * MIB * 9 // 10
    assert after < before // 5
    assert shop.number("memory.swap.current") > before // 2
    assert {one.outcome for one in batches(trace, shop.path)} <= {"done", "broken_off", "held_back"}
    assert faults < FEW_FAULTS
    assert _resident(busy) > HOT_MIB * MIB * 9 // 10
