"""Free memory that the host holds nevertheless, page frame by page frame.

The guest says which of its frames are free, the host which of its pages are there. A guest of one
node and not more than 2 GiB has its frames in QEMU's one mapping, in their order.

Source: /proc/kpageflags and /proc/PID/pagemap in Documentation/admin-guide/mm/pagemap.rst
"""

from __future__ import annotations

import array
import gzip
import re
from typing import NamedTuple

from kernelio.page_reporting import Zone, headroom_pages, parse_zoneinfo
from lab.errors import LabError
from lab.guest import Guest

__all__ = ["FreeHeld", "free_and_there", "free_yet_held", "mapping_address", "never_told"]

_PAGE_BYTES = 4096
_ENTRY_BYTES = 8
_BUDDY, _LRU, _NO_PAGE = 1 << 10, 1 << 5, 1 << 20
_BLOCK = 512  # frames: 2 MiB
# Swapped out, or mapped here alone: neither a hole nor the page of zeros, which a guest that was
# restored has in place of what it never wrote.
_THERE = 1 << 62 | 1 << 56
_LINEAR_MIB = 2048
_FLAGS = "/run/lab-kpageflags.gz"
_ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"


class FreeHeld(NamedTuple):
    """Bytes that the guest calls free and the host has.

    Args:
        all_bytes: All of them.
        never_told_bytes: In zones too small for the kernel to report anything at this order.
        pinned_bytes: In 2 MiB that hold a page of the kernel's own too, which does not move; or one
            that a CPU keeps at hand, which looks the same.
    """

    all_bytes: int
    never_told_bytes: int
    pinned_bytes: int


def free_yet_held(guest: Guest) -> FreeHeld:
    """Read both, the guest's word first.

    Raises:
        LabError: The guest's memory is not one piece of QEMU's.
    """
    if guest.options.nodes != 1 or guest.options.memory_mib > _LINEAR_MIB:
        raise LabError("the frames of this guest are not one piece of QEMU's memory")
    size = guest.options.node_bytes
    frames = size // _PAGE_BYTES
    with open(f"/proc/{guest.qemu_pid}/smaps") as file:
        address = mapping_address(file.read(), size)
    count = f"head -c {frames * _ENTRY_BYTES} /proc/kpageflags | gzip -1 > {_FLAGS}"
    guest.run(count)
    flags = _entries(gzip.decompress(guest.get(_FLAGS)))
    with open(f"/proc/{guest.qemu_pid}/pagemap", "rb", buffering=0) as file:
        file.seek(address // _PAGE_BYTES * _ENTRY_BYTES)
        pages = _entries(file.read(frames * _ENTRY_BYTES))
    zones = parse_zoneinfo(guest.run(["cat", "/proc/zoneinfo"]).stdout, "/proc/zoneinfo")
    never = never_told(zones, int(guest.run(["cat", _ORDER]).stdout))
    in_never = sum(free_and_there(flags[a:b], pages[a:b]) for a, b in never)
    pinned = sum(
        free_and_there(flags[at : at + _BLOCK], pages[at : at + _BLOCK])
        for at in range(0, frames, _BLOCK)
        if not any(a <= at < b for a, b in never) and _pinned(flags[at : at + _BLOCK])
    )
    counts = (free_and_there(flags, pages), in_never, pinned)
    return FreeHeld(*(count * _PAGE_BYTES for count in counts))


def never_told(zones: tuple[Zone, ...], order: int) -> list[tuple[int, int]]:
    """The first frame of each zone that could not be reported if all of it were free, and its end.

    The one for old devices begins at frame 0, which is nobody's.
    """
    return [
        (zone.start_pfn // _BLOCK * _BLOCK, zone.start_pfn + zone.spanned_pages)
        for zone in zones
        if 0 < zone.managed_pages <= headroom_pages(zone, order)
    ]


def _pinned(flags: array.array[int]) -> bool:
    return any(not flag & (_BUDDY | _LRU | _NO_PAGE) for flag in flags)


def mapping_address(smaps: str, size_bytes: int) -> int:
    """Where the one mapping of this size begins.

    Raises:
        LabError: There is none, or more than one.
    """
    head = rf"^([0-9a-f]+)-[0-9a-f]+ .*\nSize: +{size_bytes // 1024} kB$"
    found = re.findall(head, smaps, re.MULTILINE)
    if len(found) != 1:
        raise LabError(f"QEMU has {len(found)} mappings of {size_bytes // 1024} KiB")
    return int(found[0], 16)


def free_and_there(flags: array.array[int], pages: array.array[int]) -> int:
    """Frames that are free by kpageflags and there by pagemap."""
    return sum(
        bool(flag & _BUDDY and page & _THERE) for flag, page in zip(flags, pages, strict=False)
    )


def _entries(data: bytes) -> array.array[int]:
    entries = array.array("Q")
    entries.frombytes(data[: len(data) // _ENTRY_BYTES * _ENTRY_BYTES])
    return entries
