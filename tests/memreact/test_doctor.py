from __future__ import annotations

import fcntl
import os

import msgspec
import pytest

from kernelio.files import read_bytes
from kernelio.layout import Layout
from memreact.capabilities import find_capabilities, find_memreact
from memreact.doctor import encode, examine, examine_here, render
from memreact_schemas.doctor import Capabilities, Finding, Report
from tests.fake_guest import FakeGuest
from tests.goldens import GOLDEN, golden_text

_OWN = 4242
_BALLOON = "/sys/bus/virtio/devices/virtio3"
_ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"
_LRU_GEN = "/sys/kernel/debug/lru_gen"
_PRESSURE = (
    "some avg10=0.00 avg60=0.00 avg300=0.00 total=17\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=11\n"
)
_ALL_CAPS = "000001ffffffffff"
_ROOT = f"Uid:\t0\t0\t0\t0\nCapEff:\t{_ALL_CAPS}\n"
_NOBODY = "Uid:\t65534\t65534\t65534\t65534\nCapEff:\t0000000000000000\n"
_CGROUP2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,memory_recursiveprot\n"
_HYBRID = (
    "30 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "31 29 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)


@pytest.fixture
def full(guest: FakeGuest) -> FakeGuest:
    """A Debian 13 guest: everything there, balloon with free page reporting, zram."""
    guest.shows("/proc/sys/kernel/osrelease", "6.12.0-1-amd64\n")
    guest.shows("/proc/cmdline", "root=/dev/vda rw psi=1\n")
    guest.shows("/proc/self/status", _ROOT)
    guest.shows("/proc/self/mountinfo", _CGROUP2)
    guest.shows("/proc/pressure/memory", _PRESSURE)
    guest.shows("/proc/swaps", golden_text("6.18/proc/swaps"))
    guest.shows("/proc/buddyinfo", golden_text("6.18/proc/buddyinfo"))
    guest.shows("/proc/zoneinfo", golden_text("6.18/proc/zoneinfo"))
    guest.shows("/proc/locks", "")
    guest.shows("/proc/sys/vm/compact_memory", "")
    guest.shows("/proc/sys/kernel/task_delayacct", "1\n")
    guest.shows("/sys/devices/system/node/online", "0\n")
    guest.shows("/sys/kernel/mm/lru_gen/enabled", "0x0007\n")
    guest.shows(_LRU_GEN, "memcg     1 /\n node     0\n")
    guest.shows("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    guest.shows("/sys/module/damon_reclaim/parameters/enabled", "N\n")
    guest.shows("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n")
    guest.shows("/sys/fs/cgroup/memory.reclaim", "")
    guest.shows("/sys/fs/cgroup/memory.pressure", _PRESSURE)
    guest.shows("/run/udev/control", "")
    _has_balloon(guest, reporting=True)
    guest.shows(_ORDER, "9\n")
    return guest


def _has_balloon(guest: FakeGuest, *, reporting: bool) -> None:
    guest.shows(f"{_BALLOON}/device", "0x0005\n")
    guest.shows(f"{_BALLOON}/features", "01100" + str(int(reporting)) + "0" * 58 + "\n")
    if not os.path.islink(guest.path(f"{_BALLOON}/driver")):
        os.symlink("../drivers/virtio_balloon", guest.path(f"{_BALLOON}/driver"))


def _examined(guest: FakeGuest) -> Report:
    return examine(guest.layout, own_pid=_OWN)


def _can(guest: FakeGuest) -> Capabilities:
    return find_capabilities(guest.layout, own_pid=_OWN)


def _finding(guest: FakeGuest, job: str) -> Finding:
    return {finding.job: finding for finding in _examined(guest).findings}[job]


def test_a_full_guest_lacks_nothing(full: FakeGuest) -> None:
    report = _examined(full)
    assert {finding.status for finding in report.findings} == {"ok"}
    assert report.reaches_host
    assert report.idle_because is None


def test_a_full_guest_can_do_all(full: FakeGuest) -> None:
    can = _can(full)
    assert (can.kernel, can.root, can.nodes) == ("6.12.0-1-amd64", True, (0,))
    assert (can.cgroup_root, can.memory_controller) == ("/sys/fs/cgroup", True)
    assert (can.mglru, can.memory_reclaim) == ("on", True)
    assert (can.psi, can.cgroup_psi) == ("privileged", True)
    assert (can.page_reporting, can.reporting_order, can.swap) == (True, 9, True)
    assert can.rivals == ()


def test_the_backends_of_a_full_guest_are_named(full: FakeGuest) -> None:
    assert _finding(full, "evict it").backend == "multi-gen LRU"
    assert _finding(full, "feel pressure").backend == "PSI triggers"
    assert _finding(full, "return to host").backend == "free page reporting"
    assert _finding(full, "anonymous memory").backend == "swap file, zram"


@pytest.mark.parametrize(("kernel", "mglru"), [("6.1", "off"), ("6.12", "on"), ("7.x", "on")])
def test_a_recorded_debian_guest_lacks_nothing_on_the_way_to_the_host(
    kernel: str, mglru: str
) -> None:
    report = examine(Layout(root=f"{GOLDEN}/{kernel}"), own_pid=_OWN)
    can = report.capabilities
    assert (can.mglru, can.psi, can.memory_controller) == (mglru, "privileged", True)
    assert (can.page_reporting, can.reporting_order, can.swap) == (True, 9, True)
    assert report.reaches_host
    assert report.idle_because is None


def test_an_empty_guest_is_examined_without_an_error(guest: FakeGuest) -> None:
    report = _examined(guest)
    assert _finding(guest, "evict it").status == "missing"
    assert not report.reaches_host
    assert report.idle_because == "there is no cgroup v2 memory controller"
    assert "memreact stays idle here" in render(report)


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/mountinfo",
        "/proc/self/status",
        "/proc/pressure/memory",
        "/proc/swaps",
        "/proc/buddyinfo",
        "/proc/zoneinfo",
        "/proc/locks",
        "/proc/sys/kernel/osrelease",
        "/proc/sys/kernel/task_delayacct",
        "/sys/devices/system/node/online",
        "/sys/kernel/mm/lru_gen/enabled",
        "/sys/kernel/security/lockdown",
        "/sys/fs/cgroup/cgroup.controllers",
        f"{_BALLOON}/device",
        f"{_BALLOON}/features",
        _ORDER,
    ],
)
@pytest.mark.parametrize("text", [b"", b"\xff\0nonsense\n"])
def test_a_file_that_says_nonsense_is_no_reason_to_fail(
    full: FakeGuest, path: str, text: bytes
) -> None:
    full.shows(path, text)
    report = _examined(full)
    assert len(report.findings) == 11
    assert render(report).startswith("memreact ")


def test_mglru_that_is_off_will_be_switched_on(full: FakeGuest) -> None:
    full.shows("/sys/kernel/mm/lru_gen/enabled", "0x0000\n")
    assert _can(full).mglru == "off"
    finding = _finding(full, "find cold memory")
    assert (finding.status, finding.backend) == ("ok", "multi-gen LRU")
    assert "off, will be switched on" in finding.detail
    assert _examined(full).idle_because is None


def test_without_mglru_memory_reclaim_is_the_rung_below_and_off_unless_asked_for(
    full: FakeGuest,
) -> None:
    full.loses("/sys/kernel/mm/lru_gen")
    assert _can(full).mglru == "absent"
    finding = _finding(full, "evict it")
    assert (finding.status, finding.backend) == ("warning", "memory.reclaim")
    assert "without_mglru" in finding.remedy
    assert "memory.reclaim is off unless asked for" in (_examined(full).idle_because or "")


def test_a_kernel_whose_memory_reclaim_swaps_as_it_likes_is_told_of(full: FakeGuest) -> None:
    full.loses("/sys/kernel/mm/lru_gen")
    assert "spare anonymous memory" not in _finding(full, "evict it").detail
    full.shows("/proc/sys/kernel/osrelease", "6.1.0-37-amd64\n")
    assert "spare anonymous memory" in _finding(full, "evict it").detail


def test_with_neither_nothing_is_evicted(full: FakeGuest) -> None:
    full.loses("/sys/kernel/mm/lru_gen")
    full.loses("/sys/fs/cgroup/memory.reclaim")
    assert _finding(full, "evict it").status == "missing"


def test_an_unmounted_debugfs_is_told_with_its_remedy(full: FakeGuest) -> None:
    full.loses("/sys/kernel/debug")
    os.makedirs(full.path("/sys/kernel/debug"))
    assert _can(full).mglru == "unreachable"
    finding = _finding(full, "find cold memory")
    assert finding.detail == "debugfs is not mounted"
    assert finding.remedy == "mount -t debugfs debugfs /sys/kernel/debug"


@pytest.mark.parametrize("word", ["debugfs=off", "debugfs=no-mount"])
def test_a_debugfs_that_the_boot_line_forbids_is_not_to_be_mounted(
    full: FakeGuest, word: str
) -> None:
    full.loses(_LRU_GEN)
    full.shows("/proc/cmdline", f"root=/dev/vda {word}\n")
    finding = _finding(full, "find cold memory")
    assert finding.detail == f"booted with {word}"
    assert finding.remedy == f"boot without {word}"


def test_a_mounted_debugfs_without_the_file_is_not_called_unmounted(full: FakeGuest) -> None:
    full.loses(_LRU_GEN)
    full.shows("/sys/kernel/debug/extfrag/unusable_index", "")
    finding = _finding(full, "find cold memory")
    assert finding.status == "missing"
    assert "is mounted" in finding.detail


def test_a_lockdown_is_not_taken_for_an_unmounted_debugfs(full: FakeGuest) -> None:
    full.loses(_LRU_GEN)
    full.shows("/sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
    finding = _finding(full, "find cold memory")
    assert "locked down (confidentiality)" in finding.detail


def test_not_being_root_is_not_taken_for_an_unmounted_debugfs(full: FakeGuest) -> None:
    full.shows("/proc/self/status", _NOBODY)
    assert not _can(full).root
    assert _can(full).mglru == "unreachable"
    finding = _finding(full, "find cold memory")
    assert "not root" in finding.detail
    assert "as root" in finding.remedy
    assert _finding(full, "gather free pages").status == "missing"
    assert _finding(full, "measure delays").status == "missing"
    assert "not as root" in render(_examined(full))


def test_a_user_that_may_write_the_kernels_files_is_as_good_as_root(full: FakeGuest) -> None:
    caps = "CapEff:\t0000000000000002\n"
    full.shows("/proc/self/status", "Uid:\t998\t998\t998\t998\n" + caps)
    assert _can(full).root


def test_psi_switched_off_at_boot_is_told_with_its_remedy(full: FakeGuest) -> None:
    full.loses("/proc/pressure")
    full.shows("/proc/cmdline", "root=/dev/vda psi=0\n")
    assert _can(full).psi == "none"
    finding = _finding(full, "feel pressure")
    assert (finding.status, finding.detail) == ("missing", "booted with psi=0")
    assert finding.remedy == "boot with psi=1"
    assert _finding(full, "feel it by cgroup").status == "missing"
    assert "no pressure stall information" in (_examined(full).idle_because or "")


def test_without_the_capability_triggers_are_slow(full: FakeGuest) -> None:
    full.shows("/proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t000001fffeffffff\n")
    assert _can(full).psi == "slow"
    finding = _finding(full, "feel pressure")
    assert finding.status == "warning"
    assert "CAP_SYS_RESOURCE" in finding.remedy


def test_a_tree_without_the_memory_controller_is_not_worked_on(full: FakeGuest) -> None:
    full.shows("/sys/fs/cgroup/cgroup.controllers", "cpu io pids\n")
    full.shows("/proc/cmdline", "cgroup_disable=memory\n")
    can = _can(full)
    assert (can.memory_controller, can.memory_reclaim) == (False, False)
    finding = _finding(full, "evict it")
    assert (finding.status, finding.detail) == ("missing", "booted with cgroup_disable=memory")
    assert _examined(full).idle_because == "there is no cgroup v2 memory controller"


def test_a_hybrid_tree_names_v1_as_the_holder_of_memory(full: FakeGuest) -> None:
    full.shows("/proc/self/mountinfo", _HYBRID)
    full.shows("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n")
    assert _can(full).cgroup_root == "/sys/fs/cgroup/unified"
    assert not _can(full).memory_controller
    finding = _finding(full, "evict it")
    assert finding.detail == "cgroup v1 holds the memory controller"
    assert "unified_cgroup_hierarchy=1" in finding.remedy
    assert _finding(full, "watch cgroups").status == "warning"


def test_without_a_balloon_memory_cannot_reach_the_host(full: FakeGuest) -> None:
    full.loses(_BALLOON)
    report = _examined(full)
    assert not report.reaches_host
    assert report.idle_because is None
    finding = _finding(full, "return to host")
    assert (finding.status, finding.backend) == ("missing", "none")
    assert "free-page-reporting=on" in finding.remedy
    assert "cannot go back to the host" in render(report)


def test_a_balloon_that_did_not_negotiate_reporting_is_named(full: FakeGuest) -> None:
    _has_balloon(full, reporting=False)
    assert not _can(full).page_reporting
    finding = _finding(full, "return to host")
    assert finding.status == "missing"
    assert "virtio3 has not negotiated" in finding.detail


def test_a_balloon_without_a_driver_wants_one(full: FakeGuest) -> None:
    _has_balloon(full, reporting=False)
    full.loses(f"{_BALLOON}/driver")
    assert _finding(full, "return to host").remedy == "modprobe virtio_balloon"


def test_an_order_that_nobody_set_is_a_warning(full: FakeGuest) -> None:
    full.shows(_ORDER, "-1\n")
    assert _can(full).reporting_order == -1
    finding = _finding(full, "return to host")
    assert finding.status == "warning"
    assert "no order" in finding.detail


def test_an_order_above_all_free_blocks_returns_nothing(full: FakeGuest) -> None:
    full.shows(_ORDER, "11\n")
    assert _finding(full, "return to host").status == "missing"
    assert not _examined(full).reaches_host


def test_what_is_free_in_large_blocks_is_told(full: FakeGuest) -> None:
    full.shows("/proc/buddyinfo", "Node 0, zone Normal 9 0 0 0 0 0 0 0 0 3 100 \n")
    detail = _finding(full, "return to host").detail
    assert "order 9" in detail
    assert f"{(3 * 512 + 100 * 1024) * _can(full).page_size >> 20} MiB free" in detail


def test_a_guest_that_is_short_of_memory_reports_nothing_now(full: FakeGuest) -> None:
    zone = (
        "Node 0, zone   Normal\n  pages free     1000\n        min      500\n"
        "        low      700\n        high     900\n        spanned  262144\n"
        "        managed  250000\n  start_pfn:           4096\n"
    )
    full.shows("/proc/zoneinfo", zone)
    finding = _finding(full, "return to host")
    assert finding.status == "warning"
    assert "low watermark + 64 MiB" in finding.detail or os.sysconf("SC_PAGE_SIZE") != 4096
    assert _examined(full).reaches_host


def test_without_swap_anonymous_memory_stays(full: FakeGuest) -> None:
    full.shows("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
    assert not _can(full).swap
    assert _finding(full, "anonymous memory").status == "missing"


def test_damon_at_work_is_a_rival_and_memreact_stays_idle(full: FakeGuest) -> None:
    full.shows("/sys/module/damon_reclaim/parameters/enabled", "Y\n")
    assert _can(full).rivals == ("DAMON_RECLAIM",)
    assert _finding(full, "be alone").status == "warning"
    assert _examined(full).idle_because == "DAMON_RECLAIM reclaims here already"


@pytest.mark.parametrize(
    ("words", "comm", "rival"),
    [
        ("agent.mem_agent_enable=1", "kata-agent", True),
        ("agent.mem_agent_enable=true", "kata-agent", True),
        ("agent.mem_agent_enable=0", "kata-agent", False),
        ("agent.mem_agent_enable=false", "kata-agent", False),
        ("quiet", "kata-agent", False),
        ("agent.mem_agent_enable=1", "bash", False),
    ],
)
def test_kata_agent_is_a_rival_when_its_mem_agent_is_on(
    full: FakeGuest, words: str, comm: str, *, rival: bool
) -> None:
    full.shows("/proc/cmdline", f"root=/dev/vda {words}\n")
    full.shows("/proc/1/comm", f"{comm}\n")
    expected = ("kata-agent's mem-agent (process 1)",) if rival else ()
    assert _can(full).rivals == expected


@pytest.mark.parametrize(("value", "rival"), [("true", True), ("false", False)])
def test_kata_agents_own_settings_file_is_looked_at(
    full: FakeGuest, value: str, *, rival: bool
) -> None:
    full.shows("/proc/cmdline", "agent.config_file=/etc/agent.toml\n")
    full.shows("/etc/agent.toml", f"# an agent\nmem_agent_enable = {value}\n")
    full.shows("/proc/17/comm", "kata-agent\n")
    assert bool(_can(full).rivals) is rival


def _lock_is_held_by(guest: FakeGuest, pid: int) -> None:
    path = guest.shows("/run/memreact/lock", f"{pid}\n")
    inode = os.stat(path).st_ino
    guest.shows(
        "/proc/locks",
        "1: POSIX  ADVISORY  READ 1 00:1a:99 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE {pid} 00:1a:{inode} 0 EOF\n",
    )


def test_another_memreact_is_a_rival(full: FakeGuest) -> None:
    _lock_is_held_by(full, 77)
    assert find_memreact(full.layout) == 77
    assert _can(full).rivals == ("memreact (process 77)",)


def test_the_memreact_that_asks_is_not_its_own_rival(full: FakeGuest) -> None:
    _lock_is_held_by(full, _OWN)
    assert _can(full).rivals == ()


def test_doctor_beside_the_daemon_says_that_it_is_at_work(full: FakeGuest) -> None:
    _lock_is_held_by(full, 77)
    finding = _finding(full, "be alone")
    assert (finding.status, finding.backend) == ("ok", "memreact (process 77)")
    assert _examined(full).idle_because is None


def test_a_lock_file_that_nobody_holds_is_no_rival(full: FakeGuest) -> None:
    full.shows("/run/memreact/lock", "77\n")
    assert _can(full).rivals == ()


def test_a_lock_that_is_really_held_is_found_in_the_kernels_own_list(full: FakeGuest) -> None:
    path = full.shows("/run/memreact/lock", f"{os.getpid()}\n")
    with open(path, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        full.shows("/proc/locks", read_bytes("/proc/locks"))
        assert find_memreact(full.layout) == os.getpid()
    full.shows("/proc/locks", read_bytes("/proc/locks"))
    assert find_memreact(full.layout) is None


def test_no_line_of_the_table_is_wider_than_asked_for(full: FakeGuest) -> None:
    for path in ("/sys/kernel/mm/lru_gen", "/proc/pressure", "/proc/swaps", _BALLOON):
        full.loses(path)
    for width in (100, 80):
        lines = render(_examined(full), width).splitlines()
        assert max(map(len, lines)) <= width
        assert not any(line.endswith(" ") for line in lines)


def test_each_job_has_its_line_in_the_table(full: FakeGuest) -> None:
    report = _examined(full)
    table = render(report)
    for finding in report.findings:
        assert any(line.startswith(f"{finding.job} ") for line in table.splitlines())


def test_what_is_missing_comes_with_what_would_give_it(guest: FakeGuest) -> None:
    guest.shows("/proc/self/status", _NOBODY)
    for finding in _examined(guest).findings:
        assert finding.remedy or finding.status == "ok", finding.job


def test_json_reads_back_as_the_same_report(full: FakeGuest) -> None:
    report = _examined(full)
    assert msgspec.json.decode(encode(report), type=Report) == report


def test_this_very_machine_is_examined_without_an_error() -> None:
    report = examine_here()
    assert report.capabilities.kernel == os.uname().release
    assert render(report)
