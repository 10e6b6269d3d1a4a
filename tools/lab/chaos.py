"""`make chaos`: faults at random in a real guest, and what must hold all the while.

The plan is made of a seed (`chaos_plan`), faults of the guest are made there (`workloads.chaos`),
those of the machine by QEMU, and what was seen is judged at the end (`chaos_judge`).
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec

from lab.chaos_judge import Run, breaches, table
from lab.chaos_plan import KINDS, Fault, plan
from lab.errors import DeadlinePassed
from lab.guest import Guest
from lab.host import cache_dir, remove
from lab.installed import Installed
from lab.machine import MachineOptions
from lab.workload import Cgroup, Line, Workload, zram_swap
from lab.workloads.ftrace import parse_trace

__all__ = ["chaos", "defects_in", "lost_in"]

_SETTINGS = """\
[memcg]
period_secs = 4
eviction_run_aging_count_min = 2
period_psi_percent_limit = 10
swap = true

[compact]
period_secs = 20

[control]
allow_guest = true
"""
_ZRAM_MIB = 512
_PROTECTED_MIB, _KEPT_MIB = 48, 96
_PLAN = "/run/chaos-plan.json"
_TRACE = "/run/chaos-trace"
_TRACING = "/sys/kernel/tracing"
_PATIENCE_S = 300.0
_POLL_S = 1.0
_TRACE_HEAD = re.compile(r"entries-in-buffer/entries-written: (\d+)/(\d+)")
_DEFECTS = (
    "Traceback (most recent call last)",
    "internal error",
    "never awaited",
    "never retrieved",
)


def chaos(package: Path, seconds: float, seed: int) -> int:
    """Let it loose, and print the table; 1 where something did not hold.

    Args:
        package: The .deb to install in the guest.
        seconds: Within which faults begin.
        seed: Of the plan.

    Raises:
        LabError: The guest or a workload in it failed.
    """
    faults = plan(seed, seconds)
    print(f"{len(faults)} faults in {seconds:g} s, seed {seed}", flush=True)
    folder = cache_dir() / "chaos"
    run = _Chaos(folder, package, faults)
    try:
        seen = run.run()
    finally:
        run.close()
        remove(folder)
    print(table(seen))
    return int(any(breaches(seen).values()))


class _Chaos:
    """One run; its guest changes as it is saved and goes on."""

    def __init__(self, folder: Path, package: Path, faults: tuple[Fault, ...]) -> None:
        self._folder = folder
        self._faults = faults
        self._guest = Guest.restore_on(folder, MachineOptions(), package)
        self._workloads: dict[str, Workload] = {}
        self._host_lines: list[Line] = []

    def close(self) -> None:
        """End the guest."""
        self._guest.close()

    def run(self) -> Run:
        """Do all of it, and say what was seen."""
        driver = self._prepare()
        began = time.monotonic()
        for fault in self._faults:
            if KINDS[fault.kind].by_host:
                time.sleep(max(0.0, began + fault.at_s - time.monotonic()))
                self._make(fault)
        self._wait_for_the_end(driver, began + self._faults[-1].at_s + _PATIENCE_S)
        self._guest.run(f"cat {_TRACING}/trace > {_TRACE}", timeout_s=120)
        trace = self._guest.get(_TRACE).decode(errors="replace")
        journal = self._guest.run("journalctl -o cat -u memreact.service", timeout_s=120).stdout
        return Run(
            plan=self._faults,
            lines=[*driver.lines(), *self._host_lines],
            kept={name: self._workloads[name].lines() for name in ("protected", "kept")},
            seen=parse_trace(trace.splitlines()),
            trace_lost=lost_in(trace),
            defects=defects_in(journal),
        )

    def _prepare(self) -> Workload:
        """Start the service, what it works on, and the guest's part."""
        guest = self._guest
        zram_swap(guest, _ZRAM_MIB)
        above = Cgroup(guest, "/chaos.slice")
        protected, kept = (Cgroup(guest, f"/chaos.slice/{name}") for name in ("protected", "kept"))
        for cgroup in (above, protected):
            cgroup.set("memory.min", _PROTECTED_MIB << 20)
            cgroup.set("memory.low", 2 * _PROTECTED_MIB << 20)
        # Never read again, so that all of it is cold; and read now and then.
        self._workloads["protected"] = Workload(
            protected, "keeper", str(_PROTECTED_MIB), "--every", "60"
        )
        self._workloads["kept"] = Workload(kept, "keeper", str(_KEPT_MIB), "--every", "20")
        Installed(guest).start(_SETTINGS)
        asked = [fault for fault in self._faults if not KINDS[fault.kind].by_host]
        guest.put_bytes(msgspec.json.encode(asked), _PLAN)
        driver = Workload(Cgroup(guest, "/driver.slice/chaos"), "chaos", _PLAN)
        self._workloads["driver"] = driver
        return driver

    def _make(self, fault: Fault) -> None:
        began_s = time.monotonic()
        if fault.kind == "restore":
            self._guest = self._guest.moved(self._folder)
            for workload in self._workloads.values():
                workload.follow(self._guest)
        else:
            self._guest.qmp("stop")
            time.sleep(fault.seconds)
            self._guest.qmp("cont")
        took_ms = int((time.monotonic() - began_s) * 1000)
        self._host_lines.append(Line(fault.kind, 0, {"took_ms": took_ms}))

    def _wait_for_the_end(self, driver: Workload, deadline: float) -> None:
        while not any(line.what == "over" for line in driver.lines()):
            if driver.running.poll():
                driver.wait_for("over")  # which says why it ended
            if time.monotonic() > deadline:
                raise DeadlinePassed(f"the faults are not over: {driver.lines()[-3:]}")
            time.sleep(_POLL_S)


def lost_in(trace: str) -> int:
    """Events that the kernel's buffer lost, by the head of its text."""
    head = _TRACE_HEAD.search(trace)
    return int(head[2]) - int(head[1]) if head else 0


def defects_in(journal: str) -> list[str]:
    """What the journal tells of mistakes: each such line, with the two after it."""
    lines = journal.splitlines()
    return [
        " | ".join(lines[number : number + 3])
        for number, line in enumerate(lines)
        if any(words in line for words in _DEFECTS)
    ]
