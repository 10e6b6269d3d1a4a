"""In what pieces the free memory of each zone lies, and from which pieces on the host is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from kernelio.buddy import read_buddyinfo
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.meminfo import page_size, read_meminfo
from kernelio.page_reporting import headroom_pages, read_order, read_zoneinfo
from kernelio.pagetypeinfo import read_movable, small_pages
from memreact.events import Fragmentation, ZoneView
from memreact.sources.pressure import read_sample

__all__ = ["USUAL_ORDER", "read_fragmentation"]

# 2 MiB in pages of 4 KiB: where the kernel does not tell from which order it reports.
USUAL_ORDER = 9


def read_fragmentation(
    layout: Layout,
    own_path: str,
    order: int | Literal["auto"],
    *,
    with_movable: bool = False,
    page_bytes: int | None = None,
) -> Fragmentation:
    """Read it now; what cannot be read is told in `failed`.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own cgroup.
        order: Of the blocks that count, or "auto" for the one that the kernel reports from.
        with_movable: Read /proc/pagetypeinfo too; never often.
        page_bytes: The size of a page, where it is not this machine's.
    """
    asked = USUAL_ORDER if order == "auto" else order
    page_bytes = page_bytes or page_size()
    pressure = read_sample(layout, own_path)
    try:
        told = read_order(layout)
        reporting = asked if told is None or told < 0 else told
        counted = reporting if order == "auto" else order
        zones = tuple(_zones(layout, reporting))
        free_bytes = read_meminfo(layout).free_bytes
    except KernelioError as error:
        return Fragmentation((), asked, 0, None, page_bytes, pressure, str(error))
    movable = _movable_small_pages(layout, counted) if with_movable else None
    return Fragmentation(zones, counted, free_bytes, movable, page_bytes, pressure)


def _zones(layout: Layout, reporting_order: int) -> Iterator[ZoneView]:
    """The zones that have pages, as both files see them."""
    counts = {(row.node, row.zone): row.counts for row in read_buddyinfo(layout)}
    for zone in read_zoneinfo(layout):
        free_by_order = counts.get((zone.node, zone.name))
        if free_by_order is None or not zone.managed_pages:
            continue
        yield ZoneView(
            node=zone.node,
            zone=zone.name,
            free_by_order=free_by_order,
            free_pages=zone.free_pages,
            low_pages=zone.low_pages,
            headroom_pages=headroom_pages(zone, reporting_order),
        )


def _movable_small_pages(layout: Layout, order: int) -> int | None:
    try:
        return small_pages(read_movable(layout), order)
    except KernelioError:
        return None
