"""Interrupt a running eviction again and again, and tell how long each one took to stop.

Runs in the guest beside the installed daemon, whose trace it follows, so that no round waits for
the host. Each round fills a cgroup up with cold file cache, waits until the daemon evicts it with
at least 448 MiB left, and a random moment later makes one of these happen:

    same      an I/O stall in that very cgroup (direct reads)
    sibling   a memory stall in another (memory.high)
    settings  a settings file that says `disabled`; stamped before it is opened
    call      PatchSettings of io.memreact that says so, over vsock's loop-back (CID 1)
    kata      MemAgentMemcgSet of Kata's client that says so, over the same

A call is stamped just before its bytes are sent, on a connection that is there already.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lab.workloads.calls import KataCall, VarlinkCall, connected
from lab.workloads.child import Child
from lab.workloads.direct import Reads
from lab.workloads.ftrace import Seen, Tracing, kick_in, reclaimed_pages
from lab.workloads.lines import monotonic_us, say
from lab.workloads.stall import High, Toucher, first_stalled_us, some_total_us

__all__ = ["Entry", "Follower", "Stop", "Void", "figures", "first_stop", "stalls_by_high"]

_MIB = 1 << 20
_COLD_MIB = 640
_LONGEST_FILE = 8 << 30
_AHEAD = _MIB  # the kernel reads no more ahead at once
_LEAST_LEFT = 448 * _MIB  # so that 256 MiB are left when the moment has come
_DELAY_S = (0.010, 0.150)
_STALL_US = 300_000
_SETTLE_S = 0.3
_PATIENCE_S = 40.0
_LOOK_S = 0.002
_FILES = "/var/cache"
_CGROUPS = "/sys/fs/cgroup"
_STAYS_AWAY = ("pause", "rules", "hold", "stall_over_limit")
_STOPPED = ("broken_off", "held_back")
_SETTINGS = """\
[memcg]
disabled = {disabled}
period_secs = 1
period_psi_percent_limit = 100
eviction_run_aging_count_min = 1
swappiness_max = {swappiness_max}

[control]
allow_guest = true

[[memcg.cgroup]]
path = "/"
no_subdir = true
disabled = true
"""
_LEFT_ALONE = """
[[memcg.cgroup]]
path = "{path}"
disabled = true
"""
_DISABLED = {"patch": {"memcg": {"disabled": True}}}

Entry = dict[str, Any]


class Stop(NamedTuple):
    """How the first write that was stopped ended: when, and whether it had begun at all."""

    ended_us: int
    broken_off: bool


class Happened(NamedTuple):
    """When it happened, 0 where it did not, and what else there is to tell of it."""

    stamp_us: int
    told: dict[str, int]


class Void(Exception):  # noqa: N818  # no error: the round is tried again
    """A round that says nothing about a stop."""


class Follower:
    """Reads what the daemon appends to its trace."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._rest = b""
        os.lseek(self._fd, 0, os.SEEK_END)

    def read(self) -> list[Entry]:
        """Entries since the last read."""
        data = self._rest
        while block := os.read(self._fd, 1 << 20):
            data += block
        *lines, self._rest = data.split(b"\n")
        return [json.loads(line) for line in lines if b'"event":{' in line]


class Work:
    """The cgroup that is evicted: fills it with cold cache, and stalls in it on direct reads."""

    def __init__(self, cgroup: str) -> None:
        self._pressure = os.open(f"{cgroup}/io.pressure", os.O_RDONLY)
        self._reads = Reads(f"{_FILES}/direct")
        self._cold = _ColdCache(cgroup)

    def __call__(self, word: str) -> int:
        """Do "fill" or "stall"; the latter answers with its first stalled microsecond, or 0."""
        return self._cold.fill() if word == "fill" else self._stall()

    def _stall(self) -> int:
        first_us, total_us = 0, some_total_us(self._pressure)
        began_us = monotonic_us()
        while (stamp_us := monotonic_us()) < began_us + _STALL_US:
            self._reads.next()
            if not first_us and some_total_us(self._pressure) != total_us:
                first_us = stamp_us
        return first_us


class _ColdCache:
    """Clean page cache without a disk, that nobody touched: a file of holes that is read ahead.

    It is read ever further, so that nothing comes back that was evicted: by such refaults the
    daemon would rightly slow down.
    """

    def __init__(self, cgroup: str) -> None:
        self._current = os.open(f"{cgroup}/memory.current", os.O_RDONLY)
        self._fd = os.open(f"{_FILES}/cold", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._end = 0

    def fill(self) -> int:
        """Have the cgroup as large as it shall be, in MiB; what is left of the last time stays."""
        if self._end > _LONGEST_FILE:  # the kernel remembers what was evicted, until it is cut off
            os.ftruncate(self._fd, 0)
            self._end = 0
        missing = max(0, _COLD_MIB * _MIB - int(os.pread(self._current, 32, 0)))
        starts = range(self._end, self._end + missing, _AHEAD)
        os.ftruncate(self._fd, starts.stop + _AHEAD)
        for at in starts:
            os.posix_fadvise(self._fd, at, _AHEAD, os.POSIX_FADV_WILLNEED)
        self._end += len(starts) * _AHEAD
        return _COLD_MIB


def stalls_by_high(cgroup: str) -> Callable[[str], int]:
    """What stalls on memory in this cgroup, and answers with its first stalled microsecond."""
    high = High(cgroup)
    pressure = os.open(f"{cgroup}/memory.pressure", os.O_RDONLY)

    def stall(_word: str) -> int:
        toucher = Toucher(64)
        deadline_us = monotonic_us() + _STALL_US
        high.set("8M")
        first_us = first_stalled_us(toucher, pressure, deadline_us) or 0
        while monotonic_us() < deadline_us:
            toucher.touch()
        high.set("max")
        return first_us

    return stall


class Lab:
    """One daemon, its trace, the kernel's, two cgroups, and two connections to the daemon."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._settings = 0
        self._left_alone = "".join(
            _LEFT_ALONE.format(path=path)
            for path in ("/system.slice", "/user.slice", _path_of(arguments.sibling), _own_path())
        )
        self.varlink = VarlinkCall(connected(arguments.varlink_port))
        self.kata = KataCall(connected(arguments.ttrpc_port))
        self.work = Child(arguments.work, lambda: Work(arguments.work))
        self.sibling = Child(arguments.sibling, lambda: stalls_by_high(arguments.sibling))
        self._tracing = Tracing()
        self._follower = Follower(arguments.trace)

    def interrupt(self, kind: str) -> dict[str, int]:
        """One round.

        Raises:
            Void: The eviction was not there to be interrupted.
        """
        self.settle(disabled=True)  # filling takes longer than a period
        self.varlink("DropPushed")
        self.work.tell("fill")
        self.work.answer()
        self.settle(disabled=False)
        if not self._wait_for_eviction():
            raise Void("no_eviction")
        self._tracing.clear()
        time.sleep(random.uniform(*_DELAY_S))  # noqa: S311  # no secret
        before = self._follower.read()
        if any(each["event"].get("outcome") in _STOPPED for each in before):
            raise Void("stopped_before")
        stamp_us, told = _HAPPENINGS[kind](self)
        time.sleep(_SETTLE_S)
        if not stamp_us:
            raise Void("no_stall")
        return {**figures(self._follower.read(), self._tracing.seen(), stamp_us), **told}

    def _wait_for_eviction(self) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            entries = self._follower.read()
            if entries and _evicts(entries[-1:]) and self._left() >= _LEAST_LEFT:
                return True
            time.sleep(_LOOK_S)
        return False

    def _left(self) -> int:
        with open(f"{self._arguments.work}/memory.current") as file:
            return int(file.read())

    def settle(self, *, disabled: bool) -> int:
        """Write other settings; answers with the moment before."""
        self._settings += 1
        text = _SETTINGS.format(
            disabled=str(disabled).lower(), swappiness_max=50 + self._settings % 2
        )
        stamp_us = monotonic_us()
        with open(self._arguments.settings, "w") as file:
            file.write(text + self._left_alone)
        return stamp_us


def _path_of(folder: str) -> str:
    return folder.removeprefix(_CGROUPS)


def _own_path() -> str:
    with open("/proc/self/cgroup") as file:
        return file.read().strip().removeprefix("0::")


def _same(lab: Lab) -> Happened:
    lab.work.tell("stall")
    return Happened(lab.work.answer(), {})


def _in_sibling(lab: Lab) -> Happened:
    lab.sibling.tell("stall")
    return Happened(lab.sibling.answer(), {})


def _with_settings(lab: Lab) -> Happened:
    return Happened(lab.settle(disabled=True), {})


def _with_call(lab: Lab) -> Happened:
    sent = lab.varlink("PatchSettings", _DISABLED)
    return Happened(sent.at_us, {"answered_us": sent.answered_us})


def _with_katas_call(lab: Lab) -> Happened:
    sent = lab.kata()
    return Happened(sent.at_us, {"answered_us": sent.answered_us})


_HAPPENINGS: dict[str, Callable[[Lab], Happened]] = {
    "same": _same,
    "sibling": _in_sibling,
    "settings": _with_settings,
    "call": _with_call,
    "kata": _with_katas_call,
}


def _evicts(entries: Iterable[Entry]) -> bool:
    return any(a["type"] == "Evict" for each in entries for a in each.get("actions", ()))


def first_stop(entries: Iterable[Entry], since_us: int) -> Stop | None:
    """The first write that was stopped, of those that ended since a moment.

    One that ended by itself counts when it was the last and a pause or other settings came before
    its end was heard of: the stop found nothing left to break off.
    """
    last = None
    for each in entries:
        event = each["event"]
        if event["type"] == "BatchEnded" and event["ended_at"] >= since_us:
            outcome = event["outcome"]
            if outcome in _STOPPED:
                return Stop(event["ended_at"], outcome == "broken_off")
            last = None if _evicts([each]) else Stop(event["ended_at"], broken_off=False)
    return last if last and _let_go(entries, since_us) else None


def _let_go(entries: Iterable[Entry], since_us: int) -> bool:
    """Whether it was decided to stay away, not just that nothing was left."""
    return any(
        each["at"] >= since_us
        and (decision["verdict"] in _STAYS_AWAY or decision["because"]["code"] in _STAYS_AWAY)
        for each in entries
        for decision in each.get("decisions", ())
    )


def figures(entries: list[Entry], seen: list[Seen], stamp_us: int) -> dict[str, int]:
    """What one interruption comes to.

    `went_on_us` is there, and no latency, when a write ran after the stamp and none was stopped.

    Raises:
        Void: The eviction was over, or something else had stopped it, before the stamp.
    """
    if any(e["event"].get("outcome") in _STOPPED for e in entries[: _until(entries, stamp_us)]):
        raise Void("stopped_by_another")
    stop = first_stop(entries, stamp_us)
    if stop is None:
        ends = [e["event"]["ended_at"] for e in entries if e["event"]["type"] == "BatchEnded"]
        last_us = max(ends, default=0)
        if last_us <= stamp_us:
            raise Void("over_before")
        return {"went_on_us": last_us - stamp_us}
    told = {
        "latency_us": stop.ended_us - stamp_us,
        "broken_off": int(stop.broken_off),
        "resumed": int(_evicts(e for e in entries if e["at"] > stop.ended_us)),
        "pages": reclaimed_pages(seen, stamp_us, stop.ended_us),
    }
    kick = kick_in(seen, stamp_us, stop.ended_us)
    if kick:
        told["kicked_us"] = kick.at_us - stamp_us
        told["pages_after_kick"] = reclaimed_pages(seen, kick.at_us, stop.ended_us)
        if kick.woken_us:
            told["wake_to_kick_us"] = kick.at_us - kick.woken_us
    return told


def _until(entries: list[Entry], stamp_us: int) -> int:
    """How many entries come before the first write that ended since the stamp."""
    for index, each in enumerate(entries):
        if each["event"].get("ended_at", 0) >= stamp_us:
            return index
    return len(entries)


def main() -> None:
    """Go round the kinds until each has its number of interruptions, or too many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="folder of the cgroup that is evicted")
    parser.add_argument("--sibling", required=True, help="folder of another")
    parser.add_argument("--trace", required=True, help="what `memreact run --trace` writes")
    parser.add_argument("--settings", required=True, help="the daemon's file")
    parser.add_argument("--varlink-port", type=int, default=1050, help="the daemon's, of vsock")
    parser.add_argument("--ttrpc-port", type=int, default=1051, help="the daemon's, of vsock")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--kinds", nargs="+", choices=_HAPPENINGS, default=list(_HAPPENINGS))
    arguments = parser.parse_args()
    lab = Lab(arguments)
    say("ready")
    wanted = dict.fromkeys(arguments.kinds, arguments.rounds)
    for _ in range(3 * arguments.rounds):
        for kind in [kind for kind, left in wanted.items() if left]:
            try:
                told = lab.interrupt(kind)
            except Void as void:
                say("void", **{f"{kind}_{void}": 1})
                continue
            wanted[kind] -= 1
            say(kind, **told)
    say("over")


if __name__ == "__main__":
    main()
