"""Fill anonymous memory, each page with a content of its own, and leave it: it is cold then.

SIGUSR1 reads all of it once more and says its checksum, and what that cost.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import signal
import time
import zlib

from lab.workloads.lines import say

_MARK_BYTES = 64
_TEXT = b"The quick brown fox jumps over the lazy dog, again and again and again. "


def main() -> None:
    """Fill, then wait for signals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mib", type=int)
    memory = mmap.mmap(-1, parser.parse_args().mib << 20)
    # Pages that differ, each of which compresses well behind its mark.
    rest = (_TEXT * (mmap.PAGESIZE // len(_TEXT) + 1))[: mmap.PAGESIZE - _MARK_BYTES]
    for _ in range(len(memory) // mmap.PAGESIZE):
        memory.write(os.urandom(_MARK_BYTES) + rest)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    say("ready", bytes=len(memory), crc=zlib.crc32(memory))
    while signal.sigwait({signal.SIGUSR1}):
        faults, began = _major_faults(), time.monotonic()
        crc = zlib.crc32(memory)
        took_us = int((time.monotonic() - began) * 1e6)
        say("read", crc=crc, took_us=took_us, major_faults=_major_faults() - faults)


def _major_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


if __name__ == "__main__":
    main()
