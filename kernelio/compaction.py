"""Compaction: where it is asked for, and what the kernel counts of it.

Nothing gentler than a fatal signal ends the write that asks for it, so the file is opened here, and
somebody else is to write to it: a child that can be killed.

Source: mm/compaction.c, sysctl_compaction_handler() and compact_store()
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from kernelio.errors import MalformedReading, Unsupported
from kernelio.files import meaning_of, read_bytes
from kernelio.layout import Layout

__all__ = [
    "Counters",
    "open_trigger",
    "parse_counters",
    "read_counters",
    "trigger_path",
]


class Counters(NamedTuple):
    """What compaction did since boot, whoever asked for it, in pages.

    Args:
        migrate_scanned_total_pages: Looked at, to be moved.
        free_scanned_total_pages: Looked at, to be moved to.
        isolated_total_pages: Taken off their lists for a move.
        migrated_total_pages: Moved, by compaction or for another reason: content that was copied.
    """

    migrate_scanned_total_pages: int
    free_scanned_total_pages: int
    isolated_total_pages: int
    migrated_total_pages: int


_NAMES = {
    "compact_migrate_scanned": "migrate_scanned_total_pages",
    "compact_free_scanned": "free_scanned_total_pages",
    "compact_isolated": "isolated_total_pages",
    "pgmigrate_success": "migrated_total_pages",
}
_LINE = re.compile(rf"^({'|'.join(_NAMES)}) (\d{{1,20}})$", re.ASCII | re.MULTILINE)


def trigger_path(layout: Layout, node: int) -> str:
    """The file whose writing compacts a node; on a kernel without nodes the one that does all."""
    nodes = layout.sys("devices/system/node")
    if node == 0 and not os.path.isdir(nodes):
        return layout.proc("sys/vm/compact_memory")
    return f"{nodes}/node{node}/compact"


def open_trigger(layout: Layout, node: int) -> int:
    """Open that file for a child to write `1` to; the fd is the caller's to close.

    Raises:
        Vanished: The node is gone.
        Unsupported: Compaction is not built, or may not be asked for.
    """
    path = trigger_path(layout, node)
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise meaning_of(error, path) from error


def parse_counters(text: str, path: str) -> Counters:
    """Find the four among all that the kernel counts.

    Raises:
        Unsupported: None of them is there: compaction is not built.
        MalformedReading: Some are there and some are not.
    """
    found = {_NAMES[line[1]]: int(line[2]) for line in _LINE.finditer(text)}
    if not found.keys() - {"migrated_total_pages"}:
        raise Unsupported(path, "compaction is not built into this kernel")
    if missing := [name for name, ours in _NAMES.items() if ours not in found]:
        raise MalformedReading(path, text[-80:], f"a line '{missing[0]} number'")
    return Counters(**found)


def read_counters(layout: Layout) -> Counters:
    """Read /proc/vmstat, which adds up what each CPU counted.

    Raises:
        Unsupported, MalformedReading: As for parsing.
    """
    path = layout.proc("vmstat")
    return parse_counters(os.fsdecode(read_bytes(path)), path)
