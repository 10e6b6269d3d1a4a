"""Follow the page frames of a cgroup: where its memory lay, and how much of that the host was told.

    frames remember CGROUP_DIR FILE    write down the frames of page cache charged to the cgroup
    frames reported FILE               print how many of them lie in reported free blocks

A frame of a free block that was reported is marked BUDDY, and its block's head UPTODATE as well,
which is where the kernel keeps PG_reported. Source: /proc/kpagecgroup and /proc/kpageflags in
Documentation/admin-guide/mm/pagemap.rst; include/linux/page-flags.h.
"""

from __future__ import annotations

import array
import os
import sys

_BUDDY, _UPTODATE = 1 << 10, 1 << 3
_LRU, _ANON = 1 << 5, 1 << 12
_REPORTED = _BUDDY | _UPTODATE
_BLOCK = 512  # frames of order 9, in which x86-64 reports
_AT_ONCE = 1 << 20


def main(words: list[str]) -> int:
    """Run one of the two commands; 2 misused."""
    match words:
        case ["remember", cgroup, file]:
            remember(cgroup, file)
        case ["reported", file]:
            sys.stdout.write("{} {}\n".format(*reported(file)))
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


def remember(cgroup: str, file: str) -> None:
    """Write the frames of page cache that are charged to this cgroup now."""
    inode = os.stat(cgroup).st_ino
    owners, flags = _entries("/proc/kpagecgroup"), _entries("/proc/kpageflags")
    mine = (frame for frame, owner in enumerate(owners) if owner == inode)
    frames = array.array("Q", (frame for frame in mine if flags[frame] & (_LRU | _ANON) == _LRU))
    with open(file, "wb") as into:
        frames.tofile(into)


def reported(file: str) -> tuple[int, int]:
    """How many frames were remembered, and how many of them are in reported blocks now."""
    frames = array.array("Q")
    with open(file, "rb") as written:
        frames.frombytes(written.read())
    told = blocks_told(_entries("/proc/kpageflags"))
    return len(frames), sum(frame // _BLOCK in told for frame in frames)


def blocks_told(flags: array.array[int]) -> set[int]:
    """Numbers of the order 9 blocks that are reported; one of order 10 is marked at its head."""
    told = set()
    for head in range(0, len(flags), _BLOCK):
        if flags[head] & _REPORTED == _REPORTED:
            told.add(head // _BLOCK)
            if (
                not head % (2 * _BLOCK)
                and head + _BLOCK < len(flags)
                and flags[head + _BLOCK] & _BUDDY
            ):
                told.add(head // _BLOCK + 1)
    return told


def _entries(path: str) -> array.array[int]:
    entries = array.array("Q")
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_AT_ONCE):
            entries.frombytes(block)
    return entries


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
