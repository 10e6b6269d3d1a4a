"""One rival whose evictions are interrupted, in one guest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lab.bench.machine import commit, guest_machine
from lab.bench.results import Machine, Stops
from lab.bench.rivals import RIVALS, Pace
from lab.guest import Guest
from lab.installed import Installed
from lab.machine import MachineOptions
from lab.workload import Cgroup, Line, Workload

__all__ = ["run_stops", "stops_of"]

_MEMORY_MIB = 1536
_PACE = Pace(period_s=1, agings=1, period_limit=100, cold_us=2_000_000, compacts=False)
_KINDS = ("same", "sibling", "disable")
_ROUNDS = 5
_ROUND_S = 60  # the longest eviction that goes on to its own end, and then some


def run_stops(package: Path, rival: str, number: int) -> Stops:
    """Do it.

    Args:
        package: Of memreact, installed in every guest, whoever is measured.
        rival: A name of RIVALS.
        number: Which run this is.

    Raises:
        LabError: The guest, the driver or the rival failed.
    """
    with Guest.restore(MachineOptions(memory_mib=_MEMORY_MIB), package=package) as guest:
        Installed(guest).stop()
        machine = guest_machine(guest)
        contender = RIVALS[rival](guest, _PACE)
        contender.start()
        work, sibling = (Cgroup(guest, f"/stall.slice/{name}") for name in ("work", "sibling"))
        words = ["--work", work.folder, "--sibling", sibling.folder, "--rival", rival]
        words += ["--pid", str(contender.pid), "--rounds", str(_ROUNDS), "--kinds", *_KINDS]
        driver = Workload(Cgroup(guest, "/stall.slice/driver"), "stopping", *words)
        driver.wait_for("over", timeout_s=3 * _ROUNDS * len(_KINDS) * _ROUND_S)
        return stops_of(driver.lines(), rival, number, machine)


def stops_of(lines: Iterable[Line], rival: str, number: int, machine: Machine) -> Stops:
    """Sort what the driver printed."""
    told = list(lines)
    rounds = {kind: [line.figures for line in told if line.what == kind] for kind in _KINDS}
    why = Counter(reason for line in told if line.what == "void" for reason in line.figures)
    return Stops(
        rival=rival,
        number=number,
        latency_us={k: tuple(int(r["latency_us"]) for r in seen) for k, seen in rounds.items()},
        taken_bytes={k: tuple(int(r["taken_bytes"]) for r in seen) for k, seen in rounds.items()},
        voids=dict(why),
        commit=commit(),
        machine=machine,
    )
