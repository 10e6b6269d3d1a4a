"""/proc/PID/smaps of a virtual machine's process: how much of its guest's memory the host holds.

The process's own total also counts the monitor's code, buffers and translated instructions, which
misleads by hundreds of MiB: what counts are the mappings that are the guest's memory.

Source: Documentation/filesystems/proc.rst, "smaps"
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Held", "Mapping", "NoGuestMemory", "guest_memory", "parse_smaps"]

_HEAD = re.compile(r"[0-9a-f]+-[0-9a-f]+ [-rwxsp]{4} .*", re.ASCII)
_FIGURE = re.compile(
    r"(Size|Rss|Pss|Swap|Private_Hugetlb|Shared_Hugetlb): +(\d{1,18}) kB", re.ASCII
)


class NoGuestMemory(Exception):  # noqa: N818  # reads as what happened
    """No mapping can be a guest's memory."""


class Mapping(NamedTuple):
    """One mapping of a process, bytes.

    Args:
        size_bytes: Of the address range.
        rss_bytes: In the host's memory.
        pss_bytes: The same, with what several processes share counted in part.
        swap_bytes: Swapped out by the host.
    """

    size_bytes: int
    rss_bytes: int = 0
    pss_bytes: int = 0
    swap_bytes: int = 0


class Held(NamedTuple):
    """A guest's memory, as its host sees it; the sums of its mappings."""

    size_bytes: int
    rss_bytes: int
    pss_bytes: int
    swap_bytes: int


def parse_smaps(text: str) -> tuple[Mapping, ...]:
    """Read every mapping; figures that are not needed are passed over."""
    return tuple(_mappings(text))


def _mappings(text: str) -> Iterator[Mapping]:
    figures: dict[str, int] | None = None
    for line in text.split("\n"):
        if _HEAD.fullmatch(line):
            if figures is not None:
                yield _mapping(figures)
            figures = {}
        elif figures is not None and (found := _FIGURE.fullmatch(line)):
            figures[found[1]] = int(found[2]) << 10
    if figures is not None:
        yield _mapping(figures)


def _mapping(figures: dict[str, int]) -> Mapping:
    # The kernel counts memory of hugetlbfs in none of the others.
    huge = figures.get("Private_Hugetlb", 0) + figures.get("Shared_Hugetlb", 0)
    rss, pss = figures.get("Rss", 0) + huge, figures.get("Pss", 0) + huge
    return Mapping(figures.get("Size", 0), rss, pss, figures.get("Swap", 0))


def guest_memory(
    mappings: Sequence[Mapping], sizes: Sequence[int] = (), total_bytes: int | None = None
) -> Held:
    """Add up the mappings that are the guest's memory.

    Args:
        mappings: Of the process.
        sizes: Of the memory's parts, where the monitor tells them: mappings of exactly these
            sizes are meant.
        total_bytes: Otherwise the largest mappings that make up so much are; without it, the
            largest alone.

    Raises:
        NoGuestMemory: There is no mapping at all.
    """
    chosen = _of_sizes(mappings, sizes) or _largest(mappings, total_bytes or sum(sizes))
    if not chosen:
        raise NoGuestMemory("the process has no memory mapped (root may read that)")
    return Held(*(sum(figures) for figures in zip(*chosen, strict=True)))


def _of_sizes(mappings: Sequence[Mapping], sizes: Sequence[int]) -> list[Mapping]:
    """One mapping for each size, or none at all."""
    left, chosen = list(mappings), []
    for size in sizes:
        found = next((each for each in left if each.size_bytes == size), None)
        if found is None:
            return []
        left.remove(found)
        chosen.append(found)
    return chosen


def _largest(mappings: Sequence[Mapping], total_bytes: int) -> list[Mapping]:
    chosen: list[Mapping] = []
    for each in sorted(mappings, key=lambda mapping: -mapping.size_bytes):
        if chosen and sum(mapping.size_bytes for mapping in chosen) >= total_bytes:
            break
        chosen.append(each)
    return chosen
