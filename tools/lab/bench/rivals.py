"""What gives a guest's memory back: memreact, and what people would use instead."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from lab.agent import Running
from lab.guest import Guest
from lab.installed import Installed
from lab.workload import CGROUP_ROOT, Cgroup

__all__ = ["NOTHING", "RIVALS", "Pace", "Rival", "damon_commands", "settings_text", "system_ram"]

NOTHING = "nothing"
_UNIT = "memreact.service"
_MODEL = Path(__file__).with_name("in_guest") / "sampling_model.py"
_THERE = "/run/bench"
_ADMIN = "/sys/kernel/mm/damon/admin/kdamonds"
_RECLAIM = "/sys/module/damon_reclaim/parameters"
_MIB = 1 << 20
_AGGREGATION_US = 100_000  # the kernel's default
_QUOTA_MS, _QUOTA_BYTES, _QUOTA_RESET_MS = 10, 128 * _MIB, 1000
_SETTINGS = """\
[memcg]
period_secs = {pace.period_s}
period_psi_percent_limit = {pace.period_limit}
eviction_run_aging_count_min = {pace.agings}
swap = true

[compact]
disabled = {compacts_not}
period_secs = {pace.period_s}

[control]
allow_guest = true
"""


class Pace(NamedTuple):
    """How soon memory is cold.

    Args:
        period_s: Between two turns, for those that have any.
        agings: Before an eviction, for the same.
        period_limit: Percent of the time between two turns; a cgroup that stalled more is passed
            over.
        cold_us: For so long nobody touched it: what DAMON is told.
        compacts: Whether those that can may compact.
    """

    period_s: int = 20
    agings: int = 3
    period_limit: int = 1
    cold_us: int = 30_000_000  # three generations of 20 s are between 40 and 60 s old
    compacts: bool = True


class Rival:
    """One of them in one guest.

    Args:
        guest: Where.
        pace: How soon memory is cold.
    """

    note = ""
    pid = 0
    """Of the process to signal, for those that have one."""

    def __init__(self, guest: Guest, pace: Pace) -> None:
        self.guest = guest
        self.pace = pace

    def start(self) -> str:
        """Begin; returns the folder of the cgroup that its processes are in, empty for none."""
        return ""

    def ended(self) -> str:
        """Read what it says of itself at the end."""
        return ""


class Memreact(Rival):
    """The installed service."""

    def start(self) -> str:
        """Start it with short periods."""
        Installed(self.guest).start(settings_text(self.pace))
        words = ["systemctl", "show", "-p", "ControlGroup", "--value", _UNIT]
        return CGROUP_ROOT + self.guest.run(words).stdout.strip()


def settings_text(pace: Pace) -> str:
    """Write memreact's settings file."""
    return _SETTINGS.format(pace=pace, compacts_not=str(not pace.compacts).lower())


class _Program(Rival):
    """A program of ours in a cgroup of its own."""

    _running: Running
    _out = f"{_THERE}/out"

    def _start(self, command: str) -> str:
        cgroup = Cgroup(self.guest, "/rival.slice/rival")
        line = f"echo $$ > {shlex.quote(cgroup.folder)}/cgroup.procs && mkdir -p {_THERE}"
        self._running = self.guest.start(f"{line} && exec > {self._out} 2>&1 && {command}")
        self.pid = self._running.pid
        return cgroup.folder

    def ended(self) -> str:
        """Read its last line, or why it is over."""
        said = self.guest.run(f"tail -n 1 {self._out}", check=False).stdout.strip()
        over = self._running.poll()
        return said if over is None else f"ended with {over.code}: {said}"


class Model(_Program):
    """The model of a sampling agent."""

    note = "a model, in Python: of its own processor time only that in the kernel is counted"

    def start(self) -> str:
        """Start it with the same periods as memreact."""
        self.guest.run(f"mkdir -p {_THERE}")
        self.guest.put(_MODEL, f"{_THERE}/{_MODEL.name}")
        pace = self.pace
        words = f"--swap --agings {pace.agings} --period {pace.period_s}"
        limit = f"--period-limit {pace.period_limit}"
        compacting = "--compact" if pace.compacts else ""
        return self._start(f"exec python3 -I {_THERE}/{_MODEL.name} {words} {limit} {compacting}")


class DropCaches(_Program):
    """A line that many a crontab has."""

    def start(self) -> str:
        """Begin with a minute's sleep."""
        return self._start("while sleep 60; do echo 3 > /proc/sys/vm/drop_caches; done")


class Damon(Rival):
    """A scheme of DAMON's that pages out what nobody touched for 30 s."""

    quota = False

    def start(self) -> str:
        """Set it up and switch it on."""
        ram = system_ram(self.guest.run("cat /proc/iomem").stdout)
        self.guest.run(" && ".join(damon_commands(ram, self.pace.cold_us, quota=self.quota)))
        return ""

    def ended(self) -> str:
        """Read what its scheme tried and did, in bytes."""
        stats = f"{_ADMIN}/0/contexts/0/schemes/0/stats"
        self.guest.run(f"echo update_schemes_stats > {_ADMIN}/0/state", check=False)
        line = f"cd {stats} && echo tried $(cat sz_tried), applied $(cat sz_applied)"
        return self.guest.run(line, check=False).stdout.strip()


class DamonWithQuota(Damon):
    """The same with at most 10 ms of work and 128 MiB in each second."""

    quota = True


class DamonReclaim(Rival):
    """The kernel's module with the same age and quota, and watermarks that are always met."""

    def start(self) -> str:
        """Set its parameters and switch it on."""
        values = {
            "min_age": self.pace.cold_us,
            "quota_ms": _QUOTA_MS,
            "quota_sz": _QUOTA_BYTES,
            "quota_reset_interval_ms": _QUOTA_RESET_MS,
            "wmarks_high": 1000,
            "wmarks_mid": 999,
            "wmarks_low": 0,
            "enabled": "Y",
        }
        lines = (f"echo {value} > {_RECLAIM}/{name}" for name, value in values.items())
        self.guest.run(" && ".join(lines))
        return ""

    def ended(self) -> str:
        """Read what it tried and did, in bytes."""
        names = ("bytes_reclaim_tried_regions", "bytes_reclaimed_regions")
        line = f"cd {_RECLAIM} && echo tried $(cat {names[0]}), reclaimed $(cat {names[1]})"
        return self.guest.run(line, check=False).stdout.strip()


RIVALS: Mapping[str, Callable[[Guest, Pace], Rival]] = {
    NOTHING: Rival,
    "memreact": Memreact,
    "model": Model,
    "damon": Damon,
    "damon-quota": DamonWithQuota,
    "damon-reclaim": DamonReclaim,
    "drop-caches": DropCaches,
}
"""What makes each, by its name."""


def system_ram(iomem: str) -> list[tuple[int, int]]:
    """Where memory is, by /proc/iomem: first addresses, and those after the last."""
    ranges = []
    for line in iomem.splitlines():
        where, _, what = line.partition(" : ")
        if what == "System RAM" and not line.startswith(" "):
            first, _, last = where.partition("-")
            ranges.append((int(first, 16), int(last, 16) + 1))
    return ranges


def damon_commands(ram: list[tuple[int, int]], cold_us: int, *, quota: bool) -> list[str]:
    """Lines for sh that set the scheme up and switch it on.

    Source: Documentation/admin-guide/mm/damon/usage.rst, "sysfs Interface"
    """
    context = f"{_ADMIN}/0/contexts/0"
    regions, scheme = f"{context}/targets/0/regions", f"{context}/schemes/0"
    values: list[tuple[str, object]] = [
        (f"{_ADMIN}/nr_kdamonds", 1),
        (f"{_ADMIN}/0/contexts/nr_contexts", 1),
        (f"{context}/operations", "paddr"),
        (f"{context}/targets/nr_targets", 1),
        (f"{regions}/nr_regions", len(ram)),
    ]
    for number, (first, end) in enumerate(ram):
        values += [(f"{regions}/{number}/start", first), (f"{regions}/{number}/end", end)]
    values += [
        (f"{context}/schemes/nr_schemes", 1),
        (f"{scheme}/action", "pageout"),
        (f"{scheme}/access_pattern/sz/min", 4096),
        (f"{scheme}/access_pattern/sz/max", 2**63),
        (f"{scheme}/access_pattern/nr_accesses/max", 0),
        (f"{scheme}/access_pattern/age/min", cold_us // _AGGREGATION_US),
        (f"{scheme}/access_pattern/age/max", 2**31),
    ]
    if quota:
        values += [
            (f"{scheme}/quotas/ms", _QUOTA_MS),
            (f"{scheme}/quotas/bytes", _QUOTA_BYTES),
            (f"{scheme}/quotas/reset_interval_ms", _QUOTA_RESET_MS),
        ]
    values.append((f"{_ADMIN}/0/state", "on"))
    return [f"echo {value} > {path}" for path, value in values]
