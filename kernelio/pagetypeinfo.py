"""/proc/pagetypeinfo: free memory by what the kernel means to put there; dear to read.

The kernel walks its free lists under the zone's lock with interrupts off, so this is never read
often; /proc/buddyinfo says how large the free blocks are, for nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from kernelio.buddy import FreeBlocks
from kernelio.errors import MalformedReading
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = ["parse_movable", "read_movable", "small_pages"]

# The tables of block counts below the rows, and the headings, have no such beginning.
_ROW = re.compile(r"Node\s+\d+, zone\s+\S+, type ", re.ASCII)
_LINE = re.compile(
    r"Node\s+(\d{1,5}), zone\s+(\S+), type\s+(\S+)((?:\s+(?:\d{1,20}|>\d{6,20}))+)\s*", re.ASCII
)
_MOVABLE = "Movable"


def parse_movable(text: str, path: str) -> tuple[FreeBlocks, ...]:
    """Read the free blocks of each zone that movable pages may take.

    A count that the kernel stopped at, printed `>100000`, is taken for what it stopped at.

    Raises:
        MalformedReading: A row is not "Node n, zone NAME, type NAME counts...", or there is none.

    Source: mm/vmstat.c, pagetypeinfo_showfree_print()
    """
    rows = [_parse_row(line, path) for line in text.split("\n") if _ROW.match(line)]
    if not rows:
        raise MalformedReading(path, text[:80], "rows 'Node n, zone NAME, type NAME counts'")
    return tuple(blocks for kind, blocks in rows if kind == _MOVABLE)


def _parse_row(line: str, path: str) -> tuple[str, FreeBlocks]:
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise MalformedReading(path, line, "'Node n, zone NAME, type NAME' and a count per order")
    node, zone, kind, counts = parts.groups()
    numbers = tuple(int(count.lstrip(">")) for count in counts.split())
    return kind, FreeBlocks(int(node), zone, numbers)


def read_movable(layout: Layout) -> tuple[FreeBlocks, ...]:
    """Read /proc/pagetypeinfo; never on a timer, see above.

    Raises:
        MalformedReading: As for parsing.
        Unsupported: Not root, or a kernel without it.
    """
    path = layout.proc("pagetypeinfo")
    return parse_movable(os.fsdecode(read_bytes(path)), path)


def small_pages(rows: Iterable[FreeBlocks], order: int) -> int:
    """Pages that are free in blocks of less than 2^order pages."""
    return sum(
        count << row_order
        for row in rows
        for row_order, count in enumerate(row.counts)
        if row_order < order
    )
