"""Arm a trigger on a cgroup's memory.pressure and wait for it: CGROUP STALL_US WINDOW_US.

Prints a line when it waits, and a JSON object when it fired.
"""

from __future__ import annotations

import os
import sys

import msgspec

from kernelio.psi import TriggerSet, arm_trigger, read_pressure

_WAIT_MS = 30_000


def main(directory: str, stall_us: int, window_us: int) -> None:
    """Wait once."""
    path = f"{directory}/memory.pressure"
    triggers = TriggerSet()
    fd = arm_trigger(path, "some", stall_us=stall_us, window_us=window_us)
    triggers.add(fd, "armed")
    with open("/run/waiting", "w", encoding="ascii") as file:
        file.write("yes")
    before = read_pressure(path).some
    fired = triggers.wait(_WAIT_MS)
    after = read_pressure(path).some
    os.close(fd)
    triggers.close()
    stall = after.total_us - before.total_us if before and after else None
    answer = {"fired": [event._asdict() for event in fired], "stall_us": stall}
    sys.stdout.write(msgspec.json.encode(answer).decode())


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
