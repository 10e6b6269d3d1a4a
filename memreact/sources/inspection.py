"""One memcg read closely: what it may lose, what it lost, and what that did to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kernelio import cgroup, memcg, swap
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.meminfo import read_meminfo
from memreact.events import Guard, Inspection
from memreact.sources.pressure import read_sample

__all__ = ["Folios", "inspect"]


class Folios(NamedTuple):
    """The largest folios of this guest, bytes: they set how far a batch overshoots.

    Args:
        file_bytes: Of the page cache.
        anon_bytes: Of what needs swap to go, but for huge pages.
        huge_bytes: A huge page, which counts where a memcg has some.
    """

    file_bytes: int
    anon_bytes: int
    huge_bytes: int


class _SwapRoom(NamedTuple):
    """Swap that a memcg can still use, and whose limit it is (None: there is no more of it)."""

    free_bytes: int
    limit_path: str | None = None


class _Zram(NamedTuple):
    """What zram holds, what it takes for that, and what more it may take (None: no limit)."""

    stored_bytes: int = 0
    used_bytes: int = 0
    left_bytes: int | None = None


def inspect(layout: Layout, own_path: str, path: str, folios: Folios) -> Inspection:
    """Read a memcg before or after a write to it.

    Raises:
        Vanished: It is gone.
        KernelioError: It cannot be read.
    """
    directory = layout.memcg_dir(path)
    stat = memcg.read_memory_stat(directory)
    events = memcg.read_memory_events(directory) if path != "/" else None
    state = cgroup.read_cgroup_events(directory)
    zram, room = _zram(layout), _swap_room(layout, path)
    return Inspection(
        path=path,
        pressure=read_sample(layout, own_path, path),
        guards=tuple(_guards(layout, path)),
        anon_bytes=stat.anon_bytes,
        file_bytes=stat.file_bytes,
        dirty_bytes=stat.file_dirty_bytes + stat.file_writeback_bytes,
        unevictable_bytes=stat.unevictable_bytes,
        evicted_total_pages=stat.pgsteal,
        refault_total_pages=stat.workingset_refault_file + stat.workingset_refault_anon,
        swap_free_bytes=room.free_bytes,
        zram_stored_bytes=zram.stored_bytes,
        zram_used_bytes=zram.used_bytes,
        folio_bytes=_file_folio_bytes(stat, folios),
        anon_folio_bytes=_anon_folio_bytes(stat, folios),
        limit_bytes=memcg.read_limits(directory).max_bytes if path != "/" else None,
        frozen=state.frozen,
        throttled_total=0 if events is None else events.high + events.max,
        oom_total=0 if events is None else events.oom + events.oom_kill,
        shmem_bytes=stat.shmem_bytes,
        zram_left_bytes=zram.left_bytes,
        swap_limit_path=room.limit_path,
    )


def _guards(layout: Layout, path: str) -> Iterator[Guard]:
    for above in cgroup.ancestors(path):
        if above == "/":
            continue
        directory = layout.memcg_dir(above)
        protection = memcg.read_protection(directory)
        kept = max(protection.min_bytes, protection.low_bytes)
        yield Guard(above, memcg.read_current(directory), kept)


def _swap_room(layout: Layout, path: str) -> _SwapRoom:
    """Swap that this memcg can still use: the guest's, within each limit on the way up."""
    room = _SwapRoom(read_meminfo(layout).swap_free_bytes)
    for above in cgroup.ancestors(path) if room.free_bytes else ():
        if above == "/":
            continue
        left = memcg.read_swap(layout.memcg_dir(above)).left_bytes
        if left is not None and left < room.free_bytes:
            room = _SwapRoom(left, above)
    return room


def _zram(layout: Layout) -> _Zram:
    """The zram devices together, where the next page goes to one of them; else nothing is known.

    The kernel fills one priority before it takes the next one.
    """
    try:
        devices = [each for each in swap.read_swaps(layout) if each.used_bytes < each.size_bytes]
        first = max((device.priority for device in devices), default=0)
        names = [swap.zram_name(device) for device in devices if device.priority == first]
        uses = [swap.read_zram(layout, name) for name in names if name is not None]
    except KernelioError:
        return _Zram()
    if not uses or len(uses) < len(names):
        return _Zram()
    limited = all(use.limit_bytes for use in uses)
    return _Zram(
        sum(use.original_bytes for use in uses),
        sum(use.used_bytes for use in uses),
        sum(max(0, use.limit_bytes - use.used_bytes) for use in uses) if limited else None,
    )


def _file_folio_bytes(stat: memcg.MemoryStat, folios: Folios) -> int:
    # Anonymous memory that was freed lazily (MADV_FREE) lies among the files, huge pages too.
    huge = stat.file_thp_bytes or stat.anon_thp_bytes
    return max(folios.file_bytes, folios.huge_bytes if huge else 0)


def _anon_folio_bytes(stat: memcg.MemoryStat, folios: Folios) -> int:
    """Of what needs swap to go: anonymous memory, and shared memory with it."""
    huge = stat.anon_thp_bytes or stat.shmem_thp_bytes
    return max(folios.anon_bytes, folios.huge_bytes if huge else 0)
