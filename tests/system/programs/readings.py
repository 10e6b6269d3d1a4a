"""Read every kernel interface with kernelio and print what was read."""

from __future__ import annotations

import sys

import msgspec

from kernelio import (
    boot,
    buddy,
    cgroup,
    damon,
    folio,
    memcg,
    meminfo,
    mglru,
    node,
    process,
    psi,
    swap,
    taskstats,
)
from kernelio import page_reporting as reporting
from kernelio.layout import Layout


def main() -> None:
    """Print one JSON object."""
    layout = Layout()
    slice_dir = layout.memcg_dir("/system.slice")
    memcgs = list(mglru.read_lru_gen(layout.lru_gen))
    zones = reporting.read_zoneinfo(layout)
    mount = cgroup.find_cgroup2()
    readings = {
        "meminfo": meminfo.read_meminfo(layout)._asdict(),
        "swaps": [device._asdict() for device in swap.read_swaps(layout)],
        "zram": swap.read_zram(layout, "zram0")._asdict(),
        "lru_gen_enabled": mglru.read_enabled(layout.lru_gen_enabled),
        "memcgs": {m.path: m.nodes[0].max_seq - m.nodes[0].min_seq + 1 for m in memcgs},
        "order": reporting.read_order(layout),
        "balloons": [balloon._asdict() for balloon in reporting.balloons(layout)],
        "zones": {f"{zone.node} {zone.name}": zone.free_pages for zone in zones},
        "free_bytes": sum(
            count << order
            for row in buddy.read_buddyinfo(layout)
            for order, count in enumerate(row.counts)
        )
        * meminfo.page_size(),
        "nodes": node.read_online_nodes(layout),
        "release": boot.read_release(layout)[:2],
        "cmdline": boot.read_cmdline(layout),
        "lockdown": boot.read_lockdown(layout),
        "folio_bytes": [folio.read_anon_folio_bytes(layout), folio.read_file_folio_bytes(layout)],
        "damon": damon.reclaimer(layout)._asdict(),
        "mount": [mount.path, sorted(mount.controllers)] if mount else None,
        "v1_memory": cgroup.has_v1_memory(),
        "own_path": cgroup.own_path(),
        "cgroups": sorted(path for path, _inode in cgroup.walk(layout)),
        "slice_bytes": memcg.read_current(slice_dir),
        "slice_stat": memcg.read_memory_stat(slice_dir)._asdict(),
        "slice_events": cgroup.read_cgroup_events(slice_dir)._asdict(),
        "slice_limits": memcg.read_limits(slice_dir)._asdict(),
        "slice_protection": memcg.read_protection(slice_dir)._asdict(),
        "slice_swap": memcg.read_swap(slice_dir)._asdict(),
        "guest_stall": psi.read_guest_stall(layout)._asdict(),
        "slice_stall": psi.read_cgroup_stall(slice_dir)._asdict(),
        "own_stall": psi.read_own_stall(slice_dir)._asdict(),
        "short_windows": psi.can_arm_short_windows(layout.proc("pressure/memory")),
        "memory_cost": process.memory_cost()._asdict(),
        "sys_resource": process.has_capability("CAP_SYS_RESOURCE"),
        "delays": _delays(),
    }
    sys.stdout.write(msgspec.json.encode(readings).decode())


def _delays() -> dict[str, int | None]:
    """Delays of the first process."""
    client = taskstats.Taskstats.open()
    try:
        return client.read_delays(1)._asdict()
    finally:
        client.close()


main()
