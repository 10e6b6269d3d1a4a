"""All that explains one memcg and no survey reads: read when somebody asks, on a thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from kernelio import cgroup, memcg, psi
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.taskstats import TaskDelays
from memreact.capabilities import if_readable
from memreact.close_look import CloseLook, Waited
from memreact.events import Instant
from memreact.sources.harm import Ask, Open, open_taskstats, take_census, waited, why_not_counted
from memreact.sources.inspection import Folios, inspect
from memreact.sources.protection import read_protection
from memreact_schemas.status import Delays

__all__ = ["Looks", "look_closely"]

_LOOKS_KEPT = 16


class _Look(NamedTuple):
    """What was seen last: when, of whom, and whether of all."""

    at: Instant
    delays: Mapping[int, TaskDelays]
    whole: bool


class Looks:
    """What was seen of a few memcgs when somebody looked last; one looks at a time."""

    def __init__(self) -> None:
        self._last: dict[str, _Look] = {}

    def waited(self, layout: Layout, path: str, open_: Open) -> Waited:
        """Read what the processes of a memcg and of all below it waited.

        Args:
            layout: Where the kernel shows its files.
            path: Of the memcg.
            open_: What asks the kernel about a process, and what closes it.
        """
        missing = why_not_counted(layout)
        try:
            ask, close = open_()
        except KernelioError as error:
            return Waited(missing=missing or str(error))
        try:
            return self._read(layout, path, ask)._replace(missing=missing)
        except KernelioError as error:
            return Waited(missing=str(error))
        finally:
            close()

    def _read(self, layout: Layout, path: str, ask: Ask) -> Waited:
        census = take_census(layout, [path], ask, with_below=True)
        now = census.memcgs[path]
        total = _delays(waited({}, now), len(now), left_out=census.left_out)
        last = self._last.pop(path, None)
        self._last[path] = _Look(census.at, now, not census.left_out)
        if len(self._last) > _LOOKS_KEPT:
            del self._last[next(iter(self._last))]
        if last is None:
            return Waited(total)
        sums = waited(last.delays, now, whole=last.whole)
        gone = sum(pid not in now for pid in last.delays)
        since = _delays(sums, len(now), left_out=census.left_out, since_us=last.at, gone=gone)
        return Waited(total, since)


def _delays(sums: TaskDelays, processes: int, **figures: int) -> Delays:
    return Delays(
        processes=processes,
        reclaim_us=sums.reclaim_us,
        swap_in_us=sums.swap_in_us,
        thrashing_us=sums.thrashing_us,
        compact_us=sums.compact_us,
        block_io_us=sums.block_io_us,
        **figures,
    )


def look_closely(  # noqa: PLR0913  # a test brings another kernel
    layout: Layout,
    own_path: str,
    path: str,
    folios: Folios,
    looks: Looks,
    *,
    open_: Open = open_taskstats,
) -> CloseLook:
    """Read a memcg; what it does not tell is left out.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own memcg.
        path: Of the memcg.
        folios: How large folios get in this guest.
        looks: What was seen before.
        open_: What asks the kernel about a process, and what closes it.
    """
    directory = layout.memcg_dir(path)
    stall = if_readable(lambda: psi.read_own_stall(directory), None)
    return CloseLook(
        saw=if_readable(lambda: inspect(layout, own_path, path, folios), None),
        stall_us=None if stall is None else (stall.memory_us, stall.io_us),
        memory=if_readable(lambda: psi.read_pressure(f"{directory}/memory.pressure"), None),
        io=if_readable(lambda: psi.read_pressure(f"{directory}/io.pressure"), None),
        keeps=dict(_keeps(layout, path)),
        limits=read_protection(layout, path),
        waited=looks.waited(layout, path, open_),
    )


def _keeps(layout: Layout, path: str) -> Iterator[tuple[str, memcg.Protection]]:
    for above in cgroup.ancestors(path):
        with suppress(KernelioError):
            yield above, memcg.read_protection(layout.memcg_dir(above))
