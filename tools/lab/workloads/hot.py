"""Touch the same memory again and again, and count what it costs: the set not to be harmed.

Prints a line a second with totals since the start: passes, passes over 5 ms, milliseconds lost in
them, the worst pass and the major faults.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import time

from lab.workloads.lines import monotonic_us, say

_LONG_US = 5000
_SAY_EVERY_US = 1_000_000


def main() -> None:
    """Fill the memory, then touch it until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mib", type=int)
    parser.add_argument("--seconds", type=float, default=86400.0)
    parser.add_argument("--pause-ms", type=float, default=10.0, help="between two passes")
    arguments = parser.parse_args()
    memory = mmap.mmap(-1, arguments.mib << 20)
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at : at + 16] = os.urandom(16)
    say("ready", bytes=len(memory))
    touch(memoryview(memory)[:: mmap.PAGESIZE], arguments.seconds, arguments.pause_ms / 1000)


def touch(pages: memoryview, seconds: float, pause_s: float) -> None:
    """Pass over all pages until `seconds` are over, with a line a second."""
    passes = long_passes = lost_us = worst_us = 0
    began_us = said_us = monotonic_us()
    while (now := monotonic_us()) < began_us + seconds * 1_000_000:
        pages.tobytes()  # one strided copy: a read of one byte of every page, in C
        took_us = monotonic_us() - now
        passes += 1
        worst_us = max(worst_us, took_us)
        if took_us > _LONG_US:
            long_passes += 1
            lost_us += took_us - _LONG_US
        if now - said_us >= _SAY_EVERY_US:
            said_us = now
            say(
                "totals",
                passes=passes,
                passes_over_5ms=long_passes,
                lost_us=lost_us,
                worst_us=worst_us,
                major_faults=resource.getrusage(resource.RUSAGE_SELF).ru_majflt,
            )
        time.sleep(pause_s)


if __name__ == "__main__":
    main()
