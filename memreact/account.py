"""What a reading of the guest's whole memory holds: taken at the edge, and reckoned with elsewhere.

All of it is bytes.
"""

from __future__ import annotations

from memreact.events import Instant
from memreact.value import Struct

__all__ = ["Account", "ZoneAccount"]


class ZoneAccount(Struct, frozen=True):
    """The free memory of one zone.

    Args:
        free_by_order: Free in blocks of 2^index pages.
        reported_bytes: Of it, what the host was told of; None where that cannot be read.
        enough_free: It is over the watermark below which the kernel reports nothing of a zone.
    """

    free_by_order: tuple[int, ...]
    reported_bytes: int | None
    enough_free: bool

    @property
    def free_bytes(self) -> int:
        """All of it."""
        return sum(self.free_by_order)


class Account(Struct, frozen=True):
    """The memory of a guest at one moment.

    Args:
        at: The moment.
        total_bytes: What its kernel has to give.
        negotiated: A balloon reports free pages to the host.
        order: From which on; None where nothing reports, -1 where that is not set.
        usual_order: Which it would be, had nobody set it; None where the kernel does not tell.
        zones: Those that have memory.
        anon_bytes: Anonymous.
        cached_bytes: Page cache, with shared memory, and what swap keeps besides.
        shmem_bytes: Shared memory and tmpfs.
        dirty_bytes: To be written back first.
        unevictable_bytes: Locked by mlock, or otherwise for good.
        pinned_bytes: Held for devices, as far as the kernel counts it.
        reclaimable_slab_bytes: Caches of the kernel that it could give up.
        protected_bytes: Under memory.min and memory.low of the topmost cgroups.
        swap_free_bytes: Where anonymous memory could go.
    """

    at: Instant
    total_bytes: int
    negotiated: bool
    order: int | None
    usual_order: int | None
    zones: tuple[ZoneAccount, ...]
    anon_bytes: int = 0
    cached_bytes: int = 0
    shmem_bytes: int = 0
    dirty_bytes: int = 0
    unevictable_bytes: int = 0
    pinned_bytes: int = 0
    reclaimable_slab_bytes: int = 0
    protected_bytes: int = 0
    swap_free_bytes: int = 0

    @property
    def free_bytes(self) -> int:
        """Free, in blocks of whatever size."""
        return sum(zone.free_bytes for zone in self.zones)

    @property
    def reported_bytes(self) -> int | None:
        """Free, and the host was told so; None where that cannot be read."""
        total = 0
        for zone in self.zones:
            if zone.reported_bytes is None:
                return None
            total += zone.reported_bytes
        return total
