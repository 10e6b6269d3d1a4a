"""How large a folio can be here: a batch of evictions overshoots by whole folios."""

from __future__ import annotations

import os
import re

from kernelio.boot import read_release
from kernelio.errors import MalformedReading, Unsupported, Vanished
from kernelio.files import read_bytes
from kernelio.layout import Layout
from kernelio.meminfo import page_size

__all__ = [
    "parse_choice",
    "parse_size",
    "read_anon_folio_bytes",
    "read_file_folio_bytes",
    "read_huge_folio_bytes",
    "read_small_anon_folio_bytes",
]

_CHOSEN = re.compile(r"\[([a-z_]+)\]")
_SIZE = re.compile(r"\d{1,19}", re.ASCII)
_SIZE_DIRECTORY = re.compile(r"hugepages-(\d{1,9})kB", re.ASCII)
_SHMEM_SMALL = ("never", "deny")
_LARGE_FOLIO_TYPES = frozenset(
    {"xfs", "btrfs", "bcachefs", "nfs", "nfs4", "cifs", "smb3", "afs", "erofs"},
)
_EXT4_SINCE = (6, 16)


def parse_choice(text: str, path: str) -> str:
    """Read which word of "always [madvise] never" is chosen.

    Raises:
        MalformedReading: None is in brackets.
    """
    chosen = _CHOSEN.search(text)
    if chosen is None:
        raise MalformedReading(path, text, "one word in brackets")
    return chosen[1]


def parse_size(text: str, path: str) -> int:
    """Read a size in bytes.

    Raises:
        MalformedReading: Not a number, or not a positive one.
    """
    line = text.strip()
    if _SIZE.fullmatch(line) is None or not int(line):
        raise MalformedReading(path, line, "a size in bytes")
    return int(line)


def read_anon_folio_bytes(layout: Layout) -> int:
    """The largest folio that anonymous memory may be given; the page size without huge pages.

    Raises:
        MalformedReading: A switch shows no choice.

    Source: Documentation/admin-guide/mm/transhuge.rst
    """
    general = _read_choice(layout, "enabled")
    if general is None:
        return page_size()
    sizes = [page_size()]
    if general != "never":
        sizes.append(_read_pmd_size(layout))
    sizes += [
        size
        for size, choice in _read_size_choices(layout)
        if choice != "never" and not (choice == "inherit" and general == "never")
    ]
    return max(sizes)


def read_small_anon_folio_bytes(layout: Layout) -> int:
    """The largest folio below a huge page that swappable memory may be given; at least a page.

    No counter tells whether a memcg has some, other than huge pages, so they count wherever they
    are allowed.

    Raises:
        MalformedReading: A switch shows no choice.

    Source: Documentation/admin-guide/mm/transhuge.rst
    """
    huge = _read_pmd_size(layout)
    sizes = [page_size()]
    for switch in ("enabled", "shmem_enabled"):
        general = _read_choice(layout, switch)
        sizes += [
            size
            for size, choice in _read_size_choices(layout, switch)
            if size < huge and (general if choice == "inherit" else choice) not in _SHMEM_SMALL
        ]
    return max(sizes)


def read_huge_folio_bytes(layout: Layout) -> int:
    """A huge page; the page size without them."""
    return _read_pmd_size(layout)


def read_file_folio_bytes(layout: Layout) -> int:
    """The largest folio of the page cache: a huge page where a mounted file system makes them.

    Raises:
        MalformedReading: A switch shows no choice.
    """
    shmem = _read_choice(layout, "shmem_enabled")
    if shmem is None and _read_choice(layout, "enabled") is None:
        return page_size()
    release = read_release(layout)
    large_ext4 = release.is_at_least(*_EXT4_SINCE)
    mounts = os.fsdecode(read_bytes(layout.proc("self/mounts"))).split("\n")
    large = any(_makes_large_folios(line, shmem, large_ext4=large_ext4) for line in mounts)
    return _read_pmd_size(layout) if large else page_size()


def _makes_large_folios(mount: str, shmem: str | None, *, large_ext4: bool) -> bool:
    match mount.split(" "):
        case [_, _, "tmpfs", options, *_]:
            huge = [word for word in options.split(",") if word.startswith("huge=")]
            allowed = shmem not in _SHMEM_SMALL if not huge else huge[0] != "huge=never"
            return allowed and shmem != "deny"
        case [_, _, "ext4", *_]:
            return large_ext4
        case [_, _, kind, *_]:
            return kind in _LARGE_FOLIO_TYPES
    return False


def _read_choice(layout: Layout, name: str) -> str | None:
    path = layout.sys(f"kernel/mm/transparent_hugepage/{name}")
    try:
        return parse_choice(os.fsdecode(read_bytes(path)), path)
    except (Unsupported, Vanished):
        return None


def _read_pmd_size(layout: Layout) -> int:
    path = layout.sys("kernel/mm/transparent_hugepage/hpage_pmd_size")
    try:
        return parse_size(os.fsdecode(read_bytes(path)), path)
    except (Unsupported, Vanished):
        return page_size()


def _read_size_choices(layout: Layout, switch: str = "enabled") -> list[tuple[int, str]]:
    """Every size below the directory (Linux 6.8; for shared memory 6.11) with its own switch."""
    try:
        names = os.listdir(layout.sys("kernel/mm/transparent_hugepage"))
    except OSError:
        return []
    found = []
    for name in names:
        size = _SIZE_DIRECTORY.fullmatch(name)
        choice = _read_choice(layout, f"{name}/{switch}") if size else None
        if size and choice:
            found.append((int(size[1]) * 1024, choice))
    return found
