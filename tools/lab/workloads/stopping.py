"""Interrupt a running eviction, whoever does it, and tell how long it went on.

Nothing is asked of the one who evicts: what tells is how the cgroup shrinks, seen every millisecond
or two from a cgroup beside it. Each round fills a cgroup with cold file cache, lets the rival
begin, and a random moment later makes one of these happen:

    same      an I/O stall in that very cgroup (direct reads)
    sibling   a memory stall in another (memory.high)
    disable   the rival is told to stop, by its own way; stamped before it is told

The eviction has stopped at the last moment at which the cgroup shrank, before half a second in
which it did not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from lab.workloads.calls import VarlinkCall, connected
from lab.workloads.child import Child
from lab.workloads.interrupt import Void, Work, stalls_by_high
from lab.workloads.lines import monotonic_us, say

__all__ = ["KINDS", "Sample", "Stopped", "stopped"]

KINDS = ("same", "sibling", "disable")
_MIB = 1 << 20
_BEGUN = 16 * _MIB  # less than this may be the kernel's own
_LEAST_LEFT = 256 * _MIB
_DELAY_S = (0.010, 0.150)
_LOOK_S = 0.001
_QUIET_US = 500_000
_SHRANK = 16 * 4096
_PATIENCE_S = 60.0
_WATCH_S = 60.0
_KDAMOND = "/sys/kernel/mm/damon/admin/kdamonds/0/state"
_DISABLED = {"patch": {"memcg": {"disabled": True}}}


class Sample(NamedTuple):
    """How large the cgroup was at a moment."""

    at_us: int
    size_bytes: int


class Stopped(NamedTuple):
    """How long after the stamp an eviction went on, and how much it took meanwhile."""

    latency_us: int
    taken_bytes: int


def stopped(samples: Sequence[Sample], stamp_us: int, quiet_us: int = _QUIET_US) -> Stopped | None:
    """Find the last shrinking before a quiet time; None if there was no quiet time.

    Args:
        samples: In the order of time, the first of them not after the stamp.
        stamp_us: When it happened.
        quiet_us: For so long nothing shrinks once it has stopped.
    """
    start = last = next((s for s in reversed(samples) if s.at_us <= stamp_us), None)
    if start is None or last is None:
        return None
    for sample in samples:
        if sample.at_us <= stamp_us:
            continue
        if last.size_bytes - sample.size_bytes >= _SHRANK:
            last = sample
        elif sample.at_us - max(last.at_us, stamp_us) >= quiet_us:
            latency_us = max(0, last.at_us - stamp_us)
            return Stopped(latency_us, start.size_bytes - last.size_bytes)
    return None


class Rival(NamedTuple):
    """How one is told to do nothing, and to go on."""

    disable: Callable[[], object]
    enable: Callable[[], object]


def rival_of(name: str, pid: int) -> Rival:
    """By its own way: a call over vsock, signals, or a file of the kernel's."""
    if name == "memreact":
        call = VarlinkCall(connected(1050))
        disable = partial(call, "PatchSettings", _DISABLED)
        return Rival(disable, partial(call, "DropPushed"))
    if name == "model":
        ways = (signal.SIGUSR1, signal.SIGUSR2)
        return Rival(*(partial(os.kill, pid, way) for way in ways))
    return Rival(*(partial(_turn, word) for word in ("off", "on")))


def _turn(word: str) -> None:
    """Switch kdamond, which refuses to be what it is."""
    with open(_KDAMOND) as file:
        if file.read().strip() == word:
            return
    with open(_KDAMOND, "w") as file:
        file.write(word)


class Lab:
    """One rival, two cgroups, and an eye on the first."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._rival = rival_of(arguments.rival, arguments.pid)
        self._current = os.open(f"{arguments.work}/memory.current", os.O_RDONLY)
        self._work = Child(arguments.work, lambda: Work(arguments.work))
        self._sibling = Child(arguments.sibling, lambda: stalls_by_high(arguments.sibling))

    def interrupt(self, kind: str) -> Stopped:
        """One round.

        Raises:
            Void: There was no eviction to interrupt, or nothing stalled, or it never ended.
        """
        self._rival.disable()
        self._wait_quiet()
        self._work.tell("fill")
        self._work.answer()
        self._rival.enable()
        self._wait_begun()
        time.sleep(random.uniform(*_DELAY_S))  # noqa: S311  # no secret
        before = self._sample()
        if before.size_bytes < _LEAST_LEFT:
            raise Void("too_little_left")
        stamp = self._happens(kind)
        samples = [before, *self._until_quiet()]
        stamp_us = stamp()
        if not stamp_us:
            raise Void("no_stall")
        found = stopped(samples, max(stamp_us, before.at_us))
        if found is None:
            raise Void("no_end")
        return found

    def _happens(self, kind: str) -> Callable[[], int]:
        """Make it happen; what is returned tells when that was."""
        if kind == "disable":
            at_us = monotonic_us()
            self._rival.disable()
            return lambda: at_us
        child = self._work if kind == "same" else self._sibling
        child.tell("stall")
        return child.answer

    def _until_quiet(self) -> list[Sample]:
        samples = [self._sample()]
        last = samples[0]
        deadline_us = last.at_us + int(_WATCH_S * 1e6)
        # Twice as long: what is stamped comes later than the first of these.
        while samples[-1].at_us - last.at_us < 2 * _QUIET_US and last.at_us < deadline_us:
            time.sleep(_LOOK_S)
            samples.append(self._sample())
            if last.size_bytes - samples[-1].size_bytes >= _SHRANK:
                last = samples[-1]
        return samples

    def _wait_quiet(self) -> None:
        self._until_quiet()

    def _wait_begun(self) -> None:
        most = self._sample().size_bytes
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            now = self._sample().size_bytes
            most = max(most, now)
            if most - now >= _BEGUN:
                return
            time.sleep(_LOOK_S)
        raise Void("no_eviction")

    def _sample(self) -> Sample:
        size = int(os.pread(self._current, 32, 0))
        return Sample(monotonic_us(), size)


def main() -> None:
    """Go round the kinds until each has its number of rounds, or too many told nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="folder of the cgroup that is evicted")
    parser.add_argument("--sibling", required=True, help="folder of another")
    parser.add_argument("--rival", required=True, help="memreact, model, or one of damon's")
    parser.add_argument("--pid", type=int, default=0, help="of the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    lab = Lab(arguments)
    say("ready")
    for kind in arguments.kinds:
        left = arguments.rounds
        for _ in range(3 * arguments.rounds):
            if not left:
                break
            try:
                found = lab.interrupt(kind)
            except Void as void:
                say("void", **{f"{kind}_{void}": 1})
                continue
            left -= 1
            say(kind, latency_us=found.latency_us, taken_bytes=found.taken_bytes)
    say("over")


if __name__ == "__main__":
    main()
