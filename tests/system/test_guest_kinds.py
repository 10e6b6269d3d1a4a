"""Guests of every kind: what memreact makes of each, and that it does; see docs/kernels.md."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab.guest import Guest
from lab.kernels import DEFAULT_KERNEL
from lab.workload import Cgroup, Workload
from memreact.actions import Compact, Evict, Reclaim
from memreact.events import CapabilitiesRead, ClockDisturbed
from memreact.telemetry.trace import Entry
from memreact.value import replace
from tests.system.rungs import KINDS, USUAL, Kind, backends, examined, kernels
from tests.system.service import RecordProperty, Service, batches, codes, decisions

MIB = 1 << 20
COLD_MIB, ANON_MIB = "120", "60"
PERIODS = 6
LOW = 70 * MIB
LAG = 2 * MIB  # of memory.current, by the kernel's per-CPU batches
DIMM_MIB = 256
SETTINGS = "[memcg]\nperiod_secs = 4\n[log]\nlevel = 'debug'\n"
SHARES = """
[memcg]
period_secs = 2
[reclaim]
without_mglru = "memory.reclaim"
percent_per_period = 20
[log]
level = 'debug'
"""
NODE_0_ALONE = """
[memcg]
period_secs = 4
[[memcg.cgroup]]
path = "/test.slice/one"
numa = [1]
disabled = true
[log]
level = 'debug'
"""
SWAP = "[memcg]\nperiod_secs = 4\nswap = true\nswappiness_max = 200\n[log]\nlevel = 'debug'\n"

NO_MGLRU = KINDS["no debugfs, so no multi-gen LRU"]
ONLY_LOOKED_AT = ("psi=0 and no balloon", "no memory controller", "cgroup v1 hybrid")
NOW = {"psi=0 and no balloon"}


@contextlib.contextmanager
def guest_of(kind: Kind, package: Path) -> Iterator[Guest]:
    """A guest of this kind, booted for one test, the package installed and its table right."""
    with Guest.boot(kind.options) as guest:
        guest.install(package)
        report = examined(guest)
        assert backends(report) == {**USUAL, **kind.otherwise}
        assert (report.idle_because is None) == (not kind.idle)
        table = " ".join(guest.run("memreact doctor").stdout.split())
        assert [words for words in kind.remedies if words not in table] == []
        shown = "systemctl show -p ActiveState -p StatusText -p NRestarts memreact"
        said = guest.run(shown).stdout
        assert "ActiveState=active" in said
        assert "NRestarts=0" in said
        assert kind.idle in said
        yield guest


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in NOW else pytest.mark.kernels)
        for name in ONLY_LOOKED_AT
    ],
)
def test_it_starts_says_what_is_missing_and_stays_alive(package: Path, name: str) -> None:
    with guest_of(KINDS[name], package) as guest:
        guest.run("systemctl kill -s HUP memreact && systemctl is-active memreact")


@pytest.mark.parametrize("kernel", kernels(DEFAULT_KERNEL))
def test_without_the_multi_gen_lru_memory_reclaim_takes_shares_and_keeps_what_is_protected(
    package: Path, kernel: str, record_property: RecordProperty
) -> None:
    kind = replace(NO_MGLRU, options=replace(NO_MGLRU.options, kernel=kernel))
    with guest_of(kind, package) as guest:
        service, shop = Service(guest), Cgroup(guest, "/test.slice/shop")
        kept = Cgroup(guest, "/test.slice/kept")
        kept.set("memory.low", LOW)
        Workload(shop, "cold_anon", ANON_MIB)
        for cgroup in (shop, kept):
            Workload(cgroup, "cold_files", COLD_MIB)
        anon, files = _anonymous(shop), _files(shop)
        held = guest.held_bytes()
        service.start(SHARES)
        trace = service.wait_turns(PERIODS, timeout_s=60)
        taken = files - _files(shop)
        record_property(f"MiB of files in {kernel} before, and taken", (files >> 20, taken >> 20))
        asked = [a for entry in trace for a in entry.actions if isinstance(a, Reclaim | Evict)]
        assert {type(action) for action in asked} == {Reclaim}
        assert {one.outcome for one in batches(trace, shop.path)} <= {"done", "broken_off"}
        assert taken > files // 3
        assert anon > 50 * MIB
        assert _anonymous(shop) > anon - 4 * MIB
        trace = service.wait_until(lambda found: "protected" in codes(found, kept.path))
        assert kept.number("memory.current") > LOW - LAG
        guest.wait_held_below(held - taken // 3)


@pytest.mark.kernels
def test_without_swap_anonymous_memory_stays_although_it_is_asked_for(package: Path) -> None:
    with Guest.restore(package=package) as guest:
        service, shop = Service(guest), Cgroup(guest, "/test.slice/shop")
        Workload(shop, "cold_anon", ANON_MIB)
        Workload(shop, "cold_files", COLD_MIB)
        anon, files = _anonymous(shop), _files(shop)
        service.start(SWAP)
        trace = service.wait_turns(PERIODS)
        asked = [a for entry in trace for a in entry.actions if isinstance(a, Evict)]
        assert {a.swappiness for a in asked if a.path == shop.path} == {0}
        assert _files(shop) < files // 10
        assert anon > 50 * MIB
        assert _anonymous(shop) > anon - 4 * MIB
        why = {each.because.saw.get("anon") for each in decisions(trace, shop.path)}
        assert "swap_exhausted" in why


@pytest.mark.kernels
def test_without_a_balloon_cold_memory_goes_and_nothing_is_compacted(package: Path) -> None:
    with guest_of(KINDS["no balloon"], package) as guest:
        service, shop = Service(guest), Cgroup(guest, "/test.slice/shop")
        Workload(shop, "cold_files", COLD_MIB)
        files = _files(shop)
        service.start(SETTINGS)
        trace = service.wait_turns(PERIODS)
        assert _files(shop) < files // 10
        assert not [a for entry in trace for a in entry.actions if isinstance(a, Compact)]
        proof = guest.run("memreact doctor --prove", timeout_s=120, check=False)
        assert proof.code == 1
        assert "no virtio balloon" in " ".join(proof.stdout.split())


@pytest.fixture(scope="module")
def two_nodes(package: Path) -> Iterator[Service]:
    """The service of a guest with two nodes, into which more memory can be plugged."""
    with guest_of(KINDS["two NUMA nodes, and room for more memory"], package) as guest:
        assert examined(guest).capabilities.nodes == (0, 1)
        yield Service(guest)


@pytest.mark.kernels
def test_a_rule_of_one_node_leaves_the_other_nodes_alone(
    two_nodes: Service, record_property: RecordProperty
) -> None:
    one = Cgroup(two_nodes.guest, "/test.slice/one")
    for above in ("", "/test.slice"):
        two_nodes.guest.run(f"echo +cpuset > /sys/fs/cgroup{above}/cgroup.subtree_control")
    for node in (0, 1):
        one.set("cpuset.mems", node)
        Workload(one, "cold_files", COLD_MIB)
    before = _files_by_node(one)
    two_nodes.start(NODE_0_ALONE)
    trace = two_nodes.wait_turns(PERIODS)
    two_nodes.stop()
    after = _files_by_node(one)
    record_property("MiB of files on each node, before", [each >> 20 for each in before])
    record_property("and after", [each >> 20 for each in after])
    disabled = {d.node for d in decisions(trace, one.path) if d.because.code == "disabled"}
    assert {batch.node for batch in batches(trace, one.path)} == {0}
    assert disabled == {1}
    assert before[1] > 100 * MIB
    assert after[0] < before[0] // 10
    assert after[1] > before[1] - 4 * MIB


@pytest.mark.kernels
def test_memory_that_is_added_is_counted_and_what_was_estimated_is_dropped(
    two_nodes: Service, record_property: RecordProperty
) -> None:
    two_nodes.start(SETTINGS)
    before, trace = _counted_bytes(two_nodes.guest), two_nodes.wait_turns(1)
    looked = len(_looks(trace))
    _add_memory(two_nodes.guest, DIMM_MIB)
    trace = two_nodes.wait_until(lambda found: "memory_changed" in _jumps(found))
    assert "clock_disturbed" in codes(trace)
    trace = two_nodes.wait_until(lambda found: len(_looks(found)) > looked)
    grown = _counted_bytes(two_nodes.guest) - before
    record_property("told of", _jumps(trace))
    record_property("MiB more", grown >> 20)
    assert DIMM_MIB * 9 // 10 < grown >> 20 <= DIMM_MIB
    two_nodes.wait_turns(3)
    two_nodes.stop()


@pytest.mark.kernels
def test_guests_restored_from_one_snapshot_know_it_and_take_their_turns_apart(
    package: Path, record_property: RecordProperty
) -> None:
    phases = []
    for _ in range(2):
        with Guest.restore(KINDS["a VM generation id"].options, package) as guest:
            _wait(guest, "journalctl -u memreact -o cat | grep -q cause=snapshot_restored")
            phases.append(guest.run("cat /run/memreact/phase").stdout)
            assert guest.run("systemctl show -p NRestarts --value memreact").stdout == "0\n"
            told = guest.run("journalctl -u memreact -o cat | grep clock_disturbed").stdout
            record_property("told", told.splitlines())
    assert phases[0] != phases[1]


def _files(cgroup: Cgroup) -> int:
    """What a disk has, too: shared anonymous memory counts as file pages."""
    return cgroup.number("memory.stat", "file") - cgroup.number("memory.stat", "shmem")


def _anonymous(cgroup: Cgroup) -> int:
    return cgroup.number("memory.stat", "anon") + cgroup.number("memory.stat", "shmem")


def _files_by_node(cgroup: Cgroup) -> list[int]:
    row = next(r for r in cgroup.read("memory.numa_stat").splitlines() if r.startswith("file "))
    return [int(word.partition("=")[2]) for word in row.split()[1:]]


def _counted_bytes(guest: Guest) -> int:
    """Memory of the guest, as memreact's books have it."""
    said = guest.run("memreact-ctl --json status --ledger").stdout
    return int(msgspec.json.decode(said)["status"]["ledger"]["total_bytes"])


def _add_memory(guest: Guest, mib: int) -> None:
    """Plug a module in, and have the guest use the blocks that it sees then."""
    blocks = "ls -d /sys/devices/system/memory/memory[0-9]* | wc -l"
    before = int(guest.run(blocks).stdout)
    backend: dict[str, object] = {"qom-type": "memory-backend-ram", "id": "more"}
    guest.qmp("object-add", {**backend, "size": mib * MIB})
    guest.qmp("device_add", {"driver": "pc-dimm", "id": "dimm0", "memdev": "more", "node": 1})
    _wait(guest, f'[ "$({blocks})" -gt {before} ]')
    guest.run(
        "for state in $(grep -l offline /sys/devices/system/memory/memory*/state); do "
        "echo online > $state; done"
    )


def _wait(guest: Guest, met: str) -> None:
    guest.run(f"timeout 60 sh -c 'until {met}; do sleep 0.2; done'", timeout_s=70)


def _jumps(entries: list[Entry]) -> list[str]:
    return [entry.event.cause for entry in entries if isinstance(entry.event, ClockDisturbed)]


def _looks(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if isinstance(entry.event, CapabilitiesRead)]
