"""A guest's turns recorded and decided again, what-ifs on it, and what recording costs."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.guest import Guest
from lab.machine import MachineOptions
from lab.workload import Cgroup, Workload, zram_swap
from memreact.replay.moments import moments
from memreact.replay.verify import Replayed, verify
from memreact_schemas.recording import opened, read_lines

__all__ = ["recording"]

_SETTINGS = "/etc/memreact/memreact.toml"
_PERIOD_S = 10
_ZRAM_MIB = 512
_COST_S = 45
_MIB = 1 << 20
_WHAT_IFS = (
    ("memcg.swap=true",),
    ("memcg.eviction_run_aging_count_min=1",),
    ("memcg.swap=true", "memcg.eviction_run_aging_count_min=1"),
)


class _Turn(msgspec.Struct):
    at_most_bytes: int = 0
    anon_bytes: int = 0
    after_aging_bytes: int = 0
    protected_bytes: int = 0
    took_us: int = 0


class _WhatIf(msgspec.Struct):
    now: _Turn
    then: _Turn


def recording(seconds: float, keep: Path) -> int:
    """Record a guest for so long, decide it again here, and print all figures; 1 at a difference.

    Args:
        seconds: To record.
        keep: Where the recording is left.

    Raises:
        LabError: There is no package, or the guest failed.
    """
    with Guest.restore(MachineOptions(), _built()) as guest:
        zram_swap(guest, _ZRAM_MIB)
        _work(guest)
        for kib in (0, 512):
            _start(guest, kib)
            print(f"flight_kib = {kib}: {_cost(guest, _COST_S)}", flush=True)
        print(f"flight recorder: {_flight_bytes(guest)} bytes when fetched", flush=True)
        print(f"recorded for {seconds:.0f} s: {_cost(guest, seconds, keep)}", flush=True)
        for pairs in _WHAT_IFS:
            print(_what_if(guest, pairs), flush=True)
        done = _replayed(keep)
    size = keep.stat().st_size
    print(f"{keep}: {size} bytes, {done.steps} steps, {done.decisions} decisions", flush=True)
    print("zero different" if done.difference is None else f"different: {done.difference}")
    return 0 if done.difference is None else 1


def _built() -> Path:
    found = glob.glob(os.path.join("dist", "memreact_*.deb"))
    if len(found) != 1:
        raise LabError(f"run `make deb` first: dist has {found or 'no memreact_*.deb'}")
    return Path(found[0])


def _work(guest: Guest) -> None:
    """Cold memory of both kinds, hot memory, and somebody who stalls a little all the time."""
    Workload(Cgroup(guest, "/rec.slice/files"), "cold_files", "100")
    kept = Cgroup(guest, "/rec.slice/kept")
    kept.set("memory.low", "1G")
    Workload(kept, "cold_files", "50")
    Workload(Cgroup(guest, "/rec.slice/anon"), "cold_anon", "100")
    Workload(Cgroup(guest, "/rec.slice/steady"), "steady_io", "--percent", "4")


def _start(guest: Guest, flight_kib: int) -> None:
    settings = f"[memcg]\nperiod_secs = {_PERIOD_S}\n[log]\nflight_kib = {flight_kib}\n"
    guest.run("mkdir -p /etc/memreact")
    guest.put_bytes(settings.encode(), _SETTINGS)
    guest.run("systemctl restart memreact.service")
    time.sleep(2 * _PERIOD_S)  # its start, which costs the most, is over


def _cost(guest: Guest, seconds: float, into: Path | None = None) -> str:
    """CPU by turn and anonymous memory of the service over so long a time; recorded, if wanted."""
    usage = Cgroup(guest, "/memreact.slice")
    before, turns = usage.number("cpu.stat", "usage_usec"), _turns(guest)
    if into is None:
        guest.run(f"sleep {seconds:.0f}", timeout_s=seconds + 60)
    else:
        there = "/run/recorded.jsonl.gz"
        words = ["/usr/bin/memreact-ctl", "record", "-o", there, "--for", f"{seconds:.0f}s"]
        guest.run(words, timeout_s=seconds + 60)
        into.write_bytes(guest.get(there))
    used = usage.number("cpu.stat", "usage_usec") - before
    took = _turns(guest) - turns
    pid = guest.run("systemctl show -p MainPID --value memreact.service").stdout.strip()
    anon = guest.run(f"awk '/^RssAnon/ {{print $2}}' /proc/{pid}/status").stdout.strip()
    each = used / 1000 / max(1, took)
    return f"{used / 1e6:.2f} s of CPU in {took} turns ({each:.0f} ms each), RssAnon {anon} kB"


def _turns(guest: Guest) -> int:
    told = guest.run(["/usr/bin/memreact-ctl", "--json", "status"]).stdout
    found: dict[str, dict[str, int]] = msgspec.json.decode(told)
    return found["status"]["turns"]


def _flight_bytes(guest: Guest) -> int:
    there = "/run/flight.jsonl.gz"
    guest.run(["/usr/bin/memreact-ctl", "record", "--flight", "-o", there])
    return len(guest.get(there))


def _what_if(guest: Guest, pairs: Sequence[str]) -> str:
    words = ["/usr/bin/memreact-ctl", "--json", "what-if", *pairs]
    found = msgspec.json.decode(guest.run(words).stdout, type=_WhatIf)
    now, then = found.now, found.then
    return (
        f"what if {' '.join(pairs)}: {now.at_most_bytes / _MIB:.1f} MiB now, "
        f"{then.at_most_bytes / _MIB:.1f} MiB then ({then.anon_bytes / _MIB:.1f} anonymous, "
        f"{then.after_aging_bytes / _MIB:.1f} after an aging), {then.took_us / 1e6:.2f} s, "
        f"protection forbids {then.protected_bytes / _MIB:.1f} MiB"
    )


def _replayed(path: Path) -> Replayed:
    with opened(str(path)) as file:
        return verify(moments(read_lines(file)))
