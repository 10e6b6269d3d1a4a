"""/proc/self/pagemap: which page frames stand behind our own memory.

Source: Documentation/admin-guide/mm/pagemap.rst
"""

from __future__ import annotations

import os

from kernelio.errors import MalformedReading, Unsupported
from kernelio.files import meaning_of
from kernelio.layout import Layout
from kernelio.meminfo import page_size

__all__ = ["read_own_pfns"]

_ENTRY = 8
_PRESENT = 1 << 63
_PFN = (1 << 55) - 1


def read_own_pfns(layout: Layout, address: int, size: int) -> tuple[int, ...]:
    """Page frame numbers of a stretch of our own memory, of the pages that are present.

    Args:
        layout: Where /proc is.
        address: Of the first page.
        size: In bytes, whole pages.

    Raises:
        Unsupported: No CAP_SYS_ADMIN, or a kernel without the file.
        MalformedReading: There are fewer entries than pages.
    """
    path = layout.proc("self/pagemap")
    first, pages = address // page_size(), size // page_size()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.pread(fd, pages * _ENTRY, first * _ENTRY)
        finally:
            os.close(fd)
    except OSError as error:
        raise meaning_of(error, path) from error
    if len(raw) != pages * _ENTRY:
        raise MalformedReading(path, f"{len(raw)} bytes", f"an entry for each of {pages} pages")
    return _pfns(raw, path)


def _pfns(raw: bytes, path: str) -> tuple[int, ...]:
    words = memoryview(raw).cast("Q")
    present = [word & _PFN for word in words if word & _PRESENT]
    if present and not any(present):  # the kernel shows 0 to those who may not know
        raise Unsupported(path, "not permitted without CAP_SYS_ADMIN")
    return tuple(present)
