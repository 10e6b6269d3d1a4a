"""Stalls on I/O for real, in bursts: reads that pass the page cache, by a few processes at once.

Bursts and rests are of random length, the same in each run. Ends at SIGTERM.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import time

from lab.workloads.lines import say

_MIB = 1 << 20
_FILE_MIB = 64
_READ_BYTES = 8 << 20
_READERS = 6
_LENGTH_S = (1.0, 5.0)


def main() -> None:
    """Read and rest, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="made anew; on a disk")
    parser.add_argument("--cgroup", required=True, help="folder of the cgroup to stall in")
    arguments = parser.parse_args()
    path = arguments.file
    with open(f"{arguments.cgroup}/cgroup.procs", "w") as procs:
        procs.write("0")
    with open(path, "wb") as file:
        file.writelines(os.urandom(_MIB) for _ in range(_FILE_MIB))
        os.fsync(file.fileno())
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    os.unlink(path)
    say("ready")
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _end)
    for _ in range(_READERS - 1):
        if os.fork() == 0:
            break
    _read_and_rest(fd)


def _end(_signal: int, _frame: object) -> None:
    """End the others too."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.killpg(0, signal.SIGTERM)


def _read_and_rest(fd: int) -> None:
    lengths = random.Random(1)  # noqa: S311  # no secret: all readers shall do the same
    buffer = mmap.mmap(-1, _READ_BYTES)
    while True:
        until, at = time.monotonic() + lengths.uniform(*_LENGTH_S), 0
        while time.monotonic() < until:
            at = (at + _READ_BYTES) % (_FILE_MIB * _MIB)
            os.preadv(fd, [buffer], at)
        time.sleep(lengths.uniform(*_LENGTH_S))


if __name__ == "__main__":
    main()
