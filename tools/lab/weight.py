"""`python -m lab weight`: the anonymous memory of an idle daemon, import set by import set."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from kernelio.process import MemoryCost, memory_cost, parse_smaps_rollup
from lab.errors import LabError
from lab.guest import Guest
from lab.machine import MachineOptions
from lab.workload import put_programs

__all__ = ["Part", "parse_parts", "table", "weight_here", "weight_in_guest"]

_SETTLED_S = 30
_MIB = 1 << 20
_WEIGH = "lab.workloads.weigh"
_LINE = re.compile(r"(-?\d+) (\d+) (.+)")
_RUNNING = "threads, loop, sockets and state, half a minute after the start"


class Part(NamedTuple):
    """One set of imports: the modules that came with it, and what it took of anonymous memory."""

    name: str
    modules: int
    anon_bytes: int


def weight_in_guest(package: Path, kernel: str) -> int:
    """Weigh the package in a guest, where the daemon is a service, and print the table."""
    with Guest.restore(MachineOptions(kernel=kernel), package) as guest:
        put_programs(guest)
        told = guest.run(f"cd /opt/lab && exec python3 -m {_WEIGH}", timeout_s=120).stdout
        guest.run("systemctl restart memreact.service")
        time.sleep(_SETTLED_S)
        pid = guest.run("systemctl show --property MainPID --value memreact.service").stdout.strip()
        path = f"/proc/{pid}/smaps_rollup"
        cost = parse_smaps_rollup(guest.run(["cat", path]).stdout, path)
        version = guest.run("python3 --version").stdout.strip()
    return _told(f"{version}, Linux {guest.release}", told, cost)


def weight_here() -> int:
    """Weigh this checkout on this machine, as whoever runs it."""
    weighed = subprocess.run(
        [sys.executable, "-m", _WEIGH], check=False, capture_output=True, text=True
    )
    if weighed.returncode:
        raise LabError(weighed.stderr.strip())
    with subprocess.Popen(
        [sys.executable, "-m", "memreact", "run"], stderr=subprocess.DEVNULL
    ) as daemon:
        time.sleep(_SETTLED_S)
        cost = memory_cost(daemon.pid)
        daemon.terminate()
    return _told(f"Python {sys.version.split()[0]}, here", weighed.stdout, cost)


def _told(where: str, weighed: str, cost: MemoryCost) -> int:
    print(f"{where}: {cost.anon_bytes / _MIB:.1f} MiB anonymous, {cost.rss_bytes / _MIB:.1f} RSS")
    print(table(parse_parts(weighed), cost.anon_bytes))
    return 0


def parse_parts(text: str) -> list[Part]:
    """Read what weigh printed.

    Raises:
        LabError: It printed something else.
    """
    parts = []
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is None:
            raise LabError(f"weigh printed {line!r}, expected KB MODULES NAME")
        parts.append(Part(match[3], int(match[2]), int(match[1]) * 1024))
    return parts


def table(parts: list[Part], idle_bytes: int) -> str:
    """The parts in rows, in MiB, and last what a running daemon takes beyond its imports."""
    imported_bytes = sum(part.anon_bytes for part in parts)
    rows = [*parts, Part(_RUNNING, 0, idle_bytes - imported_bytes)]
    lines = ["| set | modules | MiB | with those above |", "| --- | --- | --- | --- |"]
    so_far_bytes = 0
    for part in rows:
        so_far_bytes += part.anon_bytes
        mib = f"{part.anon_bytes / _MIB:.2f} | {so_far_bytes / _MIB:.2f}"
        lines.append(f"| {part.name} | {part.modules or ''} | {mib} |")
    return "\n".join(lines)
