"""Debian's Prometheus scrapes two guests at work through memreact-host, for some minutes.

At the end both are held, and what Prometheus has of them is compared with what memreact-ctl says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lab.errors import LabError
from lab.guest import Guest
from lab.host import install_missing
from lab.hybrid import Bridge
from lab.machine import MachineOptions
from lab.prometheus import Found, Prometheus, free_port
from lab.workload import Cgroup, Workload

__all__ = ["Compared", "compared", "scrape"]

_NAMES = ("one", "two")
_COLD_MIB = 100
_EVERY_S = 5
_LINE_EVERY_S = 20.0
_PORT_OF_METRICS = 1052
_PORT_OF_CONTROL = 1050
_HELD_S = 600
_SETTLES_S = 15
_SETTINGS = b"""\
[control]
allow_guest = true

[memcg]
period_secs = 10
"""
_ALERTS = Path(__file__).resolve().parents[2] / "packaging" / "metrics" / "alerts.yml"
_SHOWN = 10

Status = Mapping[str, Any]


class Compared(NamedTuple):
    """One figure, as Prometheus has it and as memreact-ctl tells it."""

    name: str
    scraped: float | None
    told: float

    @property
    def same(self) -> bool:
        """Whether both say the same."""
        return self.scraped == self.told


def scrape(package: Path, seconds: float) -> int:
    """Run it and print what was found; 0 if every figure is the same in both.

    Args:
        package: The .deb to install in both guests.
        seconds: For how long they are scraped.

    Raises:
        LabError: A guest failed.
    """
    install_missing()
    with ExitStack() as stack:
        bridges = {name: stack.enter_context(_at_work(package)) for name in _NAMES}
        port = free_port()
        stack.enter_context(_gatherer(port, bridges))
        prometheus = stack.enter_context(Prometheus({"host": port}, [_ALERTS], every_s=_EVERY_S))
        _watch(prometheus, seconds)
        found = [
            each
            for name, bridge in bridges.items()
            for each in compared(_held(bridge, prometheus, name), _latest(prometheus, name))
        ]
        _tell_course(prometheus, seconds)
    return _verdict(found)


@contextmanager
def _at_work(package: Path) -> Iterator[Bridge]:
    """A guest with cold memory whose memreact evicts it, and the way to it."""
    with Guest.restore(MachineOptions(), package=package) as guest:
        guest.run("mkdir -p /etc/memreact")
        guest.put_bytes(_SETTINGS, "/etc/memreact/memreact.toml")
        guest.run("systemctl restart memreact.service")
        Workload(Cgroup(guest, "/lab.slice/cold"), "cold_files", str(_COLD_MIB))
        with Bridge(guest) as bridge:
            yield bridge


@contextmanager
def _gatherer(port: int, bridges: Mapping[str, Bridge]) -> Iterator[None]:
    """memreact-host metrics, for both guests."""
    guests = [f"{name}=hvsock:{at.path}:{_PORT_OF_METRICS}" for name, at in bridges.items()]
    words = ["metrics", "--listen", str(port), "--timeout", str(_EVERY_S - 1), *guests]
    with subprocess.Popen(_program("host", *words), env=_environment()) as process:
        try:
            yield
        finally:
            process.terminate()


def _program(name: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"memreact_tools.{name}", *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def _ctl(bridge: Bridge, *words: str) -> Status:
    """What memreact-ctl answers."""
    address = f"hvsock:{bridge.path}:{_PORT_OF_CONTROL}"
    command = _program("ctl", "--address", address, "--timeout", "60s", "--json", *words)
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise LabError(f"memreact-ctl {' '.join(words)}: {done.stderr}")
    answer: Status = msgspec.json.decode(done.stdout)
    return answer


def _watch(prometheus: Prometheus, seconds: float) -> None:
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        time.sleep(min(left, _LINE_EVERY_S))
        evicted = prometheus.ask("sum by (guest) (memreact_evicted_bytes_total)")
        figures = ", ".join(
            f"{each.labels['guest']}: {each.value / 2**20:.0f} MiB" for each in evicted
        )
        print(f"{time.monotonic() - began:5.0f} s  evicted by then: {figures}", flush=True)


def _held(bridge: Bridge, prometheus: Prometheus, name: str) -> Status:
    """Status once nothing changes any more, and Prometheus has scraped that."""
    _ctl(bridge, "pause", str(_HELD_S))
    time.sleep(_SETTLES_S)  # until the ledger is read for what was evicted last
    _ctl(bridge, "status", "--ledger")
    status: Status = _ctl(bridge, "status")["status"]
    began = time.monotonic()
    query = f'memreact_doing{{guest="{name}",memreact_doing="held"}} == 1'
    prometheus.wait_for(query)
    time.sleep(max(0.0, began + 2 * _EVERY_S - time.monotonic()))  # one whole scrape after that
    return status


def _latest(prometheus: Prometheus, name: str) -> list[Found]:
    return prometheus.ask(f'{{guest="{name}",__name__=~"memreact_.+"}}')


def compared(status: Status, scraped: list[Found]) -> Iterator[Compared]:
    """Compare every figure that both have.

    Args:
        status: As memreact-ctl tells it.
        scraped: Series of the same guest.
    """
    by_key = {_key(each.labels): each.value for each in scraped}
    for key, told in _figures(status):
        yield Compared(" ".join(key), by_key.get(key), told)


def _key(labels: Mapping[str, str]) -> tuple[str, ...]:
    own = sorted(
        (k, v) for k, v in labels.items() if k not in {"__name__", "guest", "job", "instance"}
    )
    return (labels.get("__name__", ""), *(value for _, value in own))


def _figures(status: Status) -> Iterator[tuple[tuple[str, ...], float]]:
    """What a status says, by the name and the labels that metrics have for it."""
    ledger = status["ledger"]
    took = ledger["since_start"]
    yield ("memreact_turns_total",), status["turns"]
    yield ("memreact_cgroups",), status["cgroups_total"]
    yield ("memreact_evicted_bytes_total", "file"), took["evicted_file_bytes"]
    yield ("memreact_evicted_bytes_total", "anon"), took["evicted_anon_bytes"]
    yield ("memreact_migrated_bytes_total",), took["migrated_bytes"]
    yield ("memreact_reported_byte_seconds_total",), ledger["reported_byte_seconds_total"]
    yield ("memreact_guest_memory_bytes",), ledger["total_bytes"]
    for name in ("free_bytes", "reportable_bytes", "reported_bytes"):
        yield (f"memreact_{name}",), ledger[name]
    for cause, size in ledger["free_held_bytes"].items():
        yield ("memreact_free_held_bytes", cause), size
    if (compaction := status.get("compaction")) is not None:
        yield ("memreact_compaction_checks_total",), compaction["checks"]
        yield ("memreact_compactions_total",), compaction["runs"]
        yield ("memreact_compaction_gained_bytes_total",), compaction["gained_bytes"]
    for cgroup in status["cgroups"]:
        yield from _of_cgroup(cgroup)


def _of_cgroup(cgroup: Status) -> Iterator[tuple[tuple[str, ...], float]]:
    path, counters = cgroup["path"], cgroup["counters"]
    yield ("memreact_cgroup_memory_bytes", path, "anon"), cgroup["anon_bytes"]
    yield ("memreact_cgroup_memory_bytes", path, "file"), cgroup["file_bytes"]
    yield ("memreact_cgroup_agings_total", path), counters["agings"]
    yield ("memreact_cgroup_evictions_total", path), counters["evictions"]
    yield ("memreact_cgroup_evicted_bytes_total", path), counters["evicted_bytes"]
    for because, times in counters["because"].items():
        yield ("memreact_cgroup_decisions_total", because, path), times


def _tell_course(prometheus: Prometheus, seconds: float) -> None:
    over = f"[{int(seconds)}s]"
    for text, query in (
        ("scrapes", f"count_over_time(memreact_up{over})"),
        ("of them answered", f"sum_over_time(memreact_up{over})"),
        ("longest answer, s", f"max_over_time(memreact_scrape_seconds{over})"),
        (
            "CPU of memreact, ms a second",
            f"1000 * sum by (guest) (rate(memreact_cpu_seconds_total{over}))",
        ),
        ("memreact resident, MiB", "memreact_resident_bytes / 1048576"),
        ("wake-ups a second", f"rate(memreact_wakeups_total{over})"),
    ):
        figures = "  ".join(
            f"{each.labels['guest']} {each.value:.2f}" for each in prometheus.ask(query)
        )
        print(f"  {text:30} {figures}")


def _verdict(found: list[Compared]) -> int:
    other = [each for each in found if not each.same]
    print(f"  {len(found)} figures of {len(_NAMES)} guests compared, {len(other)} differ")
    for each in other[:_SHOWN]:
        print(f"  {each.name}: Prometheus {each.scraped}, memreact-ctl {each.told}")
    return 1 if other or not found else 0
