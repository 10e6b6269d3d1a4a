"""Free pages that CPUs keep at hand go back to where blocks are made of them.

What was freed by an eviction, or left behind by a compaction, lies in these lists first, and stays
there on a quiet CPU. The limit is lowered for some milliseconds, and what it was is recorded before
that, so that whoever stops us in between leaves something to put back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from kernelio import percpu_lists
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.meminfo import page_size

__all__ = ["Switches", "let_go"]

_LEAST_BYTES = 4 << 20


class Switches(Protocol):
    """Where it is recorded what a file held before it was changed."""

    def remember_switch(self, path: str, before: str) -> bool:
        """Record it; False where that cannot be."""

    def put_back_one(self, path: str) -> object:
        """Write it back, and forget it when that is done."""


def let_go(layout: Layout, switches: Switches, goes_on: Callable[[], bool]) -> None:
    """Empty the lists but for 1 MiB a CPU, where there is so much in them that it matters.

    A kernel that has no such limit, or that does not let go of anything, keeps its lists.

    Args:
        layout: Where the kernel shows its files.
        switches: Records the limit for as long as it is lowered.
        goes_on: Whether nobody wants us to stop.
    """
    with suppress(KernelioError):
        if percpu_lists.count_pages(layout) * page_size() < _LEAST_BYTES:
            return
        path = percpu_lists.limit_path(layout)
        if not switches.remember_switch(path, percpu_lists.read_limit(layout)):
            return
        try:
            percpu_lists.write_limit(layout, percpu_lists.SHORTEST)
            percpu_lists.shorten(layout, goes_on)
        finally:
            switches.put_back_one(path)
