"""The memory controller's files of one cgroup: amounts, events, statistics, and memory.reclaim.

Source: Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files".
"""

from __future__ import annotations

import errno
import os
import re
from typing import Final, NamedTuple

from kernelio.cgroup import parse_flat_keyed
from kernelio.errors import MalformedReading, Refused, Unsupported
from kernelio.files import meaning_of, read_bytes, read_record
from kernelio.interruptible import write_interruptibly

__all__ = [
    "UNLIMITED",
    "Limits",
    "MemoryEvents",
    "MemoryStat",
    "Protection",
    "SwapUse",
    "parse_amount",
    "parse_memory_events",
    "parse_memory_stat",
    "read_amount",
    "read_current",
    "read_limits",
    "read_memory_events",
    "read_memory_stat",
    "read_protection",
    "read_swap",
    "read_swap_current",
    "read_swap_max",
    "reclaim",
]

UNLIMITED: Final = 2**63 - 1
_AMOUNT = re.compile(rb"(?:max|(\d{1,20}))\n?")


class Protection(NamedTuple):
    """memory.min and memory.low in bytes; "max" is UNLIMITED."""

    min_bytes: int
    low_bytes: int


class Limits(NamedTuple):
    """memory.high and memory.max in bytes; None is no limit."""

    high_bytes: int | None
    max_bytes: int | None


class SwapUse(NamedTuple):
    """What is swapped out, and how much may be (None: all that there is).

    Over `high_bytes` the kernel does not stop, but throttles all that the cgroup allocates.
    """

    current_bytes: int
    max_bytes: int | None
    high_bytes: int | None = None

    @property
    def left_bytes(self) -> int | None:
        """What may still be swapped out without being refused or throttled; None is no limit."""
        limits = [limit for limit in (self.max_bytes, self.high_bytes) if limit is not None]
        return max(0, min(limits) - self.current_bytes) if limits else None


class MemoryEvents(NamedTuple):
    """How often each has happened since the cgroup was made; 0 where the kernel prints none."""

    low: int = 0
    high: int = 0
    max: int = 0
    oom: int = 0
    oom_kill: int = 0
    oom_group_kill: int = 0


class MemoryStat(NamedTuple):
    """What memory.stat says of a cgroup and all below it; 0 where the kernel prints none.

    Names ending in `_bytes` are amounts now; the others count pages since the cgroup was made.
    """

    anon_bytes: int = 0
    file_bytes: int = 0
    shmem_bytes: int = 0
    file_dirty_bytes: int = 0
    file_writeback_bytes: int = 0
    unevictable_bytes: int = 0
    slab_reclaimable_bytes: int = 0
    anon_thp_bytes: int = 0
    file_thp_bytes: int = 0
    shmem_thp_bytes: int = 0
    zswapped_bytes: int = 0
    workingset_refault_anon: int = 0
    workingset_refault_file: int = 0
    workingset_activate_file: int = 0
    workingset_restore_file: int = 0
    pgscan: int = 0
    pgsteal: int = 0
    pswpin: int = 0
    zswpin: int = 0

    @property
    def promoted_pages(self) -> int:
        """Pages that came back from swap, by the counter of this kernel that saw the most.

        workingset_refault_anon is the older one; pswpin and zswpin, which count a page whose
        shadow is lost too, are not printed by all kernels.
        """
        return max(self.workingset_refault_anon, self.pswpin + self.zswpin)


_STAT_KEYS = tuple((field, field.removesuffix("_bytes")) for field in MemoryStat._fields)


def parse_amount(text: bytes, path: str) -> int | None:
    """Parse an amount of bytes; "max" is None.

    Raises:
        MalformedReading: It is neither.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise MalformedReading(path, os.fsdecode(text), "bytes or `max`")
    return None if match[1] is None else int(match[1])


def read_amount(path: str) -> int | None:
    """Read a file that holds one amount in bytes; "max" is None.

    Raises:
        Vanished: The cgroup was removed.
        Unsupported: This kernel or this cgroup (the root) has no such file.
        MalformedReading: The file says something else.
    """
    return parse_amount(read_record(path), path)


def _read_or(path: str, missing: int | None) -> int | None:
    try:
        return read_amount(path)
    except Unsupported:
        return missing


def read_current(directory: str) -> int:
    """Read memory.current, the bytes that a cgroup and all below it use; the root has no such file.

    Raises:
        Vanished, Unsupported, MalformedReading: As read_amount.
    """
    path = f"{directory}/memory.current"
    if (amount := read_amount(path)) is None:
        raise MalformedReading(path, "max", "bytes")
    return amount


def read_protection(directory: str) -> Protection:
    """Read memory.min and memory.low; where the files are missing, as in the root, nothing is.

    Raises:
        Vanished, MalformedReading: As read_amount.
    """
    min_bytes = _read_or(f"{directory}/memory.min", 0)
    low_bytes = _read_or(f"{directory}/memory.low", 0)
    return Protection(
        UNLIMITED if min_bytes is None else min_bytes,
        UNLIMITED if low_bytes is None else low_bytes,
    )


def read_limits(directory: str) -> Limits:
    """Read memory.high and memory.max; where the files are missing there is no limit.

    Raises:
        Vanished, MalformedReading: As read_amount.
    """
    return Limits(
        _read_or(f"{directory}/memory.high", None),
        _read_or(f"{directory}/memory.max", None),
    )


def read_swap_current(directory: str) -> int:
    """Read memory.swap.current; where it is missing nothing is swapped out.

    Raises:
        Vanished, MalformedReading: As read_amount.
    """
    return _read_or(f"{directory}/memory.swap.current", 0) or 0


def read_swap_max(directory: str) -> int | None:
    """Read memory.swap.max; where it is missing there is no limit.

    Raises:
        Vanished, MalformedReading: As read_amount.
    """
    return _read_or(f"{directory}/memory.swap.max", None)


def read_swap(directory: str) -> SwapUse:
    """Read memory.swap.current, max and high; where the files are missing: none, no limit.

    Raises:
        Vanished, MalformedReading: As read_amount.
    """
    return SwapUse(
        read_swap_current(directory),
        read_swap_max(directory),
        _read_or(f"{directory}/memory.swap.high", None),
    )


def parse_memory_events(text: bytes, path: str) -> MemoryEvents:
    """Parse memory.events; keys that we do not know are passed over.

    Raises:
        MalformedReading: A line is something else.
    """
    values = parse_flat_keyed(text, path)
    return MemoryEvents(*(values.get(field, 0) for field in MemoryEvents._fields))


def read_memory_events(directory: str, *, local: bool = False) -> MemoryEvents:
    """Read how often the cgroup, and unless `local` all below it, hit its limits.

    Raises:
        Vanished, MalformedReading: As read_amount.
        Unsupported: The root has no such file.
    """
    path = f"{directory}/memory.events" + (".local" if local else "")
    return parse_memory_events(read_bytes(path), path)


def parse_memory_stat(text: bytes, path: str) -> MemoryStat:
    """Parse memory.stat; keys that we do not know are passed over.

    Raises:
        MalformedReading: A line is something else.
    """
    values = parse_flat_keyed(text, path)
    return MemoryStat(**{field: values.get(key, 0) for field, key in _STAT_KEYS})


def read_memory_stat(directory: str) -> MemoryStat:
    """Read memory.stat.

    Raises:
        Vanished, Unsupported, MalformedReading: As read_amount.
    """
    path = f"{directory}/memory.stat"
    return parse_memory_stat(read_bytes(path), path)


def reclaim(directory: str, *, bytes_: int, swappiness: int | None = None) -> bool:
    """Reclaim from a cgroup and all below it through memory.reclaim, and say if all was found.

    False is not "nothing": much of it may have been found. A kick is seen between the kernel's own
    batches only (6.1: not at all before the end), so ask for little at a time. The kernel spares
    memory.min and memory.low of what lies below, not of this cgroup itself.

    Args:
        directory: The cgroup, which may be the root.
        bytes_: How much, in bytes.
        swappiness: 0 leaves anonymous memory alone, 200 prefers it; None is the cgroup's own. From
            6.9, before that any value is refused.

    Raises:
        Interrupted: A kick broke it off; what was reclaimed until then is gone.
        Vanished: The cgroup was removed.
        Unsupported: The kernel is older than 5.19.
        Refused: It does not take this swappiness.
    """
    path = f"{directory}/memory.reclaim"
    words = b"%d" % bytes_
    if swappiness is not None:
        words += b" swappiness=%d" % swappiness
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise meaning_of(error, path) from error
    try:
        return _ask(fd, path, words)
    finally:
        os.close(fd)


def _ask(fd: int, path: str, words: bytes) -> bool:
    try:
        write_interruptibly(fd, words)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        if error.errno == errno.EINVAL:
            raise Refused(path, errno.EINVAL, f"refused `{words.decode()}`") from error
        raise meaning_of(error, path) from error
    return True
