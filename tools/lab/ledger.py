"""`make ledger`: whether memreact's books agree with what the host holds, over ten minutes.

A guest reads, keeps, forgets and reads again; the host's figure and the guest's ledger are read
side by side, at the begin and at the end.
"""

from __future__ import annotations

import time
from pathlib import Path

from lab.free_frames import free_yet_held
from lab.guest import Guest
from lab.installed import Installed
from lab.ledger_figures import Reading, difference_percent, table
from lab.machine import MachineOptions
from lab.workload import Cgroup, Workload, zram_swap

__all__ = ["ledger"]

_SETTINGS = """\
[memcg]
period_secs = 15
eviction_run_aging_count_min = 3
swap = true

[compact]
period_secs = 15
period_psi_percent_limit = 10
"""
_ZRAM_MIB = 512
_SETTLE_S = 10.0
_OFF_PERCENT = 5.0
_SAY_EVERY_S = 30.0
_MIB = 1 << 20


def ledger(package: Path, seconds: float) -> int:
    """Run it and print the table; 1 if both sides are more than 5 % apart.

    Args:
        package: The .deb to install in the guest.
        seconds: From the first reading to the last.

    Raises:
        LabError: The guest or a workload in it failed.
    """
    with Guest.restore(MachineOptions(), package=package) as guest:
        service = Installed(guest)
        service.stop()
        zram_swap(guest, _ZRAM_MIB)
        cold = _workloads(guest)
        time.sleep(_SETTLE_S)
        service.start(_SETTINGS)
        first = _reading(guest, service)
        began = time.monotonic()
        _wait(guest, began + seconds / 3)
        print("120 MiB of its files are read again, and 100 MiB of others", flush=True)
        cold.signal("USR1")
        later = Workload(Cgroup(guest, "/job.slice/later"), "cold_files", "100")
        _wait(guest, began + 2 * seconds / 3)
        print("whoever read the others ends", flush=True)
        later.stop()
        _wait(guest, began + seconds)
        last = _reading(guest, service)
        free_held = free_yet_held(guest).all_bytes
    print(
        f"{table(first, last)}\nfree, and the host has it, frame by frame  {free_held / _MIB:.1f}"
    )
    off = difference_percent(first, last)
    if abs(off) > _OFF_PERCENT:
        print(f"not reached: the ledger is {off:.1f} % off the host's figure")
        return 1
    return 0


def _workloads(guest: Guest) -> Workload:
    """350 MiB of files read once, 100 MiB touched once, and 40 MiB in use all the time."""
    Workload(Cgroup(guest, "/job.slice/hot"), "hot", "40", "--pause-ms", "100")
    Workload(Cgroup(guest, "/job.slice/files"), "cold_files", "230")
    Workload(Cgroup(guest, "/job.slice/anon"), "cold_anon", "100")
    return Workload(Cgroup(guest, "/job.slice/again"), "cold_files", "120")


def _reading(guest: Guest, service: Installed) -> Reading:
    """The ledger first: to ask for it takes memory that the host then holds."""
    status = service.status()
    assert status.ledger is not None  # noqa: S101  # it was asked for
    return Reading(guest.held_bytes(), status.ledger)


def _wait(guest: Guest, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_SAY_EVERY_S, left))
        print(f"the host holds {guest.held_bytes() >> 20} MiB", flush=True)
