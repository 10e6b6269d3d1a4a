"""Remove a cgroup whose trigger is armed, and print what the waiting thread is told."""

from __future__ import annotations

import os
import sys

import msgspec

from kernelio.errors import Vanished
from kernelio.psi import TriggerSet, arm_trigger, read_pressure

_WINDOW_US = 500_000


def main(directory: str) -> None:
    """Make it, arm it, remove it, wait twice."""
    path = f"{directory}/memory.pressure"
    os.mkdir(directory)
    fd = arm_trigger(path, "some", stall_us=100_000, window_us=_WINDOW_US)
    triggers = TriggerSet()
    triggers.add(fd, "doomed")
    os.rmdir(directory)
    first, second = triggers.wait(5000), triggers.wait(300)
    answer = {
        "first": [event._asdict() for event in first],
        "second": [event._asdict() for event in second],
        "errno_of_the_open_fd": errno_of_read(fd),
        "path_vanished": vanished(path),
    }
    sys.stdout.write(msgspec.json.encode(answer).decode())


def errno_of_read(fd: int) -> int:
    """What the kernel says to a read of the open trigger."""
    try:
        os.pread(fd, 128, 0)
    except OSError as error:
        return error.errno or 0
    return 0


def vanished(path: str) -> bool:
    """Whether kernelio calls it vanished."""
    try:
        read_pressure(path)
    except Vanished:
        return True
    return False


main(sys.argv[1])
