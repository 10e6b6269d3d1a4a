"""Keep memory, half anonymous and half of a file, and read all of it again and again: is it right?

Prints a line a reading: how many bytes were read so far, and how many readings were wrong.
"""

from __future__ import annotations

import argparse
import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Sequence

from lab.workloads.lines import say

_MIB = 1 << 20
_MARK_BYTES = 64
_TEXT = b"The quick brown fox jumps over the lazy dog, again and again and again. "


def main() -> None:
    """Fill, then read until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mib", type=int)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two readings")
    arguments = parser.parse_args()
    parts = (filled(arguments.mib // 2 * _MIB), written(arguments.mib // 2 * _MIB))
    right = [zlib.crc32(part) for part in parts]
    say("ready")
    read = wrong = 0
    while True:
        time.sleep(arguments.every)
        wrong += differing(parts, right)
        read += sum(map(len, parts))
        say("read", bytes=read, wrong=wrong)


def filled(size: int) -> mmap.mmap:
    """Anonymous memory of pages that differ."""
    memory = mmap.mmap(-1, size)
    rest = (_TEXT * (mmap.PAGESIZE // len(_TEXT) + 1))[: mmap.PAGESIZE - _MARK_BYTES]
    for _ in range(size // mmap.PAGESIZE):
        memory.write(os.urandom(_MARK_BYTES) + rest)
    return memory


def written(size: int) -> mmap.mmap:
    """A mapped file without a name, that is on the disk."""
    with tempfile.TemporaryFile(dir="/var/cache") as file:
        for _ in range(size // _MIB):
            file.write(os.urandom(_MIB))
        file.flush()
        os.fsync(file.fileno())
        return mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)


def differing(parts: Sequence[mmap.mmap], right: Sequence[int]) -> int:
    """How many parts are not what they were."""
    return sum(zlib.crc32(part) != crc for part, crc in zip(parts, right, strict=True))


if __name__ == "__main__":
    main()
