"""Free memory that the host holds nevertheless, page frame by page frame.

The guest says which of its frames are free, the host which of its pages are there. A guest of one
node and not more than 2 GiB has its frames in QEMU's one mapping, in their order.

Source: /proc/kpageflags and /proc/PID/pagemap in Documentation/admin-guide/mm/pagemap.rst
"""

from __future__ import annotations

import array
import gzip
import re

from lab.errors import LabError
from lab.guest import Guest

__all__ = ["free_and_there", "free_yet_held_bytes", "mapping_address"]

_PAGE_BYTES = 4096
_ENTRY_BYTES = 8
_BUDDY = 1 << 10
# Swapped out, or mapped here alone: neither a hole nor the page of zeros, which a guest that was
# restored has in place of what it never wrote.
_THERE = 1 << 62 | 1 << 56
_LINEAR_MIB = 2048
_FLAGS = "/run/lab-kpageflags.gz"


def free_yet_held_bytes(guest: Guest) -> int:
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
    return free_and_there(flags, pages) * _PAGE_BYTES


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
