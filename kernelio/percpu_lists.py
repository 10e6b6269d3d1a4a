"""Free pages that each CPU keeps at hand: free for nobody else, and in no block of any size.

A CPU keeps up to its share of the low watermark, and what huge pages add to that makes it 27 MiB a
CPU in a guest of 1 GiB. A page in such a list keeps the 2 MiB around it from being one free block.
From Linux 6.7 on each refresh of the statistics lets go of some of what is above the limit; before
that the lists are short and stay as they are.

Source: mm/page_alloc.c, zone_set_pageset_high_and_batch() and decay_pcp_high(); mm/vmstat.c,
vmstat_refresh(); Documentation/admin-guide/sysctl/vm.rst, percpu_pagelist_high_fraction
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from kernelio.errors import MalformedReading
from kernelio.files import read_bytes, write_bytes
from kernelio.layout import Layout

__all__ = ["SHORTEST", "count_pages", "limit_path", "read_limit", "shorten", "write_limit"]

SHORTEST = b"2000000000"
"""As the share of a zone that is a CPU's limit: the kernel makes it four batches, 1 MiB."""

# A pass lowers a list's limit by an eighth, from a 16th of memory at the most.
_PASSES = 40

_COUNT = re.compile(r"^ +count: +(\d{1,20})$", re.ASCII | re.MULTILINE)
_LIMIT = re.compile(rb"\d{1,10}\n?", re.ASCII)


def limit_path(layout: Layout) -> str:
    """The file that says how long the lists may become; 0 in it is the kernel's own choice."""
    return layout.proc("sys/vm/percpu_pagelist_high_fraction")


def count_pages(layout: Layout) -> int:
    """Pages in all lists of all CPUs.

    Raises:
        Unsupported: There is no /proc/zoneinfo.
    """
    text = os.fsdecode(read_bytes(layout.proc("zoneinfo"), fixed=True))
    return sum(map(int, _COUNT.findall(text)))


def read_limit(layout: Layout) -> str:
    """What the limit is now, as it can be written back.

    Raises:
        Unsupported: Before Linux 5.14.
        MalformedReading: It is no number.
    """
    path = limit_path(layout)
    text = read_bytes(path, fixed=True)
    if not _LIMIT.fullmatch(text):
        raise MalformedReading(path, os.fsdecode(text[:80]), "a number")
    return text.decode().strip()


def write_limit(layout: Layout, limit: bytes) -> None:
    """Set it.

    Raises:
        Unsupported, Refused: The kernel does not have it, or does not take it.
    """
    write_bytes(limit_path(layout), limit, fixed=True)


def shorten(layout: Layout, goes_on: Callable[[], bool]) -> None:
    """Have each CPU let go of what is above the limit.

    Args:
        layout: Where /proc is.
        goes_on: Asked before each pass, which waits for every CPU.

    Raises:
        Unsupported: The statistics cannot be refreshed.
    """
    for _ in range(_PASSES):
        if not goes_on():
            return
        read_bytes(layout.proc("sys/vm/stat_refresh"), fixed=True)
