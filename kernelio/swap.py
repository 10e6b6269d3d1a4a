"""/proc/swaps and zram: where anonymous memory can go, and what that really saves; and swapon."""

from __future__ import annotations

import ctypes
import os
import re
from typing import NamedTuple

from kernelio.errors import MalformedReading
from kernelio.files import meaning_of, read_bytes
from kernelio.layout import Layout

__all__ = [
    "DISCARDS",
    "SwapDevice",
    "ZramUse",
    "open_swaps",
    "parse_swaps",
    "parse_zram_mm_stat",
    "read_swaps",
    "read_zram",
    "swap_on",
    "zram_name",
]

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.swapon.argtypes = (ctypes.c_char_p, ctypes.c_int)
_LIBC.swapon.restype = ctypes.c_int
# From the kernel's <linux/swap.h>: SWAP_FLAG_PREFER and its mask, and SWAP_FLAG_DISCARD alone, with
# _ONCE and with _PAGES.
_PREFER, _PRIORITY_MASK = 0x8000, 0x7FFF
DISCARDS = {"no": 0, "once": 0x30000, "pages": 0x50000, "both": 0x10000}
"""Flags of swapon by what is discarded; a device that cannot is used without."""

_LINE = re.compile(
    r"([^ \t]+)[ \t]+(\w+)[ \t]+(\d{1,20})[ \t]+(\d{1,20})[ \t]+(-?\d{1,10})", re.ASCII
)
_OCTAL = re.compile(r"\\([0-3][0-7]{2})", re.ASCII)
_HEADER = "Filename"
_DELETED = " (deleted)"
# Without /dev once the mount namespace is gone where swapon was called: see open_disk's layout.
_ZRAM = re.compile(r"(?:/dev)?/(zram\d{1,9})", re.ASCII)
_MM_STAT = re.compile(
    r"\s*(\d{1,20})\s+(\d{1,20})\s+(\d{1,20})\s+(\d{1,20})(?:\s+\d{1,20})*\s*", re.ASCII
)


class SwapDevice(NamedTuple):
    """One active swap area.

    Args:
        path: As the kernel names it now, blanks and backslashes restored.
        kind: "partition" (any block device, zram too) or "file".
        size_bytes: What it can hold.
        used_bytes: What it holds.
        priority: Higher is used first; automatic ones are negative.
        deleted: Its name was removed while it is in use.
    """

    path: str
    kind: str
    size_bytes: int
    used_bytes: int
    priority: int
    deleted: bool = False


class ZramUse(NamedTuple):
    """What a zram device holds, and what of the guest's RAM it takes for that.

    Args:
        original_bytes: Size of the pages stored, same-filled ones not counted.
        compressed_bytes: Size of them compressed.
        used_bytes: RAM taken, with the allocator's own loss: what counts for the host.
        limit_bytes: The most it may take; 0 is no limit.

    Source: Documentation/admin-guide/blockdev/zram.rst, "mm_stat"
    """

    original_bytes: int
    compressed_bytes: int
    used_bytes: int
    limit_bytes: int


def parse_swaps(text: str, path: str) -> tuple[SwapDevice, ...]:
    """Read the table, in the kernel's order.

    A file whose own name ends in " (deleted)" looks deleted: the kernel prints both alike.

    Raises:
        MalformedReading: The header is missing, or a line has not its five columns.
    """
    header, *lines = text.split("\n")
    if not header.startswith(_HEADER):
        raise MalformedReading(path, header, f"a header that begins with {_HEADER}")
    return tuple(_parse_line(line, path) for line in lines if line)


def _parse_line(line: str, path: str) -> SwapDevice:
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise MalformedReading(path, line, "a path, a type, two sizes in kB and a priority")
    escaped, kind, size_kb, used_kb, priority = parts.groups()
    name = _unescape(escaped)
    deleted = name.endswith(_DELETED)
    return SwapDevice(
        path=name.removesuffix(_DELETED),
        kind=kind,
        size_bytes=int(size_kb) * 1024,
        used_bytes=int(used_kb) * 1024,
        priority=int(priority),
        deleted=deleted,
    )


def _unescape(name: str) -> str:
    """Undo seq_file_path(): blank, tab, newline and backslash as three octal digits."""
    return _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), name)


def read_swaps(layout: Layout) -> tuple[SwapDevice, ...]:
    """Read /proc/swaps; empty where swap is off, or not built in.

    Raises:
        Unsupported: This kernel has no swap at all.
        MalformedReading: As for parsing.
    """
    path = layout.proc("swaps")
    return parse_swaps(os.fsdecode(read_bytes(path, fixed=True)), path)


def open_swaps(layout: Layout) -> int:
    """Open /proc/swaps to be polled for POLLPRI, which comes with each change; the fd is yours.

    A change is eaten by the first poll that sees it, and comes with POLLERR, as if it were gone:
    see kernelio.psi.TriggerSet. Read the table once after each time that polling begins.

    Raises:
        Unsupported: This kernel has no swap at all.

    Source: mm/swapfile.c, swaps_poll()
    """
    path = layout.proc("swaps")
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise meaning_of(error, path, fixed=True) from error


def swap_on(fd: int, path: str, *, priority: int | None, discard: str) -> None:
    """Take the block device behind an fd into use as swap; where all of it is discarded that waits.

    Args:
        fd: Of the device, so that it is this one and none that has its name by now; not open alone.
        path: Of the device, for errors.
        priority: 0 to 32767, higher ones are used first; None leaves it to the kernel.
        discard: One of `DISCARDS`.

    Raises:
        Unsupported: No CAP_SYS_ADMIN.
        Vanished: The device is gone.
        Refused: It is in use (EBUSY), has no signature (EINVAL), and so on.

    Source: swapon(2)
    """
    flags = DISCARDS[discard] | (0 if priority is None else _PREFER | priority & _PRIORITY_MASK)
    if _LIBC.swapon(b"/proc/self/fd/%d" % fd, flags) < 0:
        number = ctypes.get_errno()
        raise meaning_of(OSError(number, os.strerror(number)), path)


def zram_name(device: SwapDevice) -> str | None:
    """The block device's name ("zram0") when this area is zram, else None."""
    name = _ZRAM.fullmatch(device.path) if device.kind == "partition" else None
    return name[1] if name else None


def parse_zram_mm_stat(text: str, path: str) -> ZramUse:
    """Read the first four numbers; kernels append more.

    Raises:
        MalformedReading: Fewer, or no numbers.
    """
    parts = _MM_STAT.fullmatch(text)
    if parts is None:
        raise MalformedReading(path, text, "four byte counts or more")
    return ZramUse(*map(int, parts.groups()))


def read_zram(layout: Layout, name: str) -> ZramUse:
    """Read what one zram device holds.

    Args:
        layout: Where /sys is.
        name: As from `zram_name`.

    Raises:
        Vanished: There is no such device.
        MalformedReading: As for parsing.
    """
    path = layout.sys(f"block/{name}/mm_stat")
    return parse_zram_mm_stat(os.fsdecode(read_bytes(path)), path)
