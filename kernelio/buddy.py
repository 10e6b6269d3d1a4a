"""/proc/buddyinfo: in what pieces the free memory lies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from kernelio.errors import MalformedReading
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = ["FreeBlocks", "parse_buddyinfo", "read_buddyinfo", "reportable_bytes"]

_LINE = re.compile(r"Node (\d{1,5}), zone\s+(\S+)((?:\s+\d{1,20})+)\s*", re.ASCII)


class FreeBlocks(NamedTuple):
    """Free blocks of one zone.

    Args:
        node: NUMA node.
        zone: "DMA", "DMA32", "Normal", "Movable", ...
        counts: counts[order] blocks of 2^order pages; how many orders there are differs by kernel.
    """

    node: int
    zone: str
    counts: tuple[int, ...]


def parse_buddyinfo(text: str, path: str) -> tuple[FreeBlocks, ...]:
    """Read every zone, however many orders this kernel has.

    Raises:
        MalformedReading: A line is not "Node n, zone NAME counts...".
    """
    return tuple(_parse_line(line, path) for line in text.split("\n") if line)


def _parse_line(line: str, path: str) -> FreeBlocks:
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise MalformedReading(path, line, "'Node n, zone NAME' and a count for each order")
    node, zone, counts = parts.groups()
    return FreeBlocks(int(node), zone, tuple(map(int, counts.split())))


def read_buddyinfo(layout: Layout) -> tuple[FreeBlocks, ...]:
    """Read /proc/buddyinfo: cheap, and readable by all.

    Raises:
        MalformedReading: As for parsing.
    """
    path = layout.proc("buddyinfo")
    return parse_buddyinfo(os.fsdecode(read_bytes(path)), path)


def reportable_bytes(rows: Iterable[FreeBlocks], order: int, page_size: int) -> int:
    """Free memory in blocks that free page reporting can tell the host of.

    Args:
        rows: The zones to count.
        order: The reporting order; blocks of at least 2^order pages count.
        page_size: In bytes.
    """
    pages = sum(
        count << row_order
        for row in rows
        for row_order, count in enumerate(row.counts)
        if row_order >= order
    )
    return pages * page_size
