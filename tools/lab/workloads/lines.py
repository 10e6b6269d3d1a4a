"""How a workload tells what happens: one JSON object a line on stdout, at once."""

from __future__ import annotations

import json
import sys
import time

__all__ = ["monotonic_us", "say"]


def say(what: str, **figures: float) -> None:
    """Print one line: what happened, at which CLOCK_MONOTONIC microsecond, and its figures."""
    line = json.dumps({"what": what, "at_us": monotonic_us(), **figures})
    sys.stdout.write(line + "\n")  # in one piece: threads tell at the same time
    sys.stdout.flush()


def monotonic_us() -> int:
    """CLOCK_MONOTONIC in microseconds."""
    return time.monotonic_ns() // 1000
