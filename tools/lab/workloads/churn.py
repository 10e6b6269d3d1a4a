"""Take 256 MiB of anonymous memory, touch all of it and give it back, again and again.

Prints a line for each round: how long it took to take, touch and give back.
"""

from __future__ import annotations

import argparse
import mmap
import time

from lab.workloads.lines import monotonic_us, say


def main() -> None:
    """Go round until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--pause-ms", type=float, default=1000.0, help="between two rounds")
    arguments = parser.parse_args()
    say("ready")
    while True:
        say("round", took_us=round_us(arguments.mib << 20))
        time.sleep(arguments.pause_ms / 1000)


def round_us(size: int) -> int:
    """One round; returns how long it took."""
    began_us = monotonic_us()
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1
    return monotonic_us() - began_us


if __name__ == "__main__":
    main()
