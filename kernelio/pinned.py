"""/proc/vmstat: pages that the kernel holds in place for devices."""

from __future__ import annotations

from kernelio.cgroup import parse_flat_keyed
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = ["read_pinned_pages"]


def read_pinned_pages(layout: Layout) -> int:
    """Pages that are pinned now; 0 on kernels that do not count them (before Linux 5.7).

    A page that is pinned twice counts twice.

    Raises:
        MalformedReading: A line is not "name number".

    Source: Documentation/core-api/pin_user_pages.rst, "Unit testing"
    """
    path = layout.proc("vmstat")
    values = parse_flat_keyed(read_bytes(path), path)
    taken, given = values.get("nr_foll_pin_acquired", 0), values.get("nr_foll_pin_released", 0)
    return max(0, taken - given)
