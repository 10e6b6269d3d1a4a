"""What guests do while a rival gives their memory back, and what it costs them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

from lab.bench.rivals import Pace
from lab.demo_figures import decode_requests, latency
from lab.errors import LabError
from lab.guest import Guest
from lab.workload import Cgroup, Workload

__all__ = ["LOADS", "Load"]

_JOB = "tar -C /usr -cf - lib/python3 lib/python3.13 share bin | gzip -1 > /var/tmp/archive"
_JOB_S = 300
_REQUESTS = "/run/bench-requests"

Paid = dict[str, int]
"""Figures by the names that lab.bench.results.Harm has for them."""


class Load:
    """Nothing at all: an idle guest.

    Args:
        guest: Where.
    """

    pace = Pace()

    settled_s = 0.0
    """After a rival is started it may work for so long before its costs count."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def begin(self) -> None:
        """Do what there is to do before a rival is started."""

    def watch(self, at_us: int) -> None:
        """From this moment of the guest's clock on harm counts."""

    def paid(self, until_us: int) -> Paid:
        """What it paid until that moment."""
        del until_us
        return {}


class Idle(Load):
    """Nothing, and rivals as they come: with periods of ten minutes."""

    pace = Pace(period_s=600)
    settled_s = 40.0


class Mixed(Load):
    """350 MiB of files read once, 100 MiB touched once, and 40 MiB in use all the time."""

    def begin(self) -> None:
        """Load all of it."""
        self._hot = Workload(Cgroup(self.guest, "/job.slice/hot"), "hot", "40", "--pause-ms", "50")
        Workload(Cgroup(self.guest, "/job.slice/cold"), "cold_files", "350")
        Workload(Cgroup(self.guest, "/job.slice/anon"), "marked_anon", "100")

    def watch(self, at_us: int) -> None:
        """Keep what the hot set has told so far."""
        self._before = self._totals(at_us)

    def paid(self, until_us: int) -> Paid:
        """What the hot set lost since."""
        now = self._totals(until_us)
        names = {"passes": "passes", "passes_over_5ms": "long_passes", "lost_us": "lost_us"}
        return {ours: now[theirs] - self._before[theirs] for theirs, ours in names.items()}

    def _totals(self, at_us: int) -> dict[str, int]:
        told = [line for line in self._hot.lines() if line.what == "totals" and line.at_us <= at_us]
        if not told:
            raise LabError("the hot set has told nothing yet")
        return {name: int(value) for name, value in told[-1].figures.items()}


class Redis(Load):
    """150 MB of values in redis, of which a fifth is asked for, 40 times a second."""

    def begin(self) -> None:
        """Start it, fill it, and ask."""
        self.guest.run("systemctl start redis-server.service", timeout_s=120)
        self.guest.run("redis-cli config set save ''")
        client = Cgroup(self.guest, "/job.slice/client")
        Workload(client, "redis_client", "--log", _REQUESTS)

    def watch(self, at_us: int) -> None:
        """Requests count from here on."""
        self._since_us = at_us

    def paid(self, until_us: int) -> Paid:
        """Percentiles of the requests that were due since."""
        requests = decode_requests(self.guest.get(_REQUESTS))
        try:
            seen = latency(requests, self._since_us, until_us)
        except ValueError as error:
            raise LabError(f"redis's client stood still: {error}") from error
        return {"passes": seen.requests, "p50_us": seen.p50_us, "p99_us": seen.p99_us}


class Build(Load):
    """An archive is packed; then nothing; then the same archive again."""

    def begin(self) -> None:
        """Pack it, from a cold cache."""
        self.guest.run("echo 3 > /proc/sys/vm/drop_caches")
        self._job = Cgroup(self.guest, "/job.slice/build")
        self._first_us = self._pack()

    def paid(self, until_us: int) -> Paid:
        """Pack it again."""
        del until_us
        return {"job_us": self._first_us, "rerun_us": self._pack()}

    def _pack(self) -> int:
        began = time.monotonic()
        line = f"echo $$ > {self._job.folder}/cgroup.procs && {_JOB}"
        self.guest.run(line, timeout_s=_JOB_S)
        return int((time.monotonic() - began) * 1e6)


class Churn(Load):
    """256 MiB are taken, touched and given back, again and again."""

    def begin(self) -> None:
        """Begin."""
        self._rounds = Workload(Cgroup(self.guest, "/job.slice/churn"), "churn")

    def watch(self, at_us: int) -> None:
        """Rounds count from here on."""
        self._since_us = at_us

    def paid(self, until_us: int) -> Paid:
        """How many rounds there were, and how long one took in the middle."""
        took = [
            int(line.figures["took_us"])
            for line in self._rounds.lines()
            if line.what == "round" and self._since_us <= line.at_us <= until_us
        ]
        return {"passes": len(took), "job_us": int(statistics.median(took)) if took else 0}


class Crowd(Load):
    """So many empty cgroups.

    Args:
        cgroups: How many.
        guest: Where.
    """

    def __init__(self, cgroups: int, guest: Guest) -> None:
        super().__init__(guest)
        self._cgroups = cgroups

    def begin(self) -> None:
        """Make them."""
        parent = Cgroup(self.guest, "/job.slice/crowd").folder
        self.guest.run(f"echo +memory +io > {parent}/cgroup.subtree_control")
        self.guest.run(f"cd {parent} && seq {self._cgroups} | xargs mkdir", timeout_s=_JOB_S)


LOADS: Mapping[str, Callable[[Guest], Load]] = {
    "mixed": Mixed,
    "redis": Redis,
    "build": Build,
    "churn": Churn,
    "idle": Idle,
    **{f"crowd-{cgroups}": partial(Crowd, cgroups) for cgroups in (10, 100, 1000, 5000)},
}
"""What makes each, by its name."""
