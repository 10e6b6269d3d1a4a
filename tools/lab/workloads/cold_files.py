"""Read a file once through the page cache, and stay: cold file memory of this cgroup.

The file is written first and its pages are dropped, so that what is cached was read, once.
SIGUSR1: drop them and read once more.
"""

from __future__ import annotations

import argparse
import os
import signal

from lab.workloads.lines import say

_BLOCK = 1 << 20
_READ = 128 << 10


def main() -> None:
    """Make, drop, read, then wait for a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mib", type=int)
    parser.add_argument("--file", default=f"/var/cache/cold-{os.getpid()}")
    parser.add_argument("--exit", action="store_true", help="leave the cache without an owner")
    arguments = parser.parse_args()
    make(arguments.file, arguments.mib)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    say("ready", bytes=read_once(arguments.file))
    while not arguments.exit and signal.sigwait({signal.SIGUSR1}):
        drop(arguments.file)
        say("ready", bytes=read_once(arguments.file))


def make(path: str, mib: int) -> None:
    """Write `mib` MiB to the disk and drop them from the page cache."""
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    block = os.urandom(_BLOCK)
    for _ in range(mib):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)
    drop(path)


def drop(path: str) -> None:
    """Drop its clean pages from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def read_once(path: str) -> int:
    """Read from the first byte to the last; return how many there were."""
    fd = os.open(path, os.O_RDONLY)
    total = 0
    while block := os.read(fd, _READ):
        total += len(block)
    os.close(fd)
    return total


if __name__ == "__main__":
    main()
