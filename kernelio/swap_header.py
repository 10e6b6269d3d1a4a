"""The first page of a swap area: read before it is trusted, and written as mkswap writes it.

Source: include/linux/swap.h, union swap_header; mm/swapfile.c, read_swap_header(); mkswap(8)
"""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple

from kernelio.errors import MalformedReading, Refused
from kernelio.files import meaning_of

__all__ = [
    "PAGE_SIZES",
    "SwapHeader",
    "format_uuid",
    "is_blank",
    "make_swap_header",
    "new_uuid",
    "parse_swap_header",
    "parse_uuid",
    "read_begin",
    "write_header",
]

PAGE_SIZES = (4096, 8192, 16384, 65536)  # of the kernels that write swap areas
_MAGIC = b"SWAPSPACE2"
_INFO = 1024  # what a boot loader may have lies before
_FIELDS = "III16s16s"  # version, last page, number of bad pages, UUID, label
_SIZE = struct.calcsize(f"<{_FIELDS}")
_VERSION = 1
_UUID_BYTES = 16
_LABEL_BYTES = 16
_UUID_VERSION, _UUID_VARIANT = 6, 8  # the bytes that say of a UUID how it was made
_LAST_PAGE_MAX = 2**32 - 1
_FEWEST_PAGES = 10  # below that mkswap writes none
# Superblocks that lie farthest behind the begin: btrfs at 64 KiB.
_BEGIN_BYTES = 128 << 10


class SwapHeader(NamedTuple):
    """What a swap signature says.

    Args:
        page_bytes: Of the kernel that it is for: it stands at the end of its first page.
        swapped_bytes: It was written by a machine of the other byte order; the kernel reads both.
        version: 1 is all there is.
        pages: Of the area, the header's own with them.
        bad_pages: How many of them are not used.
        uuid: Of the area, as text; all zeros where it has none.
        label: Of the area.
    """

    page_bytes: int
    swapped_bytes: bool
    version: int
    pages: int
    bad_pages: int
    uuid: str
    label: str

    @property
    def size_bytes(self) -> int:
        """What the device has to have at least."""
        return self.pages * self.page_bytes


def format_uuid(raw: bytes) -> str:
    """Write 16 bytes as text, in lower case."""
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def parse_uuid(text: str) -> bytes:
    """Read the 16 bytes of a UUID's text.

    Raises:
        ValueError: It is none.
    """
    raw = bytes.fromhex(text.replace("-", ""))
    if len(raw) != _UUID_BYTES or format_uuid(raw) != text.lower():
        raise ValueError(f"{text!r} is no UUID")
    return raw


def new_uuid() -> bytes:
    """Draw a random one. Source: RFC 9562, version 4."""
    raw = bytearray(os.urandom(_UUID_BYTES))
    raw[_UUID_VERSION] = raw[_UUID_VERSION] & 0x0F | 0x40
    raw[_UUID_VARIANT] = raw[_UUID_VARIANT] & 0x3F | 0x80
    return bytes(raw)


def parse_swap_header(data: bytes, path: str) -> SwapHeader | None:
    """Find a swap signature in the first bytes of a device; None where there is none.

    Args:
        data: As many of the first 64 KiB as the device has.
        path: Of the device, for errors.

    Raises:
        MalformedReading: There is one, and it is cut off, or of no version that is known.
    """
    for page_bytes in PAGE_SIZES:
        if data[page_bytes - len(_MAGIC) : page_bytes] == _MAGIC:
            return _parse_info(data[_INFO : _INFO + _SIZE], page_bytes, path)
    return None


def _parse_info(info: bytes, page_bytes: int, path: str) -> SwapHeader:
    for order in "<>":
        version, last, bad, uuid, label = struct.unpack(order + _FIELDS, info)
        if version == _VERSION:
            return SwapHeader(
                page_bytes=page_bytes,
                swapped_bytes=order != _own_order(),
                version=version,
                pages=last + 1,
                bad_pages=bad,
                uuid=format_uuid(uuid),
                label=label.partition(b"\0")[0].decode(errors="replace"),
            )
    raise MalformedReading(path, info[:4].hex(), "a swap signature of version 1")


def _own_order() -> str:
    return "<" if struct.pack("=H", 1) == b"\1\0" else ">"


def make_swap_header(
    size_bytes: int, page_bytes: int, uuid: bytes | None = None, label: str = ""
) -> bytes:
    """Make the first page of a swap area without bad pages.

    Args:
        size_bytes: Of the device; what is no whole page at its end is left out.
        page_bytes: Of this kernel.
        uuid: Of the area; None draws one.
        label: Of the area, 16 bytes at most.

    Raises:
        ValueError: It is too small: mkswap makes none below 10 pages; or the label is too long.
    """
    pages = size_bytes // page_bytes
    if pages < _FEWEST_PAGES:
        raise ValueError(f"{size_bytes} bytes are less than {_FEWEST_PAGES} pages")
    name = label.encode()
    if len(name) > _LABEL_BYTES:
        raise ValueError(f"the label {label!r} is longer than {_LABEL_BYTES} bytes")
    page = bytearray(page_bytes)
    last = min(pages - 1, _LAST_PAGE_MAX)
    struct.pack_into(f"={_FIELDS}", page, _INFO, _VERSION, last, 0, uuid or new_uuid(), name)
    page[-len(_MAGIC) :] = _MAGIC
    return bytes(page)


def is_blank(data: bytes) -> bool:
    """Whether the begin of a device holds zeros alone, so that no file system lies there."""
    return not data.strip(b"\0")


def read_begin(fd: int, path: str) -> bytes:
    """Read where signatures of swap and of file systems lie: the first 128 KiB.

    Raises:
        Vanished: The device is gone.
        Refused: It cannot be read.
    """
    parts = []
    at = 0
    try:
        while at < _BEGIN_BYTES and (part := os.pread(fd, _BEGIN_BYTES - at, at)):
            parts.append(part)
            at += len(part)
    except OSError as error:
        raise meaning_of(error, path) from error
    return b"".join(parts)


def write_header(fd: int, page: bytes, path: str) -> None:
    """Write the first page, and wait until the device has it.

    Raises:
        Vanished: The device is gone.
        Refused: It cannot be written to: no room where the host keeps it, among others.
    """
    try:
        written = os.pwrite(fd, page, 0)
        os.fsync(fd)
    except OSError as error:
        raise meaning_of(error, path) from error
    if written != len(page):
        raise Refused(path, errno.EIO, f"only {written} bytes of {len(page)} were written")
