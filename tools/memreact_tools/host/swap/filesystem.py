"""What the file system is like that swap files are to lie on."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable

__all__ = ["IN_MEMORY", "available_bytes", "kind_of", "parse_mounts", "takes_direct_io"]

# What lies there lies in the host's memory, or in the host's own swap.
IN_MEMORY = frozenset({"devtmpfs", "hugetlbfs", "ramfs", "tmpfs"})

_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
_POINT = 4  # fields of a line of mountinfo before the mount point


def available_bytes(fd: int) -> int:
    """Return what those who are not root may still write, on the file system of an open folder."""
    said = os.fstatvfs(fd)
    return said.f_bavail * said.f_frsize  # f_bsize is a hint for readers and may be larger


def kind_of(path: str, *, mounts: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system that a path without symbolic links is on."""
    with open(mounts, "rb") as file:
        found = parse_mounts(file)
    kind = ""
    longest = -1
    for point, each in found:  # a later one on the same point hides the earlier
        if len(point) >= longest and os.path.commonpath((point, path)) == point:
            kind, longest = each, len(point)
    return kind


def parse_mounts(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    """Return mount points and types, in the kernel's order; a line that is none is passed over.

    Source: Documentation/filesystems/proc.rst, "/proc/<pid>/mountinfo"
    """
    found = []
    for line in lines:
        before, dash, after = line.partition(b" - ")
        fields, kinds = before.split(b" "), after.split(b" ")
        if dash and len(fields) > _POINT and fields[_POINT].startswith(b"/") and kinds[0]:
            point = _OCTAL.sub(lambda octal: bytes((int(octal[1], 8),)), fields[_POINT])
            found.append((os.fsdecode(point), os.fsdecode(kinds[0]).strip()))
    return found


def takes_direct_io(name: str, *, folder: int) -> bool:
    """Say whether a file can be read past the host's page cache; it is tried.

    Args:
        name: Of a file of at least one page.
        folder: File descriptor of where it is.
    """
    flags = os.O_RDONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError:
        return False
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:
            return os.preadv(fd, [page], 0) == mmap.PAGESIZE
    except OSError:
        return False
    finally:
        os.close(fd)
