"""The cgroup v2 tree: where it is mounted, what is in it, who is in a cgroup.

Source: Documentation/admin-guide/cgroup-v2.rst; proc_pid_mountinfo(5) and cgroups(7).
"""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

from kernelio.errors import KernelioError, MalformedReading, Unsupported, Vanished
from kernelio.files import meaning_of, read_bytes
from kernelio.layout import Layout

__all__ = [
    "DEPTH_MAX",
    "MEMCGS_MAX",
    "PATH_BYTES_MAX",
    "CgroupEvents",
    "Mount",
    "MountLine",
    "ancestors",
    "children",
    "find_cgroup2",
    "has_memory",
    "has_v1_memory",
    "inode",
    "own_path",
    "parse_cgroup_events",
    "parse_flat_keyed",
    "parse_mountinfo",
    "read_cgroup_events",
    "read_procs",
    "walk",
    "within_bounds",
]

# Anybody with a delegated cgroup can make more, deeper and longer ones than we have memory for: all
# that memreact remembers of 10,000 took 65 MB with short paths, 85 MB with the longest.
MEMCGS_MAX = 10_000
PATH_BYTES_MAX = 1024
DEPTH_MAX = 64
_PATH_SIZE_MAX = sys.getsizeof("/" * PATH_BYTES_MAX)

_FLAT = re.compile(rb"([!-~]{1,64}) (\d{1,20})")
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
_NUMBER = re.compile(rb"\d{1,10}")


class Mount(NamedTuple):
    """Where cgroup v2 is mounted, without the layout's root, and what its root group controls."""

    path: str
    controllers: frozenset[str]


class CgroupEvents(NamedTuple):
    """Whether there is a live process in the cgroup or below, and whether it is frozen."""

    populated: bool
    frozen: bool


class MountLine(NamedTuple):
    """One line of mountinfo, unescaped.

    Args:
        shown: The directory of the file system that is seen at the mount point; "/" is all of it.
        path: The mount point.
        kind: The file system's type.
        options: The file system's own options; version 1 names its controllers here.
    """

    shown: str
    path: str
    kind: str
    options: tuple[str, ...]


def parse_flat_keyed(text: bytes, path: str) -> dict[str, int]:
    """Parse what cgroup-v2.rst calls a flat keyed file: `KEY VALUE` in each line.

    Raises:
        MalformedReading: A line is something else.
    """
    values: dict[str, int] = {}
    for line in text.splitlines():
        match = _FLAT.fullmatch(line)
        if match is None:
            raise MalformedReading(path, os.fsdecode(line), "`KEY VALUE`")
        values[match[1].decode()] = int(match[2])
    return values


def find_cgroup2(layout_root: str = "") -> Mount | None:
    """Find the cgroup v2 tree; None where only version 1 is mounted.

    Of several mounts it is one whose root controls memory, else the first: on a hybrid system the
    tree is there without memory. A mount of a part of the tree is left aside.

    Raises:
        MalformedReading: mountinfo says something else.
        Unsupported: There is no mountinfo.
    """
    mounts = [
        Mount(line.path, _read_controllers(layout_root + line.path))
        for line in _read_mounts(layout_root)
        if line.kind == "cgroup2" and line.shown == "/"
    ]
    with_memory = [mount for mount in mounts if "memory" in mount.controllers]
    return next(iter(with_memory + mounts), None)


def has_v1_memory(root: str = "") -> bool:
    """Tell whether version 1 holds the memory controller, so that version 2 cannot have it."""
    return any(line.kind == "cgroup" and "memory" in line.options for line in _read_mounts(root))


def _read_controllers(directory: str) -> frozenset[str]:
    try:
        text = read_bytes(f"{directory}/cgroup.controllers")
    except (Unsupported, Vanished):  # another mount may lie over this one
        return frozenset()
    return frozenset(os.fsdecode(text).split())


def _read_mounts(root: str) -> list[MountLine]:
    path = f"{root}/proc/self/mountinfo"
    return parse_mountinfo(read_bytes(path, fixed=True), path)


def parse_mountinfo(text: bytes, path: str) -> list[MountLine]:
    """Parse mountinfo.

    Raises:
        MalformedReading: A line is something else.
    """
    return [_parse_mount(line, path) for line in text.split(b"\n") if line]


def _parse_mount(line: bytes, path: str) -> MountLine:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    place, separator, what = line.partition(b" - ")
    words, kinds = place.split(b" "), what.split(b" ")
    if not separator or len(words) < 6 or len(kinds) < 3:  # noqa: PLR2004  # see the line above
        raise MalformedReading(path, os.fsdecode(line), "a line of mountinfo")
    options = os.fsdecode(kinds[-1]).split(",")
    return MountLine(
        _unescaped(words[3]), _unescaped(words[4]), os.fsdecode(kinds[0]), tuple(options)
    )


def _unescaped(text: bytes) -> str:
    # Blank, tab, newline, # and the backslash itself come as octal numbers.
    return os.fsdecode(_OCTAL.sub(lambda match: bytes((int(match[1], 8),)), text))


def own_path(root: str = "") -> str:
    """Tell which cgroup this process is in, as a path from the v2 root.

    Raises:
        Unsupported: cgroup v2 is not mounted, nor was it ever.
        MalformedReading: The file says something else.
    """
    path = f"{root}/proc/self/cgroup"
    for line in read_bytes(path, fixed=True).rstrip(b"\n").split(b"\n"):
        hierarchy, _, rest = line.partition(b":")
        controllers, separator, cgroup = rest.partition(b":")
        if not separator or not cgroup.startswith(b"/"):
            raise MalformedReading(path, os.fsdecode(line), "`ID:CONTROLLERS:PATH`")
        if (hierarchy, controllers) == (b"0", b""):
            return os.fsdecode(cgroup)
    raise Unsupported(path, "no cgroup v2 in this kernel")


def walk(
    layout: Layout, *, names: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, int]]:
    """Go through the memcgs, level by level from the root, giving each one's path and inode.

    The tree may change meanwhile: what vanishes is passed over, what appears may be missed, so
    watch a directory before walking it. What cannot be read is passed over too, with what is below
    it, and so is what is out of bounds. No fd is held while the caller has its turn.

    Args:
        layout: Where the kernel shows its files.
        names: Paths to give as the very objects that are kept here, so that they are held once.

    Raises:
        Unsupported: There is no tree at layout.cgroup_root.
        KernelioError: The root cannot be read.
    """
    top = layout.cgroup_root
    try:
        yield "/", inode(top)
    except Vanished as error:
        raise Unsupported(top, "no cgroup tree here") from error
    below, given, waiting = children(top), 1, deque([""])
    while waiting:
        parent = waiting.popleft()
        if parent:
            below = _children_if_readable(top + parent)
        for name, number in below:
            path = f"{parent}/{name}"
            if not within_bounds(path) or not _is_memcg(top + path):
                continue
            if given == MEMCGS_MAX:
                return
            given += 1
            waiting.append(path := names.get(path, path))
            yield path, number


def _children_if_readable(directory: str) -> list[tuple[str, int]]:
    with suppress(KernelioError):
        return children(directory)
    return []


def _is_memcg(directory: str) -> bool:
    with suppress(KernelioError):
        return has_memory(directory)
    return False


def within_bounds(path: str) -> bool:
    """Tell whether a path is one that a person or a program made for use, not to exhaust us.

    What it takes in memory counts: one letter outside of Latin-1 doubles or quadruples it.
    """
    return path.count("/") <= DEPTH_MAX and sys.getsizeof(path) <= _PATH_SIZE_MAX


def has_memory(directory: str) -> bool:
    """Tell whether a cgroup below the root has the memory controller; if not, none below it has.

    Raises:
        KernelioError: It cannot be told.
    """
    try:
        os.stat(f"{directory}/memory.current")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise meaning_of(error, directory) from error
    return True


def children(directory: str) -> list[tuple[str, int]]:
    """List a cgroup's direct children by name and inode; none where it vanished meanwhile.

    Of very many it is MEMCGS_MAX.

    Raises:
        Unsupported: The directory may not be read.
        Refused: There was no memory, or no fd, to read it with.
    """
    try:
        with os.scandir(directory) as entries:
            directories = (e for e in entries if e.is_dir(follow_symlinks=False))
            return [(e.name, e.inode()) for e in islice(directories, MEMCGS_MAX)]
    except OSError as error:
        meaning = meaning_of(error, directory)
        if isinstance(error, FileNotFoundError) or isinstance(meaning, Vanished):
            return []
        raise meaning from error


def inode(directory: str) -> int:
    """Tell a cgroup's inode number: one recreated under the same name has another.

    Raises:
        Vanished: It was removed.
    """
    try:
        return os.stat(directory).st_ino
    except FileNotFoundError as error:
        raise Vanished(directory) from error
    except OSError as error:
        raise meaning_of(error, directory) from error


def parse_cgroup_events(text: bytes, path: str) -> CgroupEvents:
    """Parse cgroup.events; kernels before 5.2 print no `frozen`.

    Raises:
        MalformedReading: A line is something else, or `populated` is not there.
    """
    values = parse_flat_keyed(text, path)
    if "populated" not in values:
        raise MalformedReading(path, os.fsdecode(text), "`populated 0|1`")
    return CgroupEvents(bool(values["populated"]), bool(values.get("frozen", 0)))


def read_cgroup_events(directory: str) -> CgroupEvents:
    """Read cgroup.events; the root group has none: it is populated and cannot be frozen.

    Raises:
        Vanished: The cgroup was removed.
    """
    path = f"{directory}/cgroup.events"
    try:
        text = read_bytes(path)
    except Unsupported:
        return CgroupEvents(populated=True, frozen=False)
    return parse_cgroup_events(text, path)


def read_procs(directory: str) -> tuple[int, ...]:
    """Read the pids of the processes in the cgroup itself; 0 is one outside our pid namespace.

    Raises:
        Vanished: The cgroup was removed.
        Unsupported: It is a threaded cgroup.
        MalformedReading: The file says something else.
    """
    path = f"{directory}/cgroup.procs"
    pids = read_bytes(path).splitlines()
    for pid in pids:
        if _NUMBER.fullmatch(pid) is None:
            raise MalformedReading(path, os.fsdecode(pid), "a pid")
    return tuple(map(int, pids))


def ancestors(path: str) -> tuple[str, ...]:
    """List a cgroup's path and those of all above it, up to "/"."""
    layers = []
    while path not in ("", "/"):
        layers.append(path)
        path = path.rpartition("/")[0]
    return (*layers, "/")
