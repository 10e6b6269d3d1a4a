"""Examples to begin from: what real kernels print, and what is saved here, a folder a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["CORPUS", "examples_of"]

CORPUS = Path(__file__).with_name("corpus")
_GOLDEN = Path(__file__).parents[1] / "golden"
_BYTES_MAX = 4096
_MEMCG = "sys/fs/cgroup/system.slice"
_PRINTED: Mapping[str, str] = {
    "boot_lockdown": "sys/kernel/security/lockdown",
    "boot_line": "proc/cmdline",
    "boot_release": "proc/sys/kernel/osrelease",
    "buddyinfo": "proc/buddyinfo",
    "capabilities": "proc/self/status",
    "cgroup_events": f"{_MEMCG}/cgroup.events",
    "cpu": "proc/self/stat",
    "flat_keyed": f"{_MEMCG}/cgroup.stat",
    "folio_choice": "sys/kernel/mm/transparent_hugepage/enabled",
    "folio_size": "sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
    "lru_gen": "sys/kernel/debug/lru_gen",
    "lru_gen_enabled": "sys/kernel/mm/lru_gen/enabled",
    "meminfo": "proc/meminfo",
    "memory_amount": f"{_MEMCG}/memory.max",
    "memory_events": f"{_MEMCG}/memory.events",
    "memory_stat": f"{_MEMCG}/memory.stat",
    "mountinfo": "proc/self/mountinfo",
    "node_list": "sys/devices/system/node/online",
    "pagetypeinfo": "proc/pagetypeinfo",
    "pressure": "proc/pressure/memory",
    "smaps_rollup": "proc/self/smaps_rollup",
    "swaps": "proc/swaps",
    "switches": "proc/self/status",
    "vmstat": "proc/vmstat",
    "zoneinfo": "proc/zoneinfo",
    "zram": "sys/block/zram0/mm_stat",
}


def examples_of(target: str) -> list[bytes]:
    """All of a target, the saved ones in the order of their names; long ones are cut."""
    printed = sorted(_GOLDEN.glob(f"*/{_PRINTED[target]}")) if target in _PRINTED else []
    saved = sorted((CORPUS / target).glob("*"))
    return [path.read_bytes()[:_BYTES_MAX] for path in (*printed, *saved)]
