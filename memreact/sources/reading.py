"""What the kernel says now, read for somebody who looks on; nobody else reads it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.meminfo import read_meminfo
from kernelio.process import MemoryCost
from kernelio.psi import read_guest_stall
from kernelio.swap import SwapDevice, read_swaps, read_zram, zram_name
from memreact.events import Instant
from memreact.own_cost import read_own_cost
from memreact.sources.uses import AGAIN_US
from memreact_schemas.status import GuestReading, OwnCost, SwapAreaReading

__all__ = ["GuestReader"]

_US_PER_SEC = 1_000_000


class GuestReader:
    """Reads memory, stalls, swap and what memreact costs.

    Its own memory is that of the last second, for the kernel walks all of it to say how much it is.

    Args:
        layout: Where the kernel shows its files.
        clock: Reads the moment.
    """

    def __init__(self, layout: Layout, clock: Callable[[], Instant]) -> None:
        self._layout = layout
        self._clock = clock
        self._memory: tuple[Instant, MemoryCost] | None = None

    def read(self) -> GuestReading:
        """Read it (about 2 ms).

        Raises:
            KernelioError: /proc/meminfo cannot be read.
        """
        meminfo, stall = read_meminfo(self._layout), None
        with suppress(KernelioError):
            stall = read_guest_stall(self._layout)
        return GuestReading(
            at_us=self._clock(),
            total_bytes=meminfo.total_bytes,
            free_bytes=meminfo.free_bytes,
            available_bytes=meminfo.available_bytes,
            memory_stall_us=stall.memory_us if stall else None,
            io_stall_us=stall.io_us if stall else None,
            own=self._own(),
            swap=_swap(self._layout),
        )

    def _own(self) -> OwnCost | None:
        now = self._clock()
        if self._memory is not None and now - self._memory[0] >= AGAIN_US:
            self._memory = None
        cost = read_own_cost(self._layout, self._memory and self._memory[1])
        if cost.memory is None:
            return None
        if self._memory is None:
            self._memory = now, cost.memory
        seconds = cost.user_s + cost.system_s + cost.children_user_s + cost.children_system_s
        return OwnCost(
            cpu_us=round(seconds * _US_PER_SEC),
            rss_bytes=cost.memory.rss_bytes,
            anon_bytes=cost.memory.anon_bytes,
            wake_ups=cost.wakeups,
        )


def _swap(layout: Layout) -> tuple[SwapAreaReading, ...]:
    try:
        devices = read_swaps(layout)
    except KernelioError:
        return ()
    return tuple(_area(layout, device) for device in devices)


def _area(layout: Layout, device: SwapDevice) -> SwapAreaReading:
    name, taken_bytes = zram_name(device), None
    if name is not None:
        with suppress(KernelioError):
            taken_bytes = read_zram(layout, name).used_bytes
    return SwapAreaReading(
        path=device.path,
        size_bytes=device.size_bytes,
        used_bytes=device.used_bytes,
        priority=device.priority,
        zram_taken_bytes=taken_bytes,
    )
