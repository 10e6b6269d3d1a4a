"""Prints, as one line of JSON, what the guest's kernel counts of a rival, of its own, and of harm.

probe CGROUP     the folder of the rival's cgroup below /sys/fs/cgroup; empty for none
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

_THREADS = re.compile(r"kdamond|kswapd|kcompactd|psimon")
_SWITCHING = "kdamond"
_KB = 1024


def flat(text: str) -> dict[str, int]:
    """Names and numbers of a file that has a line for each."""
    rows = (line.replace(":", "").split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def kind_of(comm: str) -> str:
    """The kernel's thread without its number, empty for one that is none of ours: `kdamond.0`."""
    match = _THREADS.match(comm)
    return match[0] if match else ""


def switches(status: str) -> int:
    """How often a thread was given a processor."""
    found = flat(status)
    return found["voluntary_ctxt_switches"] + found["nonvoluntary_ctxt_switches"]


def some_us(pressure: str) -> int:
    """The total of the first line, "some"."""
    return int(pressure.partition("\n")[0].rpartition("=")[2])


def steal_us(stat: str) -> int:
    """Of the first line of /proc/stat."""
    return int(stat.split()[8]) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _or_nothing(path: str) -> str:
    """Of what may end at any moment."""
    try:
        return _read(path)
    except OSError:
        return ""


def _kernel_threads() -> Iterator[tuple[str, str]]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if kind := kind_of(_or_nothing(f"/proc/{pid}/comm")):
            yield pid, kind


def _kernel_us() -> Counter[str]:
    used: Counter[str] = Counter()
    for pid, kind in _kernel_threads():
        if told := _or_nothing(f"/proc/{pid}/schedstat"):
            used[kind] += int(told.split()[0]) // 1000
    return used


def _kernel_switches() -> int:
    told = (_or_nothing(f"/proc/{p}/status") for p, kind in _kernel_threads() if kind == _SWITCHING)
    return sum(switches(text) for text in told if text)


def _of_cgroup(folder: str) -> dict[str, int]:
    cpu = flat(_read(f"{folder}/cpu.stat"))
    pids = _read(f"{folder}/cgroup.procs").split()
    tasks = (f"/proc/{pid}/task/{tid}" for pid in pids for tid in _listed(f"/proc/{pid}/task"))
    rolls = [flat(_or_nothing(f"/proc/{pid}/smaps_rollup")) for pid in pids]
    return {
        "user_us": cpu["user_usec"],
        "system_us": cpu["system_usec"],
        "switches": sum(
            switches(text) for task in tasks if (text := _or_nothing(f"{task}/status"))
        ),
        "rss_bytes": _sum(rolls, "Rss"),
        "anon_bytes": _sum(rolls, "Anonymous"),
        "private_bytes": _sum(rolls, "Private_Clean", "Private_Dirty"),
    }


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _sum(rolls: Iterable[dict[str, int]], *names: str) -> int:
    return sum(roll.get(name, 0) for roll in rolls for name in names) * _KB


def main(words: list[str]) -> None:
    """Print it."""
    vmstat = flat(_read("/proc/vmstat"))
    zram = _or_nothing("/sys/block/zram0/mm_stat").split()
    told: dict[str, object] = {
        "at_us": time.monotonic_ns() // 1000,
        "kernel_us": _kernel_us(),
        "kernel_switches": _kernel_switches(),
        "major_faults": vmstat["pgmajfault"],
        "refaults": sum(n for name, n in vmstat.items() if name.startswith("workingset_refault_")),
        "stalled_us": sum(some_us(_read(f"/proc/pressure/{name}")) for name in ("memory", "io")),
        "steal_us": steal_us(_read("/proc/stat")),
        "zram_bytes": int(zram[2]) if len(zram) > 2 else 0,  # noqa: PLR2004
    }
    if words and words[0]:
        told |= _of_cgroup(words[0])
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
