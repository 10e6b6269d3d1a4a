"""A steady, small I/O stall: direct reads with waits between, for a fixed share of the time.

It first finds the wait that gives that share, as io.pressure of its own cgroup counts it, and then
keeps the wait, so that slower reads show as fewer reads. Prints a line a second: reads in it, their
mean time, and the share of the time that the cgroup stalled.
"""

from __future__ import annotations

import argparse
import mmap
import os
import time
from typing import NamedTuple

from lab.workloads.lines import monotonic_us, say

_SIZE_MIB = 32
_READ = 16 << 10
_FIRST_WAIT_US = 5000.0
_ROUNDS = 12
_ROUND_US = 500_000
_SECOND_US = 1_000_000


class Reads(NamedTuple):
    """What was read in a span of time."""

    reads: int
    mean_us: int
    stall_percent: float


class Reader:
    """Reads a file past the page cache, at places that jump about."""

    def __init__(self, path: str) -> None:
        with open(path, "wb") as file:
            file.writelines(os.urandom(1 << 20) for _ in range(_SIZE_MIB))
            os.fsync(file.fileno())
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self._buffer = mmap.mmap(-1, _READ)
        self._at = 0

    def read_for(self, span_us: int, wait_us: float) -> Reads:
        """Read and wait by turns for a span of time."""
        reads = spent_us = 0
        stall_us, began_us = own_io_stall_us(), monotonic_us()
        while (now := monotonic_us()) < began_us + span_us:
            self._at = (self._at * 1103515245 + 12345) % (_SIZE_MIB << 20) // _READ * _READ
            os.preadv(self._fd, [self._buffer], self._at)
            reads += 1
            spent_us += monotonic_us() - now
            time.sleep(wait_us / 1e6)
        percent = 100 * (own_io_stall_us() - stall_us) / (monotonic_us() - began_us)
        return Reads(reads, spent_us // max(reads, 1), round(percent, 2))


def main() -> None:
    """Find the wait, then read until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--percent", type=float, default=4.0, help="of the time stalled")
    parser.add_argument("--file", default=f"/var/cache/steady-{os.getpid()}")
    parser.add_argument("--seconds", type=float, default=86400.0)
    arguments = parser.parse_args()
    reader = Reader(arguments.file)
    wait_us = find_wait(reader, arguments.percent)
    say("ready", wait_us=round(wait_us))
    until_us = monotonic_us() + int(arguments.seconds * 1e6)
    while monotonic_us() < until_us:
        say("second", **reader.read_for(_SECOND_US, wait_us)._asdict())


def find_wait(reader: Reader, percent: float) -> float:
    """Try waits until the stall is about the share asked for; return the wait in microseconds."""
    wait_us = _FIRST_WAIT_US
    for _ in range(_ROUNDS):
        seen = reader.read_for(_ROUND_US, wait_us)
        wait_us *= min(max(seen.stall_percent / percent, 0.4), 2.5)
    return wait_us


def own_io_stall_us() -> int:
    """The `some` total of io.pressure of the cgroup that this process is in."""
    with open("/proc/self/cgroup") as file:
        path = file.read().rpartition("::")[2].strip()
    with open(f"/sys/fs/cgroup{path}/io.pressure") as file:
        return int(file.readline().rpartition("=")[2])


if __name__ == "__main__":
    main()
