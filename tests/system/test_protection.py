"""memory.low holds against memreact, on a cgroup itself and from a parent that alone has it."""

from __future__ import annotations

from lab.guest import Guest
from lab.workload import Cgroup, Workload
from tests.system.rungs import EACH_KERNEL
from tests.system.service import Service, codes

pytestmark = EACH_KERNEL
MIB = 1 << 20
PERIODS = 10
LOW = 70 * MIB
LAG = 2 * MIB  # of memory.current, by the kernel's per-CPU batches
SETTINGS = "[memcg]\nperiod_secs = 2\n[log]\nlevel = 'debug'\n"


def test_what_memory_low_protects_is_still_there_after_ten_periods(debian: Guest) -> None:
    service = Service(debian)
    itself, slice_ = Cgroup(debian, "/kept"), Cgroup(debian, "/kept.slice")
    below, bare = Cgroup(debian, "/kept.slice/one"), Cgroup(debian, "/test.slice/bare")
    itself.set("memory.low", LOW)
    slice_.set("memory.low", LOW)
    for cgroup in (itself, below, bare):
        Workload(cgroup, "cold_files", "100")
    service.start(SETTINGS)
    trace = service.wait_turns(PERIODS)
    service.stop()
    left = {one.path: one.number("memory.current") for one in (itself, below, bare)}
    for cgroup in (itself, below, slice_, bare):
        cgroup.remove()
    assert left["/test.slice/bare"] < 30 * MIB
    for path in ("/kept", "/kept.slice/one"):
        assert "protected" in codes(trace, path)
        assert LOW - LAG < left[path] < LOW + 16 * MIB  # no less, and what is above did go
