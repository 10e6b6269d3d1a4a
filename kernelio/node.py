"""The guest's NUMA nodes, and the kernel's list format ("0-1,3") in which it prints them."""

from __future__ import annotations

import os
import re

from kernelio.errors import MalformedReading, Unsupported, Vanished
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = ["parse_list", "read_online_nodes"]

_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_MOST = 65536  # no kernel has more nodes or CPUs, so a longer list is no list


def parse_list(text: str, path: str) -> tuple[int, ...]:
    """Read a list of numbers and ranges, ascending; an empty line is an empty list.

    Raises:
        MalformedReading: Not such a list, or one that does not ascend.

    Source: lib/vsprintf.c, bitmap_list_string()
    """
    line = text.removesuffix("\n")
    if not line:
        return ()
    numbers: list[int] = []
    for part in line.split(","):
        span = _RANGE.fullmatch(part)
        first = int(span[1]) if span else _MOST
        last = int(span[2]) if span and span[2] else first
        if not (numbers[-1] if numbers else -1) < first <= last < _MOST:
            raise MalformedReading(path, line, "an ascending list such as 0-1,3")
        numbers += range(first, last + 1)
    return tuple(numbers)


def read_online_nodes(layout: Layout) -> tuple[int, ...]:
    """The nodes that are online; (0,) where the kernel knows no NUMA.

    Raises:
        MalformedReading: As for parsing.
    """
    path = layout.sys("devices/system/node/online")
    try:
        return parse_list(os.fsdecode(read_bytes(path)), path)
    except (Unsupported, Vanished):
        return (0,)
