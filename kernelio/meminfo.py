"""/proc/meminfo: how much memory the guest has, and in what state."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from kernelio.errors import MalformedReading
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = ["Meminfo", "page_size", "parse_meminfo", "read_meminfo"]

# Most lines end in " kB"; the HugePages_ counts have no unit.
_LINE = re.compile(r"([^:]+):\s+(\d{1,20})( kB)?", re.ASCII)
_EXPECTED = "a line 'Name:  number kB'"


class Meminfo(NamedTuple):
    """The lines of /proc/meminfo that a decision uses, in bytes.

    None on kernels without them: `zswap_bytes`, the RAM that zswap's pool takes, `zswapped_bytes`,
    the size of the pages in it, and (before Linux 6.16) `balloon_bytes`, inflated by the host.

    Source: Documentation/filesystems/proc.rst, "meminfo"
    """

    total_bytes: int
    free_bytes: int
    available_bytes: int
    cached_bytes: int
    dirty_bytes: int
    writeback_bytes: int
    anon_bytes: int
    shmem_bytes: int
    unevictable_bytes: int
    reclaimable_slab_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    swap_cached_bytes: int
    zswap_bytes: int | None = None
    zswapped_bytes: int | None = None
    balloon_bytes: int | None = None


_NAMES = {
    "MemTotal": "total_bytes",
    "MemFree": "free_bytes",
    "MemAvailable": "available_bytes",
    "Cached": "cached_bytes",
    "Dirty": "dirty_bytes",
    "Writeback": "writeback_bytes",
    "AnonPages": "anon_bytes",
    "Shmem": "shmem_bytes",
    "Unevictable": "unevictable_bytes",
    "SReclaimable": "reclaimable_slab_bytes",
    "SwapTotal": "swap_total_bytes",
    "SwapFree": "swap_free_bytes",
    "SwapCached": "swap_cached_bytes",
    "Zswap": "zswap_bytes",
    "Zswapped": "zswapped_bytes",
    "Balloon": "balloon_bytes",
}
_ALWAYS = frozenset(_NAMES) - {"Zswap", "Zswapped", "Balloon"}


def page_size() -> int:
    """The size of a base page in bytes: 4096 on x86, up to 65536 elsewhere."""
    return os.sysconf("SC_PAGE_SIZE")


def parse_meminfo(text: str, path: str) -> Meminfo:
    """Read the kernel's kB as bytes.

    Raises:
        MalformedReading: A line is no "Name: number", or one that every kernel prints is not there.
    """
    found: dict[str, int] = {}
    for line in text.split("\n"):
        if not line:
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise MalformedReading(path, line, _EXPECTED)
        name, number, unit = parts.groups()
        if name in _NAMES and unit:
            found[name] = int(number) * 1024
    if missing := sorted(_ALWAYS - found.keys()):
        raise MalformedReading(path, "", f"a line '{missing[0]}:  number kB'")
    return Meminfo(**{_NAMES[name]: value for name, value in found.items()})


def read_meminfo(layout: Layout) -> Meminfo:
    """Read /proc/meminfo (about 30 us).

    Raises:
        MalformedReading: As for parsing.
    """
    path = layout.proc("meminfo")
    return parse_meminfo(os.fsdecode(read_bytes(path)), path)
