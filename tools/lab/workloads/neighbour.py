"""A busy neighbour: CPU time, page faults and context switches, all the time."""

from __future__ import annotations

import argparse
import hashlib
import mmap
import time

from lab.workloads.lines import monotonic_us, say

_SLICE_US = 20_000
_DATA = bytes(64 << 10)


def main() -> None:
    """Work for a share of each slice of 20 ms, until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--percent", type=float, default=50.0, help="of one CPU")
    parser.add_argument("--seconds", type=float, default=86400.0)
    arguments = parser.parse_args()
    say("ready")
    until_us = monotonic_us() + int(arguments.seconds * 1e6)
    while (began_us := monotonic_us()) < until_us:
        while monotonic_us() - began_us < _SLICE_US * arguments.percent / 100:
            work()
        time.sleep(max(0.0, (began_us + _SLICE_US - monotonic_us()) / 1e6))


def work() -> None:
    """Hash a little and fault a few fresh pages in."""
    hashlib.sha256(_DATA).digest()
    with mmap.mmap(-1, 16 * mmap.PAGESIZE) as memory:
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at] = 1


if __name__ == "__main__":
    main()
