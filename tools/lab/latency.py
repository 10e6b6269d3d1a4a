"""`make latency`: how long from the first stalled microsecond to the write having returned."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.guest import Guest
from lab.latency_figures import (
    KINDS,
    Row,
    kick_rows,
    kicks_of,
    rows_of,
    table,
    verdicts,
    voids,
    who_was_first,
)
from lab.machine import MachineOptions
from lab.workload import Cgroup, Line, Workload, put_programs

__all__ = ["ALL_KINDS", "MEMORY_MIB", "in_guest", "interruptions", "natively"]

KICK = "kick"
ALL_KINDS = (*KINDS, KICK)

MEMORY_MIB = 1536
_TRACE = "/run/memreact/trace.jsonl"
_SETTINGS = "/etc/memreact/memreact.toml"
_DROP_IN = "/etc/systemd/system/memreact.service.d/trace.conf"
_ALLOW_GUEST = b"[control]\nallow_guest = true\n"
_OVERRIDE = f"[Service]\nExecStart=\nExecStart=/usr/bin/memreact run --trace {_TRACE}\n"
_WORK, _SIBLING = "/lat.slice/work", "/lat.slice/sibling"
_KICKED = "/lat.slice/kicked"
_CGROUPS = 5000
_KICKS = 200
_KICKS_S = 300  # a bound: they take a third of a second each
_ROUND_S = 15  # a bound on one interruption, its eviction's ripening included

Runner = Callable[[Sequence[str]], str]


def in_guest(
    package: Path | None, kernel: str, rounds: int, kinds: Sequence[str] = ALL_KINDS
) -> int:
    """Interrupt evictions in a guest and print the table; 1 when an aim is missed.

    Args:
        package: To measure; None for the one that was built.
        kernel: Of the guest.
        rounds: Interruptions of each kind.
        kinds: Which of ALL_KINDS.

    Raises:
        LabError: There is no package, or the guest or the daemon failed.
    """
    options = MachineOptions(kernel=kernel, memory_mib=MEMORY_MIB)
    with Guest.restore(options, package or _built()) as guest:
        print(f"{guest.release}, {rounds} interruptions of each kind", flush=True)
        interrupting = [kind for kind in kinds if kind != KICK]
        lines = interruptions(guest, rounds, interrupting) if interrupting else []
        rows = rows_of(lines)
        if interrupting:
            print(voids(lines), flush=True)
        if KICK in kinds:
            put_programs(guest)
            guest.run("systemctl stop memreact.service")  # it would be woken by the same stalls
            where = ("--cgroup", Cgroup(guest, _KICKED).path)
            rows += _kicks(
                lambda words: guest.run(_in_lab(words), timeout_s=_KICKS_S).stdout, where
            )
    return _conclude(rows, dict.fromkeys(interrupting, rounds), under="tcg")


def natively() -> int:
    """Measure from the wake to the kick on this machine, without a guest."""
    print("natively, by urgent data: without tracefs a pressure trigger's wake has no time stamp")
    return _conclude(_kicks(_run_here), {}, under="native")


def _conclude(rows: list[Row], wanted: Mapping[str, int], under: str) -> int:
    print(table(rows))
    missed = verdicts(rows, wanted, under)
    for line in missed:
        print(f"not reached: {line}")
    return 1 if missed else 0


def _built() -> Path:
    found = glob.glob(os.path.join("dist", "memreact_*.deb"))
    if len(found) != 1:
        raise LabError(f"run `make deb` first: dist has {found or 'no memreact_*.deb'}")
    return Path(found[0])


def interruptions(guest: Guest, rounds: int, kinds: Sequence[str]) -> list[Line]:
    """Start the daemon anew, interrupt it, and return what was seen; for `rows_of`.

    Args:
        guest: Of MEMORY_MIB, with the package.
        rounds: Of each kind.
        kinds: Of KINDS.

    Raises:
        LabError: The guest or the daemon failed.
    """
    work, sibling = Cgroup(guest, _WORK), Cgroup(guest, _SIBLING)
    guest.run(f"mkdir -p {os.path.dirname(_DROP_IN)} {os.path.dirname(_SETTINGS)}")
    guest.put_bytes(_OVERRIDE.encode(), _DROP_IN)
    guest.put_bytes(_ALLOW_GUEST, _SETTINGS)
    guest.run("systemctl daemon-reload && systemctl restart memreact.service")
    words = ["--work", work.folder, "--sibling", sibling.folder, "--rounds", str(rounds)]
    words += ["--trace", _TRACE, "--settings", _SETTINGS, "--kinds", *kinds]
    driver = Workload(Cgroup(guest, "/lat.slice/driver"), "interrupt", *words)
    driver.wait_for("over", timeout_s=60 + len(kinds) * rounds * _ROUND_S)
    return driver.lines()


def _kicks(run: Runner, where: Sequence[str] = ()) -> list[Row]:
    rows = []
    for name, cgroups in (("idle", 0), (f"parsing {_CGROUPS}", _CGROUPS)):
        words = ["lab.workloads.kick", "--rounds", str(_KICKS), "--cgroups", str(cgroups), *where]
        kicks = kicks_of(run(words))
        print(f"{name}: {who_was_first(kicks)}", flush=True)
        rows += kick_rows(name, kicks)
    return rows


def _in_lab(words: Sequence[str]) -> str:
    return f"cd /opt/lab && exec python3 -m {' '.join(words)}"


def _run_here(words: Sequence[str]) -> str:
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise LabError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
