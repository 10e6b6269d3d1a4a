"""What each kernel can do and what memreact makes of each kind of guest: docs/kernels.md as values.

`tests/architecture/test_kernels_page.py` holds the page to them, the tests of this folder the
kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import pytest

from lab.guest import Guest
from lab.kernels import DEFAULT_KERNEL, KERNELS
from lab.machine import MachineOptions
from memreact_schemas.doctor import Report

__all__ = [
    "AT_BOOT",
    "EACH_KERNEL",
    "KINDS",
    "SECOND_KERNEL",
    "TRAITS",
    "USUAL",
    "Kind",
    "backends",
    "examined",
    "kernels",
]

SECOND_KERNEL = "7.x"
"""`make test` boots this one too; what asks for another waits for `make test-kernels`."""


def kernels(*at_once: str) -> list[object]:
    """Parameters for every kernel; those that are not to be booted `at_once` are marked."""
    marks = {name: () if name in at_once else (pytest.mark.kernels,) for name in KERNELS}
    return [pytest.param(name, marks=marks[name]) for name in KERNELS]


EACH_KERNEL = pytest.mark.parametrize("debian", kernels(DEFAULT_KERNEL), indirect=True)
"""Of a module: its guest is one of each kernel, `make test` boots the first only."""

AT_BOOT = "the multi-gen LRU at boot"
"""Of the traits the one that a program cannot see later on; the golden samples hold it."""

TRAITS: Mapping[str, Mapping[str, str]] = {
    AT_BOOT: {"6.1": "off", "6.12": "on", "7.x": "on"},
    "evicts anonymous pages alone": {"6.1": "200", "6.12": "200", "7.x": "max"},
    "its eviction takes the word max": {"6.1": "no", "6.12": "no", "7.x": "yes"},
    "memory.reclaim takes swappiness=": {"6.1": "no", "6.12": "yes", "7.x": "yes"},
    "shortest PSI window": {"6.1": "500 ms", "6.12": "10 ms", "7.x": "10 ms"},
    "a cgroup's number in lru_gen": {"6.1": "16 bits", "6.12": "16 bits", "7.x": "its inode"},
    "nodes can be reclaimed from": {"6.1": "no", "6.12": "no", "7.x": "yes"},
    "DAMON": {"6.1": "no", "6.12": "yes", "7.x": "yes"},
}
"""How the kernels differ, as programs/traits.py finds it out."""

USUAL: Mapping[str, str] = {
    "find cold memory": "multi-gen LRU",
    "evict it": "multi-gen LRU",
    "feel pressure": "PSI triggers",
    "feel it by cgroup": "PSI of cgroups",
    "watch cgroups": "inotify",
    "anonymous memory": "none",
    "gather free pages": "compact_memory",
    "return to host": "free page reporting",
    "notice devices": "uevents",
    "measure delays": "taskstats",
    "be alone": "memreact",
}
"""By what each job is done in a guest that lacks nothing but swap, on every kernel."""


@dataclass(frozen=True)
class Kind:
    """A kind of guest, and what memreact makes of it.

    Args:
        name: As the page calls it.
        options: The machine.
        otherwise: Jobs that are not done as `USUAL` says.
        idle: What systemd is told as the reason of doing nothing; empty where it works.
        remedies: Words of doctor's table that tell what would help.
    """

    name: str
    options: MachineOptions
    otherwise: Mapping[str, str] = field(default_factory=dict)
    idle: str = ""
    remedies: tuple[str, ...] = ()


_V1 = "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
# systemd would call a guest degraded in which it cannot mount what the boot line forbids.
_NO_DEBUGFS = "debugfs=off systemd.mask=sys-kernel-debug.mount"

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "no debugfs, so no multi-gen LRU",
            MachineOptions(append=_NO_DEBUGFS),
            {"find cold memory": "none", "evict it": "memory.reclaim"},
            "idle: no multi-gen LRU, and memory.reclaim is not asked for",
            ("boot without debugfs=off", '[reclaim] without_mglru = "memory.reclaim"'),
        ),
        Kind(
            "psi=0 and no balloon",
            MachineOptions(append="psi=0", balloon=False),
            {"feel pressure": "none", "feel it by cgroup": "none", "return to host": "none"},
            "idle: no pressure stall information",
            ("psi=1", "no virtio balloon"),
        ),
        Kind(
            "no balloon",
            MachineOptions(balloon=False),
            {"return to host": "none"},
            "",
            ("no virtio balloon", "free-page-reporting=on"),
        ),
        Kind(
            "no memory controller",
            MachineOptions(append="cgroup_disable=memory"),
            {"evict it": "none"},
            "idle: no cgroup v2 memory controller",
            ("boot without cgroup_disable=memory",),
        ),
        Kind(
            "cgroup v1 hybrid",
            MachineOptions(kernel="6.1", append=_V1),
            {"evict it": "none"},
            "idle: no cgroup v2 memory controller",
            ("cgroup v1 holds the memory controller",),
        ),
        Kind(
            "two NUMA nodes, and room for more memory",
            MachineOptions(nodes=2, devices=("-m", "slots=1,maxmem=2048M")),
        ),
        Kind(
            "a VM generation id",
            # QEMU draws another one whenever it starts, so each restored guest gets its own.
            MachineOptions(devices=("-device", "vmgenid,guid=auto")),
        ),
    )
}


def examined(guest: Guest) -> Report:
    """What doctor finds there."""
    said = guest.run("memreact doctor --json").stdout
    return msgspec.json.decode(said, type=Report)


def backends(report: Report) -> dict[str, str]:
    """By what each job is done, without the number of our own process."""
    return {finding.job: finding.backend.split(" (")[0] for finding in report.findings}
