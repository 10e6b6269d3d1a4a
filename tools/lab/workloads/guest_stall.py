"""Watches the guest's own stall, memory and io together, in windows of one second.

Prints a line for each window that ends: ten of them a second, so that a burst is not split in two.
"""

from __future__ import annotations

import argparse
import time
from collections import deque

from lab.workloads.lines import monotonic_us, say

_STEP_S = 0.1
_STEPS = 10


def main() -> None:
    """Print windows for some seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    until_us = monotonic_us() + int(parser.parse_args().seconds * 1e6)
    readings = deque([(monotonic_us(), stall_us())], maxlen=_STEPS + 1)
    say("ready")
    while monotonic_us() < until_us:
        time.sleep(_STEP_S)
        readings.append((monotonic_us(), stall_us()))
        if len(readings) > _STEPS:
            (began_us, before_us), (now_us, after_us) = readings[0], readings[-1]
            percent = 100 * (after_us - before_us) / (now_us - began_us)
            say("window", percent=round(percent, 2))


def stall_us() -> int:
    """The `some` totals of memory and io of the whole guest."""
    total_us = 0
    for name in ("memory", "io"):
        with open(f"/proc/pressure/{name}") as file:
            total_us += int(file.readline().rpartition("=")[2])
    return total_us


if __name__ == "__main__":
    main()
