"""Touch anonymous memory once, and stay: cold memory that only swap can take."""

from __future__ import annotations

import argparse
import mmap
import os
import signal
import zlib

from lab.workloads.lines import say

_BLOCK = 1 << 20
_TEXT = (b"The quick brown fox jumps over the lazy dog, again and again and again. " * 15000)[
    :_BLOCK
]


def main() -> None:
    """Touch, then wait for a signal; SIGUSR1 reads every page once more and says how."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mib", type=int)
    parser.add_argument("--random", action="store_true", help="a content that does not compress")
    parser.add_argument("--sum", action="store_true", help="say a checksum of all of it, too")
    arguments = parser.parse_args()
    # Blocks of urandom differ, so that neither compression nor same-page tricks find anything.
    memory = mmap.mmap(-1, arguments.mib * _BLOCK)
    for _ in range(arguments.mib):
        memory.write(os.urandom(_BLOCK) if arguments.random else _TEXT)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    say("ready", bytes=len(memory), **_sum(memory, arguments.sum))
    while signal.sigwait({signal.SIGUSR1}):
        touched = memoryview(memory)[:: mmap.PAGESIZE].tobytes()
        say("touched", pages=len(touched), **_sum(memory, arguments.sum))


def _sum(memory: mmap.mmap, wanted: bool) -> dict[str, int]:  # noqa: FBT001  # our own
    return {"crc": zlib.crc32(memory)} if wanted else {}


if __name__ == "__main__":
    main()
