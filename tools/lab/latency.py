"""`make latency`: how long from the first stalled microsecond to the write having returned."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.guest import Guest
from lab.latency_figures import KINDS, Row, rows_of, table, verdicts, voids
from lab.machine import MachineOptions
from lab.workload import Cgroup, Line, Workload

__all__ = ["ALL_KINDS", "in_guest", "natively"]

KICK = "kick"
ALL_KINDS = (*KINDS, KICK)

_MEMORY_MIB = 1536
_TRACE = "/run/memreact/trace.jsonl"
_SETTINGS = "/etc/memreact/memreact.toml"
_DROP_IN = "/etc/systemd/system/memreact.service.d/trace.conf"
_ALLOW_GUEST = b"[control]\nallow_guest = true\n"
_OVERRIDE = f"[Service]\nExecStart=\nExecStart=/usr/bin/memreact run --trace {_TRACE}\n"
_WORK, _SIBLING = "/lat.slice/work", "/lat.slice/sibling"
_CGROUPS = 5000
_KICKS = 200
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
    options = MachineOptions(kernel=kernel, memory_mib=_MEMORY_MIB)
    with Guest.restore(options, package or _built()) as guest:
        print(f"{guest.release}, {rounds} interruptions of each kind", flush=True)
        interrupting = [kind for kind in kinds if kind != KICK]
        lines = _interruptions(guest, rounds, interrupting) if interrupting else []
        rows = rows_of(lines)
        print(voids(lines), flush=True)
        if KICK in kinds:
            rows += _kicks(lambda words: guest.run(_in_lab(words), timeout_s=300).stdout)
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


def _interruptions(guest: Guest, rounds: int, kinds: Sequence[str]) -> list[Line]:
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


def _kicks(run: Runner) -> list[Row]:
    rows = []
    for name, cgroups in (("idle", 0), (f"parsing {_CGROUPS}", _CGROUPS)):
        words = ["lab.workloads.kick", "--rounds", str(_KICKS), "--cgroups", str(cgroups)]
        rows += _kick_rows(name, run(words))
    return rows


def _kick_rows(name: str, printed: str) -> list[Row]:
    kicks = [msgspec.json.decode(line, type=_Kick) for line in printed.splitlines()]
    return [
        Row(f"wake to kick, {name}", tuple(kick.wake_to_kick_us for kick in kicks)),
        Row(f"wake to write returned, {name}", tuple(kick.returned_us for kick in kicks)),
    ]


class _Kick(msgspec.Struct):
    wake_to_kick_us: int
    returned_us: int


def _in_lab(words: Sequence[str]) -> str:
    return f"cd /opt/lab && exec python3 -m {' '.join(words)}"


def _run_here(words: Sequence[str]) -> str:
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise LabError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
