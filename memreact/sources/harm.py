"""What the processes of memcgs have waited, as the kernel counts it; read when somebody asks.

About 0.1 ms a process, so it is done on a thread, of so many of them and for so long at most. What
ends meanwhile is daily life: it is counted, and what it waited last is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from kernelio import cgroup
from kernelio.boot import read_cmdline
from kernelio.delayacct import read_delay_accounting
from kernelio.errors import KernelioError, Vanished
from kernelio.layout import Layout
from kernelio.taskstats import TaskDelays, Taskstats
from memreact.events import HarmSeen, Instant, MemcgDelays
from memreact.sources.pressure import now_us

__all__ = [
    "PROCESSES_MAX",
    "Ask",
    "Census",
    "Open",
    "harm_between",
    "open_taskstats",
    "take_census",
    "waited",
    "why_not_counted",
]

PROCESSES_MAX = 512
TIME_MAX_US = 250_000
"""For so long at most: on a machine that is stalled itself each answer may take its time."""

_CGROUPS_MAX = 1024
_MEMCGS_TOLD = 8
_WORTH_US = 1_000
"""Less than that is nobody's harm."""

_SWITCH_ON = "sysctl kernel.task_delayacct=1 (or boot with delayacct)"

Ask = Callable[[int], TaskDelays]
"""Asks for a process by its id; raises Vanished where it has ended."""

Open = Callable[[], tuple[Ask, Callable[[], None]]]
"""Opens what asks, and gives what closes it."""


class Census(NamedTuple):
    """The delays of each process so far.

    Args:
        at: When the reading began.
        memcgs: By the memcg's path and the process.
        left_out: Processes that were not asked about, for there were too many.
    """

    at: Instant
    memcgs: Mapping[str, Mapping[int, TaskDelays]]
    left_out: int = 0


def why_not_counted(layout: Layout) -> str | None:
    """Say why delays are not counted, or not those of all, and what would mend it."""
    try:
        if not read_delay_accounting(layout):
            return f"delay accounting is off: {_SWITCH_ON}; what runs already may not be counted"
    except KernelioError:
        return "this kernel counts no delays: it needs CONFIG_TASK_DELAY_ACCT=y"
    with suppress(KernelioError):
        if "delayacct" not in read_cmdline(layout):
            return "what began before delay accounting was on is not counted: boot with delayacct"
    return None


def open_taskstats() -> tuple[Ask, Callable[[], None]]:
    """What asks the kernel, and what closes it.

    Raises:
        Unsupported: Not built in, or not permitted.
    """
    stats = Taskstats.open()
    return stats.read_delays, stats.close


def take_census(
    layout: Layout,
    paths: Iterable[str],
    ask: Ask,
    *,
    with_below: bool = False,
    clock: Callable[[], Instant] = now_us,
) -> Census:
    """Ask about the processes of these memcgs, the first ones first.

    Args:
        layout: Where the kernel shows its files.
        paths: Of the memcgs.
        ask: Asks for one process.
        with_below: Whether what is in memcgs below one of them counts as its own.
        clock: Reads the moment.

    Raises:
        Unsupported: The kernel does not answer, or not us.
    """
    began, asked, left_out = clock(), 0, 0
    memcgs: dict[str, dict[int, TaskDelays]] = {}
    for path in paths:
        found = memcgs.setdefault(path, {})
        for pid in _processes(layout.memcg_dir(path), with_below=with_below):
            if asked >= PROCESSES_MAX or clock() - began > TIME_MAX_US:
                left_out += 1
                continue
            asked += 1
            with suppress(Vanished):
                found[pid] = ask(pid)
    return Census(began, memcgs, left_out)


def _processes(directory: str, *, with_below: bool) -> Iterator[int]:
    """Those of a memcg: a cgroup below it that has no memory controller is charged to it too."""
    waiting, seen = [directory], 0
    while waiting and seen < _CGROUPS_MAX:
        each, seen = waiting.pop(), seen + 1
        with suppress(KernelioError):
            yield from filter(None, cgroup.read_procs(each))
        with suppress(KernelioError):
            names = [f"{each}/{name}" for name, _ in cgroup.children(each)]
            waiting += [name for name in names if with_below or not _has_memory(name)]


def _has_memory(directory: str) -> bool:
    try:
        return cgroup.has_memory(directory)
    except KernelioError:
        return True


_NONE = TaskDelays(0, 0, 0, None, None, None)


def waited(
    before: Mapping[int, TaskDelays], after: Mapping[int, TaskDelays], *, whole: bool = True
) -> TaskDelays:
    """What processes waited between two readings, summed.

    Where one of a process's figures fell everything counts: its id was given to another meanwhile.

    Args:
        before: The first reading; an empty one counts from the begin of each.
        after: The second one.
        whole: Whether the first reading left nobody out: whom it does not know has begun since, and
            all of it counts; else such a one counts for nothing.
    """
    each = [
        _grown(before.get(pid), delays) for pid, delays in after.items() if whole or pid in before
    ]
    return TaskDelays(*map(_sum, zip(*each, strict=True))) if each else _NONE  # type: ignore[arg-type]  # what is always said is said of each


def _grown(before: TaskDelays | None, after: TaskDelays) -> TaskDelays:
    if before is None:
        return after
    pairs = list(zip(before, after, strict=True))
    if any(old is not None and new is not None and new < old for old, new in pairs):
        return after
    return TaskDelays(*(None if new is None else new - (old or 0) for old, new in pairs))  # type: ignore[arg-type]  # what is said once is always said


def _sum(column: tuple[int | None, ...]) -> int | None:
    said = [us for us in column if us is not None]
    return sum(said) if said else None


def harm_between(before: Census, after: Census) -> HarmSeen | None:
    """Who waited for memory between two readings, the worst first; None where nobody did."""
    known = {pid: each for found in before.memcgs.values() for pid, each in found.items()}
    all_told = [
        _of_memcg(
            path, before.memcgs.get(path, {}), now, waited(known, now, whole=not before.left_out)
        )
        for path, now in after.memcgs.items()
    ]
    hurt = [delays for delays in all_told if _memory_us(delays) >= _WORTH_US]
    if not hurt:
        return None
    hurt.sort(key=_memory_us, reverse=True)
    return HarmSeen(before.at, after.at, tuple(hurt[:_MEMCGS_TOLD]), after.left_out)


def _of_memcg(
    path: str,
    before: Mapping[int, TaskDelays],
    after: Mapping[int, TaskDelays],
    sums: TaskDelays,
) -> MemcgDelays:
    return MemcgDelays(
        path,
        len(after),
        sum(pid not in after for pid in before),
        sums.reclaim_us,
        sums.swap_in_us,
        sums.thrashing_us,
        sums.compact_us,
        sums.block_io_us,
    )


def _memory_us(delays: MemcgDelays) -> int:
    kinds = (delays.reclaim_us, delays.swap_in_us, delays.thrashing_us, delays.compact_us)
    return sum(us for us in kinds if us is not None)
