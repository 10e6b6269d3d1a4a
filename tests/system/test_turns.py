"""What turns give back: cold files of one cgroup, beside others that are kept or a little busy."""

from __future__ import annotations

import pytest

from lab.guest import Guest
from lab.workload import Cgroup, Workload
from tests.system.conftest import Programs
from tests.system.rungs import EACH_KERNEL
from tests.system.service import RecordProperty, Service, batches, surveys, turns

pytestmark = EACH_KERNEL
MIB = 1 << 20
PERIODS = 6
ALONE_S = 5  # the sibling's own noise
SETTINGS = "[memcg]\nperiod_secs = 3\n[log]\nlevel = 'debug'\n"
TREE = 500
SHORT_IDS = 65_535


@pytest.fixture(scope="module")
def service(debian: Guest) -> Service:
    """The service of that guest, stopped."""
    return Service(debian)


def test_cold_files_are_gone_after_six_periods_and_most_of_them_from_the_host(
    service: Service, cgroup: Cgroup
) -> None:
    cold = Workload(cgroup, "cold_files", "200")
    held = service.guest.held_bytes()
    before = cgroup.number("memory.stat", "file")
    service.start(SETTINGS)
    trace = service.wait_turns(PERIODS)
    service.stop()
    assert cgroup.number("memory.stat", "file") < before // 10
    assert {one.outcome for one in batches(trace, cgroup.path)} == {"done"}
    service.guest.wait_held_below(held - 120 * MIB)
    assert cold.running.poll() is None


@pytest.mark.kernels
def test_a_cgroup_whose_id_is_above_65535_is_evicted_like_any_other(
    service: Service, programs: Programs, record_property: RecordProperty
) -> None:
    passed = programs.run("pass_ids", "/sys/fs/cgroup/passing", str(SHORT_IDS), timeout_s=240)
    late = Cgroup(service.guest, "/test.slice/late")
    inode = int(service.guest.run(["stat", "-c", "%i", late.folder]).stdout)
    record_property("the cgroup's id, and how many were passed", (inode, passed["made"]))
    Workload(late, "cold_files", "60")
    before = late.number("memory.stat", "file")
    service.start(SETTINGS)
    service.wait_turns(PERIODS)
    service.stop()
    left = late.number("memory.stat", "file")
    late.remove()
    assert inode > SHORT_IDS
    assert left < before // 10


def test_a_sibling_that_always_waits_a_little_for_its_disk_does_not_keep_memory_here(
    service: Service, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    sibling = Cgroup(service.guest, "/test.slice/steady")
    steady = Workload(sibling, "steady_io", "--percent", "4")
    Workload(cgroup, "cold_files", "200")
    before = cgroup.number("memory.stat", "file")
    steady.wait_for("second", after=ALONE_S)
    alone = len(steady.lines())
    service.start(SETTINGS)
    service.wait_turns(PERIODS)
    service.stop()
    seconds = steady.lines()
    for name, span in (("alone", seconds[:alone]), ("beside memreact", seconds[alone:])):
        reads = sorted(line.figures["reads"] for line in span if line.what == "second")
        record_property(f"reads a second of the sibling, {name}", reads)
    stalls = sorted(line.figures["stall_percent"] for line in seconds if line.what == "second")
    record_property("percent of each second that the sibling stalled", stalls)
    sibling.remove()
    assert stalls[len(stalls) // 2] > 1  # it did stall, as real kernels count it
    assert cgroup.number("memory.stat", "file") < before // 5


def test_a_turn_reads_all_generations_a_few_times_whatever_the_number_of_cgroups(
    service: Service, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    folder = cgroup.folder
    service.guest.run(
        f"echo +memory > {folder}/cgroup.subtree_control; "
        f"for i in $(seq {TREE}); do mkdir {folder}/many-$i; done"
    )
    service.start(SETTINGS)
    used = Cgroup(service.guest, "/memreact.slice").number("cpu.stat", "usage_usec")
    switched = sum(service.switches().values())
    trace = service.wait_turns(3)
    used = Cgroup(service.guest, "/memreact.slice").number("cpu.stat", "usage_usec") - used
    record_property("CPU seconds of three turns", used / 1e6)
    record_property("voluntary switches", sum(service.switches().values()) - switched)
    record_property("readings of lru_gen", len(surveys(trace)))
    service.stop()
    service.guest.run(f"rmdir {folder}/many-*; echo -memory > {folder}/cgroup.subtree_control")
    assert len(surveys(trace)[0].memcgs) >= TREE
    pauses = sum(one.verdict == "pause" for entry in trace for one in entry.decisions)
    assert len(surveys(trace)) <= 2 * (len(turns(trace)) + 1) + pauses
