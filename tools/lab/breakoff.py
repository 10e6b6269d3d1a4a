"""`make breakoff`: how long a compaction's child lives once the kernel says that it hurts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.guest import Guest
from lab.installed import SETTINGS, Installed
from lab.latency_figures import Row, table, voids
from lab.machine import MachineOptions
from lab.workload import Cgroup, Line, Workload

__all__ = ["breakoff", "missed", "rows_of"]

_TRACE = "/run/memreact/trace.jsonl"
_ROUND_S = 20.0
_FIGURES = {
    "wake_to_gone_us": "kernel's wake to child gone",
    "wake_to_kill_us": "kernel's wake to kill",
    "kill_to_gone_us": "kill to child gone",
    "stall_to_gone_us": "first stalled microsecond to child gone",
    "compacted_us": "how long it had compacted by then",
    "moved_pages": "pages that had moved by then",
}
_COUNTED = "wake_to_gone_us"


def breakoff(package: Path, rounds: int) -> int:
    """Break off so many in a guest and print the table; 1 if there were fewer.

    Raises:
        LabError: The guest or the daemon failed.
    """
    with Guest.restore(MachineOptions(), package) as guest:
        print(f"{guest.release}, {rounds} compactions broken off", flush=True)
        Installed(guest, _TRACE).start("[compact]\ndisabled = true\n")
        work, sibling = Cgroup(guest, "/break.slice/work"), Cgroup(guest, "/break.slice/sibling")
        words = ["--work", work.folder, "--sibling", sibling.folder, "--rounds", str(rounds)]
        words += ["--trace", _TRACE, "--settings", SETTINGS]
        driver = Workload(Cgroup(guest, "/break.slice/driver"), "breakoff", *words)
        driver.wait_for("over", timeout_s=60 + rounds * _ROUND_S)
        lines = driver.lines()
    rows = rows_of(lines)
    print(f"{voids(lines)}\n{table(rows)}")
    short = missed(rows, rounds)
    if short:
        print(f"not reached: {short}")
    return 1 if short else 0


def rows_of(lines: Sequence[Line]) -> list[Row]:
    """Sort what the driver printed into rows; a figure that never came has none."""
    told = [line.figures for line in lines if line.what == "broken_off"]
    rows = (
        Row(words, tuple(int(each[name]) for each in told if name in each))
        for name, words in _FIGURES.items()
    )
    return [row for row in rows if row.values]


def missed(rows: Sequence[Row], rounds: int) -> str:
    """Say that too few were broken off, in words; empty where it were enough."""
    seen = next((len(row.values) for row in rows if row.name == _FIGURES[_COUNTED]), 0)
    return "" if seen >= rounds else f"{seen} of {rounds} compactions were broken off"
