"""Stalls on I/O for real, in bursts: reads that pass the page cache, by a few processes at once.

Bursts and rests are of random length, the same in each run. Ends at SIGTERM.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import random
import signal
import time
from typing import NoReturn

from lab.workloads.lines import say

__all__ = ["Reads", "keep_stalling"]

_MIB = 1 << 20
_FILE_MIB = 64
_SMALL_MIB = 16
_READ_BYTES = 8 << 20
_READERS = 6
_LENGTH_S = (1.0, 5.0)


class Reads:
    """Reads a file of its own past the page cache, a piece at a time.

    Args:
        path: A file to make, on a disk; only this has it.
    """

    def __init__(self, path: str) -> None:
        self._fd = _open_for_reads(path, _SMALL_MIB)
        self._buffer = mmap.mmap(-1, _MIB)
        self._places = itertools.cycle(range(0, _SMALL_MIB * _MIB, _MIB))

    def next(self) -> None:
        """Read the next MiB."""
        os.preadv(self._fd, [self._buffer], next(self._places))


def main() -> None:
    """Read and rest, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="made anew; on a disk")
    parser.add_argument("--cgroup", required=True, help="folder of the cgroup to stall in")
    arguments = parser.parse_args()
    with open(f"{arguments.cgroup}/cgroup.procs", "w") as procs:
        procs.write("0")
    fd = _open_for_reads(arguments.file)
    say("ready")
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _end)
    for _ in range(_READERS - 1):
        if os.fork() == 0:
            break
    _read_and_rest(fd)


def keep_stalling(path: str) -> list[int]:
    """Have processes read without a rest, until they are killed or we are gone; their ids.

    Args:
        path: A file to make, on a disk; only they have it.
    """
    fd, us = _open_for_reads(path), os.getpid()
    pids = []
    for _ in range(_READERS):
        pid = os.fork()
        if pid == 0:
            _read_for(us, fd)
        pids.append(pid)
    os.close(fd)
    return pids


def _read_for(parent: int, fd: int) -> NoReturn:
    buffer = mmap.mmap(-1, _READ_BYTES)
    for at in itertools.cycle(range(0, _FILE_MIB * _MIB, _READ_BYTES)):
        if os.getppid() != parent:
            os._exit(0)
        os.preadv(fd, [buffer], at)
    raise AssertionError("a cycle has no end")


def _open_for_reads(path: str, mib: int = _FILE_MIB) -> int:
    with open(path, "wb") as file:
        file.writelines(os.urandom(_MIB) for _ in range(mib))
        os.fsync(file.fileno())
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    os.unlink(path)
    return fd


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
