"""A guest's turns recorded and decided again, what-ifs on it, and what recording costs."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.guest import Guest
from lab.hybrid import Bridge
from lab.machine import MachineOptions
from lab.terminal import attached_top
from lab.workload import Cgroup, Workload, zram_swap
from memreact.replay.moments import moments
from memreact.replay.verify import Replayed, verify
from memreact_schemas.control import PORT
from memreact_schemas.recording import opened, read_lines
from memreact_tools.address import Address, UnixAddress

__all__ = ["recording"]

_SETTINGS = "/etc/memreact/memreact.toml"
_PERIOD_S = 10
_ZRAM_MIB = 512
_COST_S = 30
_FLIGHT_KIB = 512
_READ_AGAIN_S = 6 * _PERIOD_S
_ENDS_S = 60.0
_MIB = 1 << 20
_WHAT_IFS = (
    ("memcg.swap=true",),
    ("memcg.eviction_run_aging_count_min=1",),
    ("memcg.swap=true", "memcg.eviction_run_aging_count_min=1"),
)
_COLUMNS = ("now", "then", "anon", "no age", "after", "protected", "compact")
_WHAT_IF_HEAD = (
    f"{'what if (MiB)':<70}" + "".join(f"{each:>10}" for each in _COLUMNS) + f"{'in s':>8}{'s':>8}"
)


class _Turn(msgspec.Struct):
    at_most_bytes: int = 0
    anon_bytes: int = 0
    unaged_bytes: int = 0
    after_aging_bytes: int = 0
    protected_bytes: int = 0
    took_us: int = 0
    due_in_us: int = 0
    compaction_bytes: int = 0
    left_alone: dict[str, int] = {}


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
        files = _work(guest)
        with Bridge(guest) as bridge:
            _costs(guest, UnixAddress(str(bridge.path), PORT))
        print(f"flight recorder: {_flight_bytes(guest)} bytes when fetched", flush=True)
        took = _cost(guest, lambda: _record(guest, files, seconds, keep))
        print(f"recorded for {seconds:.0f} s: {took}", flush=True)
        print(_WHAT_IF_HEAD, flush=True)
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


def _work(guest: Guest) -> Workload:
    """Cold memory of both kinds, and somebody who stalls a little all the time; returns the first.

    It can be told to read its 100 MiB once more.
    """
    files = Workload(Cgroup(guest, "/rec.slice/files"), "cold_files", "100")
    kept = Cgroup(guest, "/rec.slice/kept")
    kept.set("memory.low", "1G")
    Workload(kept, "cold_files", "50")
    Workload(Cgroup(guest, "/rec.slice/anon"), "cold_anon", "100")
    Workload(Cgroup(guest, "/rec.slice/steady"), "steady_io", "--percent", "4")
    return files


def _costs(guest: Guest, address: Address) -> None:
    """What the daemon costs without a flight recorder, with it, and with a memreact-top besides.

    Back again in the other order, so that what changes with time favours none.
    """
    ways = ((0, False), (_FLIGHT_KIB, False), (_FLIGHT_KIB, True))
    for kib, top in (*ways, *reversed(ways)):
        _start(guest, kib)
        with attached_top(address) if top else nullcontext():
            seen = _cost(guest, lambda: time.sleep(_COST_S))
        looked_at = ", memreact-top attached" if top else ""
        print(f"flight_kib = {kib}{looked_at}: {seen}", flush=True)


def _start(guest: Guest, flight_kib: int) -> None:
    settings = f"[memcg]\nperiod_secs = {_PERIOD_S}\n[log]\nflight_kib = {flight_kib}\n"
    settings += "[control]\nallow_guest = true\n"  # memreact-top comes over the guest's loop-back
    guest.run("mkdir -p /etc/memreact")
    guest.put_bytes(settings.encode(), _SETTINGS)
    guest.run("systemctl restart memreact.service")
    time.sleep(2 * _PERIOD_S)  # its start, which costs the most, is over


def _record(guest: Guest, files: Workload, seconds: float, keep: Path) -> None:
    """Record; what is read once more meanwhile becomes cold again."""
    there = "/run/recorded.jsonl.gz"
    words = ["/usr/bin/memreact-ctl", "record", "-o", there, "--for", f"{seconds:.0f}s"]
    running = guest.start(words)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and running.poll() is None:
        files.signal("USR1")
        time.sleep(min(left, _READ_AGAIN_S))
    running.wait(_ENDS_S)
    keep.write_bytes(guest.get(there))


def _cost(guest: Guest, act: Callable[[], None]) -> str:
    """CPU by turn and anonymous memory of the service while something is done."""
    usage = Cgroup(guest, "/memreact.slice")
    before, turns = usage.number("cpu.stat", "usage_usec"), _turns(guest)
    act()
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
    """A row of the table; `_WHAT_IF_HEAD` is above it."""
    words = ["/usr/bin/memreact-ctl", "--json", "what-if", *pairs]
    found = msgspec.json.decode(guest.run(words).stdout, type=_WhatIf)
    now, then = found.now, found.then
    sizes = (
        now.at_most_bytes,
        then.at_most_bytes,
        then.anon_bytes,
        then.unaged_bytes,
        then.after_aging_bytes,
        then.protected_bytes,
        then.compaction_bytes,
    )
    figures = "".join(f"{each / _MIB:10.1f}" for each in sizes)
    return f"{' '.join(pairs):<70}{figures}{then.due_in_us / 1e6:8.1f}{then.took_us / 1e6:8.2f}"


def _replayed(path: Path) -> Replayed:
    with opened(str(path)) as file:
        return verify(moments(read_lines(file)))
