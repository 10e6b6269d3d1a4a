"""The guest's whole memory, read once: what is free in which pieces, and what the rest is."""

from __future__ import annotations

from kernelio import cgroup, memcg
from kernelio.buddy import FreeBlocks, read_buddyinfo
from kernelio.errors import KernelioError
from kernelio.folio import read_huge_folio_bytes
from kernelio.layout import Layout
from kernelio.meminfo import page_size, read_meminfo
from kernelio.page_reporting import (
    Zone,
    balloons,
    headroom_pages,
    read_order,
    read_zoneinfo,
    reported_bytes,
)
from kernelio.pinned import read_pinned_pages
from memreact.account import Account, ZoneAccount
from memreact.sources.pressure import now_us

__all__ = ["read_account"]


def read_account(layout: Layout) -> Account:
    """Read where the memory is (about 15 ms in a guest of 24 GiB: one flag of each free block).

    Raises:
        KernelioError: A file that every kernel has cannot be read.
    """
    order = read_order(layout)
    zones = tuple(zone for zone in read_zoneinfo(layout) if zone.managed_pages)
    free = _free(layout, zones, order)
    meminfo = read_meminfo(layout)
    return Account(
        at=now_us(),
        # MemTotal also counts, on some kernels, memory that no zone has been given yet.
        total_bytes=sum(zone.managed_pages for zone in zones) * page_size(),
        negotiated=any(balloon.reporting for balloon in balloons(layout)),
        order=order,
        usual_order=_usual_order(layout),
        zones=free,
        anon_bytes=meminfo.anon_bytes,
        cached_bytes=meminfo.cached_bytes + meminfo.swap_cached_bytes,
        shmem_bytes=meminfo.shmem_bytes,
        dirty_bytes=meminfo.dirty_bytes + meminfo.writeback_bytes,
        unevictable_bytes=meminfo.unevictable_bytes,
        pinned_bytes=_pinned(layout),
        reclaimable_slab_bytes=meminfo.reclaimable_slab_bytes,
        protected_bytes=_protected(layout),
        swap_free_bytes=meminfo.swap_free_bytes,
    )


def _free(layout: Layout, zones: tuple[Zone, ...], order: int | None) -> tuple[ZoneAccount, ...]:
    free = {(row.node, row.zone): row for row in read_buddyinfo(layout)}
    rows = ((zone, free.get((zone.node, zone.name))) for zone in zones)
    return tuple(_zone(layout, zone, row, order) for zone, row in rows if row is not None)


def _zone(layout: Layout, zone: Zone, row: FreeBlocks, order: int | None) -> ZoneAccount:
    size, max_order = page_size(), len(row.counts) - 1
    free = tuple((count << at) * size for at, count in enumerate(row.counts))
    if order is None or not 0 <= order <= max_order:
        return ZoneAccount(free, 0, enough_free=False)
    enough = zone.free_pages >= headroom_pages(zone, order)
    # The two are read one after the other, and memory moves meanwhile.
    told = _reported(layout, zone, order, max_order)
    most = sum(free[order:])
    return ZoneAccount(free, None if told is None else min(told, most), enough_free=enough)


def _reported(layout: Layout, zone: Zone, order: int, max_order: int) -> int | None:
    try:
        return reported_bytes(layout, [zone], order, max_order)
    except KernelioError:
        return None


def _usual_order(layout: Layout) -> int | None:
    """The order of a huge page, where there are some: what the kernel reports from by itself."""
    try:
        pages = read_huge_folio_bytes(layout) // page_size()
    except KernelioError:
        return None
    return pages.bit_length() - 1 if pages > 1 else None


def _pinned(layout: Layout) -> int:
    try:
        return read_pinned_pages(layout) * page_size()
    except KernelioError:
        return 0


def _protected(layout: Layout) -> int:
    """What the topmost cgroups keep of what they use; those below share in that."""
    try:
        names = [name for name, _ in cgroup.children(layout.cgroup_root)]
    except KernelioError:
        return 0
    return sum(_kept(layout.memcg_dir(f"/{name}")) for name in names)


def _kept(directory: str) -> int:
    try:
        protection = memcg.read_protection(directory)
        most = max(protection.min_bytes, protection.low_bytes)
        return min(memcg.read_current(directory), most) if most else 0
    except KernelioError:
        return 0
