"""`make compaction`: what the host gets back of a guest whose free memory lies in pieces.

One row after the other, each in a guest of its own: the same job, with more and more of memreact at
work. Each row is written to a file as soon as it is there, and is not measured again unless named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.compaction_figures import Figures, read_rows, table, verdicts, written
from lab.free_frames import free_yet_held
from lab.guest import Guest
from lab.installed import Installed
from lab.machine import MachineOptions
from lab.workload import Cgroup, Workload, zram_swap

__all__ = ["ROWS", "compaction"]

_SETTLE_S = 8.0  # two passes of the kernel's reporting, and one of its looks
_JOB_S = 240.0
_MIXED_S = 110.0
_ZRAM_MIB = 512
_ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"
_JOURNAL = (
    "grep -E 'Node|type' /proc/pagetypeinfo; "
    "journalctl --no-pager -u memreact.service -o short-monotonic --no-hostname | "
    "grep -E 'action=(compact|compacted|turn|pause|resume) '"
)
_SETTINGS = """\
[memcg]
period_secs = 10
eviction_run_aging_count_min = 3
swap = {swap}

[compact]
disabled = {disabled}
period_secs = 10
period_psi_percent_limit = 10

[compact_policy]
rule = "{rule}"
"""


class _Ended(NamedTuple):
    """What a job says of itself: microseconds that it worked, None where that is not told."""

    worked_us: int | None


class _Row(NamedTuple):
    job: Callable[[Guest], _Ended]
    rule: str | None = None
    compacts: bool = True
    order: int | None = None
    swap: bool = False


def _fragmenting(guest: Guest) -> _Ended:
    cgroup = Cgroup(guest, "/job.slice/services")
    job = Workload(cgroup, "fragment", cgroup.folder)
    over = job.wait_for("over", timeout_s=_JOB_S).figures
    return _Ended(int(over["rush_us"] + over["serve_us"]))


def _mixed(guest: Guest) -> _Ended:
    """350 MiB of files read once, 100 MiB touched once, and 40 MiB in use all the time."""
    Workload(Cgroup(guest, "/job.slice/hot"), "hot", "40", "--pause-ms", "100")
    Workload(Cgroup(guest, "/job.slice/cold"), "cold_files", "350")
    Workload(Cgroup(guest, "/job.slice/anon"), "cold_anon", "100")
    time.sleep(_MIXED_S)
    return _Ended(None)


ROWS: Mapping[str, _Row] = {
    "none": _Row(_fragmenting),
    "evict": _Row(_fragmenting, "gain", compacts=False),
    "threshold": _Row(_fragmenting, "threshold"),
    "gain": _Row(_fragmenting, "gain"),
    "gain-5": _Row(_fragmenting, "gain", order=5),
    "mixed-none": _Row(_mixed, swap=True),
    "mixed-evict": _Row(_mixed, "gain", compacts=False, swap=True),
    "mixed-threshold": _Row(_mixed, "threshold", swap=True),
    "mixed-gain": _Row(_mixed, "gain", swap=True),
    "mixed-gain-5": _Row(_mixed, "gain", order=5, swap=True),
}
"""What can be measured, in the order in which it is."""


def compaction(package: Path, into: Path, again: Sequence[str] = ()) -> int:
    """Measure the rows that the file lacks, print the table; 1 where an aim is missed.

    Args:
        package: The .deb to install in the guests.
        into: The file of rows.
        again: Rows to be measured whether it has them or not, and no others.

    Raises:
        LabError: A guest or a job in it failed.
    """
    rows = read_rows(into.read_bytes()) if into.exists() else {}
    for name in again or [name for name in ROWS if name not in rows]:
        print(f"lab: {name}", flush=True)
        rows[name] = _measured(name, package)
        print(rows[name], flush=True)
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_bytes(written(rows))
    print(table(rows))
    missed = verdicts(rows)
    for line in missed:
        print(f"not reached: {line}")
    return 1 if missed else 0


def _measured(name: str, package: Path) -> Figures:
    row = ROWS[name]
    with Guest.restore(MachineOptions(), package=package) as guest:
        service = Installed(guest)
        service.stop()
        if row.swap:
            zram_swap(guest, _ZRAM_MIB)
        if row.order is not None:
            guest.run(f"echo {row.order} > {_ORDER}")
        migrated = _vmstat(guest, "pgmigrate_success")
        if row.rule is not None:
            service.start(_settings(row))
        began = time.monotonic()
        ended = row.job(guest)
        time.sleep(_SETTLE_S)
        held, took_s = guest.held_bytes(), time.monotonic() - began
        free_held, free = free_yet_held(guest), _meminfo(guest, "MemFree")
        migrated = _vmstat(guest, "pgmigrate_success") - migrated
        figures = Figures(name, guest.release, took_s, held, free, free_held.all_bytes, migrated)
        figures.never_told_bytes = free_held.never_told_bytes
        figures.pinned_bytes = free_held.pinned_bytes
        figures.worked_us = ended.worked_us
        if row.rule is not None:
            _add_what_it_says(figures, service)
            print(guest.run(_JOURNAL).stdout, flush=True)
    return figures


def _settings(row: _Row) -> str:
    words = {True: "true", False: "false"}
    return _SETTINGS.format(swap=words[row.swap], disabled=words[not row.compacts], rule=row.rule)


def _add_what_it_says(figures: Figures, service: Installed) -> None:
    figures.cpu_us = service.cpu_us()
    status = service.status()
    if status.ledger is not None:
        taken = status.ledger.since_start
        figures.evicted_bytes = taken.evicted_file_bytes + taken.evicted_anon_bytes
        figures.zram_bytes = taken.zram_taken_bytes
        figures.free_held = dict(status.ledger.free_held_bytes)
    if status.compaction is not None:
        made = status.compaction
        figures.compactions, figures.compact_us = made.runs, made.took_us
        figures.expected_bytes, figures.gained_bytes = made.expected_bytes, made.gained_bytes
        figures.because = dict(made.because)


def _vmstat(guest: Guest, name: str) -> int:
    return int(guest.run(["awk", f'$1 == "{name}" {{ print $2 }}', "/proc/vmstat"]).stdout)


def _meminfo(guest: Guest, name: str) -> int:
    told = guest.run(["awk", f'$1 == "{name}:" {{ print $2 }}', "/proc/meminfo"]).stdout
    return int(told) * 1024
