"""Break compactions off by a real stall, again and again, and tell how long each child lived on.

Runs in the guest beside the installed daemon, whose trace it follows. Each round leaves 200 MiB of
anonymous memory between as many holes, has the daemon compact, and a random moment later another
cgroup stalls on memory (memory.high). What counts is by the kernel's own trace, on one clock:

    woken    the waiting thread is woken by psimon, the last time before the kill
    killed   SIGKILL is sent to the child
    gone     the dying child wakes the worker, which waits for its pidfd: all of it is torn down
"""

from __future__ import annotations

import argparse
import mmap
import random
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lab.workloads.child import Child
from lab.workloads.ftrace import WAITER, WORKER, Seen, Tracing
from lab.workloads.interrupt import Entry, Follower, Void, stalls_by_high
from lab.workloads.lines import say

__all__ = ["End", "child_end", "compaction_ended", "figures"]

_MIB = 1 << 20
_HOLES_MIB = 200
_DELAY_S = (0.150, 0.500)  # the child has begun by then, and has not ended
_SETTLE_S = 0.5
_PATIENCE_S = 40.0
_LOOK_S = 0.002
_SIGKILL = 9
_EVENTS = {
    "sched/sched_waking": f'comm == "{WAITER}" || comm == "{WORKER}"',
    "signal/signal_generate": f"sig == {_SIGKILL}",
}
_CHILDREN = ("sh", "setpriv", "python3")
_SETTINGS = """\
[memcg]
disabled = true

[compact]
disabled = {disabled}
period_secs = 1
period_psi_percent_limit = 100
compact_force_times = 0
"""


class End(NamedTuple):
    """How the kernel saw a child's end; None is what it did not see."""

    woken_us: int | None
    killed_us: int
    gone_us: int


class Lab:
    """One daemon, its trace, the kernel's, a cgroup full of holes and one that stalls."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._settings_path: str = arguments.settings
        self._holes = Child(arguments.work, _Holes)
        self._sibling = Child(arguments.sibling, lambda: stalls_by_high(arguments.sibling))
        self._tracing = Tracing(_EVENTS)
        self._follower = Follower(arguments.trace)

    def interrupt(self) -> dict[str, int]:
        """One round.

        Raises:
            Void: The compaction was not there to be broken off.
        """
        self._settle(disabled=True)
        self._holes.tell("make")
        self._holes.answer()
        self._follower.read()
        self._settle(disabled=False)
        if not self._wait_for_compaction():
            raise Void("no_compaction")
        self._tracing.clear()
        time.sleep(random.uniform(*_DELAY_S))  # noqa: S311  # no secret
        if compaction_ended(self._follower.read()) is not None:
            raise Void("over_before")
        self._sibling.tell("stall")
        stamp_us = self._sibling.answer()
        self._settle(disabled=True)
        time.sleep(_SETTLE_S)
        if not stamp_us:
            raise Void("no_stall")
        return figures(self._follower.read(), self._tracing.seen(), stamp_us)

    def _wait_for_compaction(self) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if _compacts(self._follower.read()):
                return True
            time.sleep(_LOOK_S)
        return False

    def _settle(self, *, disabled: bool) -> None:
        with open(self._settings_path, "w") as file:
            file.write(_SETTINGS.format(disabled=str(disabled).lower()))


class _Holes:
    """Anonymous memory of which every other page was somebody's who is gone."""

    def __init__(self) -> None:
        self._stays: mmap.mmap | None = None

    def __call__(self, _word: str) -> int:
        if self._stays is not None:
            self._stays.close()
        stays, goes = _small_pages(), _small_pages()
        for at in range(0, len(stays), mmap.PAGESIZE):
            stays[at] = goes[at] = 1
        goes.close()
        self._stays = stays
        return _HOLES_MIB


def _small_pages() -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, _HOLES_MIB * _MIB, flags=flags)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def _compacts(entries: Iterable[Entry]) -> bool:
    return any(a["type"] == "Compact" for each in entries for a in each.get("actions", ()))


def compaction_ended(entries: Iterable[Entry]) -> Entry | None:
    """The first end of a node's compaction."""
    for each in entries:
        if each["event"]["type"] == "CompactionEnded":
            event: Entry = each["event"]
            return event
    return None


def child_end(seen: Iterable[Seen]) -> End | None:
    """The first kill of a child and its end; None where either was not seen."""
    woken_us = killed_us = None
    for each in seen:
        if each.event == "sched_waking" and each.task.startswith("psimon"):
            woken_us = woken_us if killed_us else each.at_us
        elif each.event == "signal_generate" and killed_us is None:
            killed_us = each.at_us
        elif killed_us is not None and each.event == "sched_waking" and _wakes_worker(each):
            return End(woken_us, killed_us, each.at_us)
    return None


def _wakes_worker(seen: Seen) -> bool:
    return seen.task in _CHILDREN and f"comm={WORKER} " in seen.text


def figures(entries: list[Entry], seen: list[Seen], stamp_us: int) -> dict[str, int]:
    """What one interruption comes to.

    Raises:
        Void: The compaction had ended by itself, or for another reason.
    """
    ended, end = compaction_ended(entries), child_end(seen)
    if ended is None or end is None:
        raise Void("no_end" if ended is None else f"not_killed_but_{ended['outcome']}")
    if ended["outcome"] != "broken_off" or end.killed_us < stamp_us:
        raise Void("stopped_by_another")
    told = {
        "stall_to_gone_us": end.gone_us - stamp_us,
        "kill_to_gone_us": end.gone_us - end.killed_us,
        "moved_pages": ended["migrated_pages"],
        "compacted_us": ended["took_us"],
    }
    if end.woken_us is not None:
        told["wake_to_kill_us"] = end.killed_us - end.woken_us
        told["wake_to_gone_us"] = end.gone_us - end.woken_us
    return told


def main() -> None:
    """Break off so many, or give up after three times as many rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="folder of the cgroup with the holes")
    parser.add_argument("--sibling", required=True, help="folder of the one that stalls")
    parser.add_argument("--trace", required=True, help="what `memreact run --trace` writes")
    parser.add_argument("--settings", required=True, help="the daemon's file")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    lab = Lab(arguments)
    say("ready")
    _rounds(lab.interrupt, arguments.rounds)
    say("over")


def _rounds(interrupt: Callable[[], dict[str, int]], wanted: int) -> None:
    for _ in range(3 * wanted):
        try:
            say("broken_off", **interrupt())
        except Void as void:
            say("void", **{str(void): 1})
            continue
        wanted -= 1
        if not wanted:
            return


if __name__ == "__main__":
    main()
