"""What the kernel says now, read for somebody who looks on; nobody else reads it."""

from __future__ import annotations

from contextlib import suppress

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.meminfo import read_meminfo
from kernelio.psi import read_cgroup_stall, read_guest_stall
from kernelio.swap import SwapDevice, read_swaps, read_zram, zram_name
from memreact.own_cost import read_own_cost
from memreact.sources.pressure import now_us
from memreact.sources.protection import read_protection
from memreact_schemas.status import CgroupUse, GuestReading, OwnCost, SwapAreaReading

__all__ = ["read_guest", "read_use"]

_US_PER_SEC = 1_000_000


def read_guest(layout: Layout) -> GuestReading:
    """Read memory, stalls, swap and what memreact costs (about 2 ms).

    Raises:
        KernelioError: /proc/meminfo cannot be read.
    """
    meminfo, stall = read_meminfo(layout), None
    with suppress(KernelioError):
        stall = read_guest_stall(layout)
    return GuestReading(
        at_us=now_us(),
        total_bytes=meminfo.total_bytes,
        free_bytes=meminfo.free_bytes,
        available_bytes=meminfo.available_bytes,
        memory_stall_us=stall.memory_us if stall else None,
        io_stall_us=stall.io_us if stall else None,
        own=_own(layout),
        swap=_swap(layout),
    )


def read_use(layout: Layout, path: str) -> CgroupUse | None:
    """Read what one memcg uses and has stalled; None where it is gone."""
    limits = read_protection(layout, path)
    if limits is None:
        return None
    stall_us = None
    with suppress(KernelioError):
        stall_us = read_cgroup_stall(layout.memcg_dir(path)).total_us
    return CgroupUse(path=path, limits=limits, stall_us=stall_us)


def _own(layout: Layout) -> OwnCost | None:
    cost = read_own_cost(layout)
    if cost.memory is None:
        return None
    seconds = cost.user_s + cost.system_s + cost.children_user_s + cost.children_system_s
    return OwnCost(
        cpu_us=round(seconds * _US_PER_SEC),
        rss_bytes=cost.memory.rss_bytes,
        anon_bytes=cost.memory.anon_bytes,
        wake_ups=cost.wakeups,
    )


def _swap(layout: Layout) -> tuple[SwapAreaReading, ...]:
    try:
        devices = read_swaps(layout)
    except KernelioError:
        return ()
    return tuple(_area(layout, device) for device in devices)


def _area(layout: Layout, device: SwapDevice) -> SwapAreaReading:
    name, taken_bytes = zram_name(device), None
    if name is not None:
        with suppress(KernelioError):
            taken_bytes = read_zram(layout, name).used_bytes
    return SwapAreaReading(
        path=device.path,
        size_bytes=device.size_bytes,
        used_bytes=device.used_bytes,
        priority=device.priority,
        zram_taken_bytes=taken_bytes,
    )
