"""Free page reporting: what the guest tells its host of free memory, and when it keeps silent.

There is no counter of reported pages. What can be read: the balloon's negotiated features, the
order from which free blocks are reported, the zones' watermarks, a flag on each free block.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kernelio.errors import KernelioError, MalformedReading, Unsupported, Vanished
from kernelio.files import meaning_of, read_bytes
from kernelio.layout import Layout
from kernelio.meminfo import page_size

__all__ = [
    "Balloon",
    "Zone",
    "balloons",
    "headroom_pages",
    "parse_zoneinfo",
    "read_order",
    "read_zoneinfo",
    "reported_bytes",
    "reported_bytes_of",
]

_BALLOON_ID = b"0x0005"  # include/uapi/linux/virtio_ids.h, VIRTIO_ID_BALLOON
_REPORTING_BIT = 5  # VIRTIO_BALLOON_F_REPORTING; sysfs prints bit 0 first
_CAPACITY = 32  # mm/page_reporting.h, PAGE_REPORTING_CAPACITY: blocks told in one go

_ZONE = re.compile(r"Node (\d{1,5}), zone\s+(\S+)", re.ASCII)
_FIGURE = re.compile(
    r"  (?:pages|     ) (free|min|low|high|spanned|managed)\s+(\d{1,20})", re.ASCII
)
_START = re.compile(r"  start_pfn:\s+(\d{1,20})", re.ASCII)

_ENTRY = 8  # /proc/kpageflags: one native 64-bit word for each page frame
_LOOKS = 4  # places looked at to tell a large block from one that ends half-way
_UPTODATE = 1 << 3  # include/uapi/linux/kernel-page-flags.h
_BUDDY = 1 << 10


class Balloon(NamedTuple):
    """One virtio balloon.

    Args:
        name: "virtio0".
        reporting: Free page reporting was negotiated with the host.
        features: Negotiated feature bits, bit 0 first.
        driver: "virtio_balloon", or None while no driver has it.
    """

    name: str
    reporting: bool
    features: str
    driver: str | None


class Zone(NamedTuple):
    """One zone's pages.

    Args:
        node: NUMA node.
        name: "DMA32", "Normal", ...
        free_pages: Free now.
        min_pages: Below it only the kernel's emergencies allocate.
        low_pages: Below it kswapd starts.
        high_pages: At it kswapd stops.
        spanned_pages: From the first page frame to the last, holes included.
        managed_pages: What the page allocator has; 0 in an empty zone.
        start_pfn: First page frame; 0 where an empty zone does not say.
    """

    node: int
    name: str
    free_pages: int
    min_pages: int
    low_pages: int
    high_pages: int
    spanned_pages: int
    managed_pages: int
    start_pfn: int


def read_order(layout: Layout) -> int | None:
    """Order from which free blocks are reported; -1 while unset, None where nothing reports.

    Raises:
        MalformedReading: The parameter is not a number.
    """
    path = layout.sys("module/page_reporting/parameters/page_reporting_order")
    try:
        text = read_bytes(path).strip()
    except (Unsupported, Vanished):
        return None
    # An unsigned parameter before Linux 5.19 printed -1 as 4294967295.
    if not re.fullmatch(rb"-?\d{1,10}", text):
        raise MalformedReading(path, os.fsdecode(text), "an order")
    order = int(text)
    return -1 if order == 0xFFFFFFFF else order  # noqa: PLR2004  # UINT_MAX


def balloons(layout: Layout) -> tuple[Balloon, ...]:
    """Find the virtio balloons, by device id: the driver may be a module not yet loaded."""
    directory = layout.sys("bus/virtio/devices")
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return ()
    found = (_balloon(f"{directory}/{name}", name) for name in names)
    return tuple(balloon for balloon in found if balloon is not None)


def _balloon(directory: str, name: str) -> Balloon | None:
    try:
        if read_bytes(f"{directory}/device").strip() != _BALLOON_ID:
            return None
        features = os.fsdecode(read_bytes(f"{directory}/features").strip())
    except KernelioError:  # unplugged while we looked
        return None
    return Balloon(
        name=name,
        reporting=features[_REPORTING_BIT : _REPORTING_BIT + 1] == "1",
        features=features,
        driver=_driver(directory),
    )


def _driver(directory: str) -> str | None:
    try:
        return os.path.basename(os.readlink(f"{directory}/driver"))
    except OSError:
        return None


def parse_zoneinfo(text: str, path: str) -> tuple[Zone, ...]:
    """Read the watermarks of every zone; node statistics and per-CPU lists are passed over.

    Raises:
        MalformedReading: A zone lacks one of its figures, or there is none.

    Source: mm/vmstat.c, zoneinfo_show_print()
    """
    zones: list[Zone] = []
    head: re.Match[str] | None = None
    figures: dict[str, int] = {}
    for line in text.split("\n"):
        if (zone := _ZONE.fullmatch(line)) is not None:
            zones += _close(head, figures, path)
            head, figures = zone, {}
        elif (figure := _FIGURE.fullmatch(line)) is not None:
            # "high" and "min" come again in no other place with this indent.
            figures.setdefault(figure[1], int(figure[2]))
        elif (start := _START.fullmatch(line)) is not None:
            figures["start_pfn"] = int(start[1])
    zones += _close(head, figures, path)
    if not zones:
        raise MalformedReading(path, text[:80], "'Node n, zone NAME'")
    return tuple(zones)


def _close(head: re.Match[str] | None, figures: dict[str, int], path: str) -> list[Zone]:
    if head is None:
        return []
    try:
        zone = Zone(
            node=int(head[1]),
            name=head[2],
            free_pages=figures["free"],
            min_pages=figures["min"],
            low_pages=figures["low"],
            high_pages=figures["high"],
            spanned_pages=figures["spanned"],
            managed_pages=figures["managed"],
            start_pfn=figures.get("start_pfn", 0),
        )
    except KeyError as missing:
        raise MalformedReading(path, head[0], f"a zone with the figure {missing}") from missing
    return [zone]


def read_zoneinfo(layout: Layout) -> tuple[Zone, ...]:
    """Read /proc/zoneinfo: sums per-CPU counters, so on demand and not in a loop.

    Raises:
        MalformedReading: As for parsing.
    """
    path = layout.proc("zoneinfo")
    return parse_zoneinfo(os.fsdecode(read_bytes(path)), path)


def headroom_pages(zone: Zone, order: int) -> int:
    """Free pages that a zone must have before the kernel reports any of them.

    Source: mm/page_reporting.c, page_reporting_process_zone()
    """
    return zone.low_pages + (_CAPACITY << order)


def reported_bytes(layout: Layout, zones: Iterable[Zone], order: int, max_order: int) -> int:
    """Free memory that the host was told of and nobody took since; whether it let go is its affair.

    A reported block is a free block whose head page is also "up to date". One 8-byte read for each
    2^order pages: about 11 ms for 24 GiB, so on demand and not on a timer.

    Args:
        layout: Where /proc is.
        zones: From `read_zoneinfo`.
        order: The reporting order, not negative.
        max_order: The largest order of a free block: one less than buddyinfo has counts.

    Raises:
        Unsupported: Not root, or a kernel without /proc/kpageflags.

    Source: mm/page_reporting.h, PageReported(); fs/proc/page.c, stable_page_flags()
    """
    populated = [zone for zone in zones if zone.managed_pages]
    with _flags(layout) as flags:
        pages = sum(_reported_pages(flags, zone, order, max_order) for zone in populated)
    return pages * page_size()


def reported_bytes_of(layout: Layout, pfns: Iterable[int], order: int, max_order: int) -> int:
    """How much of these page frames is free, and the host was told so.

    Args:
        layout: Where /proc is.
        pfns: The page frames.
        order: As for `reported_bytes`.
        max_order: The same.

    Raises:
        Unsupported: As for `reported_bytes`.
    """
    pieces: dict[int, int] = {}
    for pfn in pfns:
        piece = pfn >> order << order
        pieces[piece] = pieces.get(piece, 0) + 1
    with _flags(layout) as flags:
        pages = sum(
            count
            for piece, count in pieces.items()
            if _is_in_reported_block(flags, piece, order, max_order)
        )
    return pages * page_size()


@contextmanager
def _flags(layout: Layout) -> Iterator[_Flags]:
    path = layout.proc("kpageflags")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _Flags(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise meaning_of(error, path) from error


class _Flags(NamedTuple):
    """The flags of page frames, read one by one."""

    fd: int

    def is_reported_head(self, pfn: int) -> bool:
        return self._at(pfn) == _BUDDY | _UPTODATE

    def is_inside_a_free_block(self, pfn: int) -> bool:
        return self._at(pfn) == _BUDDY

    def _at(self, pfn: int) -> int:
        word = int.from_bytes(os.pread(self.fd, _ENTRY, pfn * _ENTRY), sys.byteorder)
        return word & (_BUDDY | _UPTODATE)


def _reported_pages(flags: _Flags, zone: Zone, order: int, max_order: int) -> int:
    pages = 0
    pfn = -(-zone.start_pfn >> order) << order
    end = zone.start_pfn + zone.spanned_pages
    while pfn < end:
        step = 1 << order
        if flags.is_reported_head(pfn):
            step <<= _doublings(flags, pfn, order, max_order)
            pages += step
        pfn += step
    return pages


def _is_in_reported_block(flags: _Flags, piece: int, order: int, max_order: int) -> bool:
    """Whether a piece of 2^order pages is a reported block, or part of a larger one."""
    for size in range(order, max_order + 1):
        head = piece >> size << size
        if flags.is_reported_head(head):
            return piece < head + (1 << order + _doublings(flags, head, order, max_order))
    return False


def _doublings(flags: _Flags, pfn: int, order: int, max_order: int) -> int:
    """How often the block at a reported head is twice 2^order pages.

    Its upper half then shows as free without a head of its own. A block of 2^order whose buddy is
    in pieces that are free wherever we look is taken for twice its size.
    """
    size = order
    while size < max_order and not pfn & (2 << size) - 1:
        upper = range(pfn + (1 << size), pfn + (2 << size))
        looked_at = (*upper[:: max(1, len(upper) // _LOOKS)], upper[-1])
        if not all(flags.is_inside_a_free_block(place) for place in looked_at):
            break
        size += 1
    return size - order
