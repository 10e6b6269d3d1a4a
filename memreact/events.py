"""What can happen: every event that the policy decides on, as values that can be recorded.

An event carries the readings that belong to it, in our words and units, so that a recording of the
events alone is enough to decide everything again.
"""

from __future__ import annotations

from typing import Literal, NewType

from msgspec import Struct

__all__ = [
    "AgeResult",
    "AgingEnded",
    "AnonAlone",
    "BatchEnded",
    "CapabilitiesRead",
    "ClockDisturbed",
    "CompactionEnded",
    "Event",
    "Fragmentation",
    "Generation",
    "Guard",
    "GuestPressure",
    "HarmSeen",
    "HoldAsked",
    "Inspected",
    "Inspection",
    "Instant",
    "LimitHit",
    "MemcgAppeared",
    "MemcgChanged",
    "MemcgDelays",
    "MemcgGone",
    "MemcgView",
    "NodeView",
    "Outcome",
    "PressureSample",
    "ReleaseAsked",
    "RulesChanged",
    "RunAsked",
    "SqueezeAsked",
    "SqueezeCancelled",
    "SqueezeReleased",
    "StallSeen",
    "Stopping",
    "Surveyed",
    "TimerFired",
    "ZoneView",
]

Instant = NewType("Instant", int)
"""A moment: CLOCK_MONOTONIC, microseconds."""

Outcome = Literal["done", "broken_off", "held_back", "refused", "vanished", "unsupported"]
"""How a write ended: by itself, by a kick, before it began, by a no, without its memcg."""

AnonAlone = Literal["200", "max", "after_file"]
"""How anonymous pages go alone; see CapabilitiesRead."""


class Generation(Struct, frozen=True, array_like=True):
    """One generation of one memcg on one node."""

    seq: int
    age_us: int
    anon_pages: int
    file_pages: int

    @property
    def pages(self) -> int:
        """Both kinds together."""
        return self.anon_pages + self.file_pages


class NodeView(Struct, frozen=True, array_like=True):
    """A memcg's generations on one NUMA node, oldest first."""

    node: int
    generations: tuple[Generation, ...]


class MemcgView(Struct, frozen=True):
    """What a survey saw of one memcg; totals only grow and hold its children's.

    `promoted_total_pages` came back from swap; it is not read while the guest has none.
    """

    path: str
    inode: int
    memcg_id: int
    memory_stall_us: int
    io_stall_us: int
    nodes: tuple[NodeView, ...] = ()
    current_bytes: int = 0
    promoted_total_pages: int | None = None


class GuestPressure(Struct, frozen=True):
    """Stall totals of memory and io together: the guest, memreact itself, the other top memcgs.

    None is one that could not be read: nothing is compared with it.
    """

    guest_us: int | None
    own_us: int | None = 0
    others_us: dict[str, int] = {}


class PressureSample(Struct, frozen=True):
    """Stall totals at one moment; `memcg_us` is that of the memcg at work, if one is."""

    at: Instant
    guest: GuestPressure
    memcg: str | None = None
    memcg_us: int | None = 0


class Guard(Struct, frozen=True):
    """What a memcg or an ancestor of it must keep: memory.min or low, whichever is more."""

    path: str
    current_bytes: int
    protected_bytes: int


class Inspection(Struct, frozen=True):
    """One memcg at one moment, read before and after each write to it.

    memory.stat counts shared memory as file pages, but it lives on the anonymous lists, and needs
    swap to go: `swappable_bytes` and `droppable_bytes` are the kinds as an eviction sees them.
    `swap_limit_path` is the memcg, this one or one above it, whose memory.swap.max or high leaves
    less than the guest has; None where `swap_free_bytes` is the guest's own.
    """

    path: str
    pressure: PressureSample
    guards: tuple[Guard, ...]
    anon_bytes: int
    file_bytes: int
    dirty_bytes: int
    unevictable_bytes: int
    evicted_total_pages: int
    refault_total_pages: int
    swap_free_bytes: int
    zram_stored_bytes: int = 0
    zram_used_bytes: int = 0
    folio_bytes: int = 4096
    anon_folio_bytes: int = 0
    limit_bytes: int | None = None
    frozen: bool = False
    throttled_total: int = 0
    oom_total: int = 0
    shmem_bytes: int = 0
    zram_left_bytes: int | None = None
    swap_limit_path: str | None = None

    @property
    def swappable_bytes(self) -> int:
        """What can go to swap alone."""
        return self.anon_bytes + self.shmem_bytes

    @property
    def droppable_bytes(self) -> int:
        """What goes without swap."""
        return max(0, self.file_bytes - self.shmem_bytes)


class AgeResult(Struct, frozen=True):
    """How the aging of one memcg on one node ended."""

    path: str
    node: int
    outcome: Outcome
    detail: str = ""


class CapabilitiesRead(Struct, frozen=True, tag=True):
    """What this guest can do; comes first, and again when its hardware changed.

    Args:
        page_bytes: Of one page.
        evicts: By what.
        privileged_psi: Whether triggers may have windows of any length.
        own_path: memreact's own memcg.
        boot_phase: What this boot drew, from 0 to 1, so that guests do not work all at once.
        idle_because: Why nothing is done at all.
        anon_alone: How an eviction takes anonymous pages and spares the generations that it does
            not name: by the swappiness 200, by the word `max`, or only after the file pages.
        reclaim_takes_swappiness: Whether memory.reclaim can be told to spare anonymous pages.
        compacts: Whether free memory can be gathered.
        reports: Whether anybody is told of free blocks, so that gathering them can pay.
    """

    page_bytes: int
    evicts: Literal["mglru", "memory.reclaim", "nothing"]
    privileged_psi: bool
    own_path: str
    boot_phase: float
    idle_because: str | None = None
    anon_alone: AnonAlone = "200"
    reclaim_takes_swappiness: bool = True
    compacts: bool = False
    reports: bool = True


class TimerFired(Struct, frozen=True, tag=True):
    """The one wake-up that the last step asked for is due."""


class Surveyed(Struct, frozen=True, tag=True):
    """All memcgs, read once; `failed` says why there is nothing to see.

    `out_of_reach_pages` belong to memcgs that were removed and have no id any more: before Linux
    7.0 nothing can be asked to evict them.
    """

    memcgs: tuple[MemcgView, ...]
    pressure: PressureSample
    failed: str | None = None
    out_of_reach_pages: int = 0


class Inspected(Struct, frozen=True, tag=True):
    """The reading asked for before the first write to a memcg; None when it is gone."""

    path: str
    inspection: Inspection | None
    detail: str = ""


class BatchEnded(Struct, frozen=True, tag=True):
    """One eviction write is over; `after` is None when the memcg is gone.

    `exhausted` is the kernel's own word that it found less than was asked for.
    """

    path: str
    node: int
    asked_pages: int
    outcome: Outcome
    after: Inspection | None
    took_us: int = 0
    ended_at: Instant = Instant(0)
    detail: str = ""
    exhausted: bool = False


class AgingEnded(Struct, frozen=True, tag=True):
    """A row of agings is over, or was held back before its last."""

    results: tuple[AgeResult, ...]
    pressure: PressureSample


class ZoneView(Struct, frozen=True, array_like=True):
    """In what pieces the free memory of one zone lies.

    Args:
        node: NUMA node.
        zone: "DMA32", "Normal", ...
        free_by_order: free_by_order[order] blocks of 2^order pages.
        free_pages: Free now, those on per-CPU lists too.
        low_pages: Below it the kernel reclaims by itself.
        headroom_pages: With fewer free pages the kernel reports none of this zone.
    """

    node: int
    zone: str
    free_by_order: tuple[int, ...]
    free_pages: int
    low_pages: int
    headroom_pages: int


class Fragmentation(Struct, frozen=True, tag=True):
    """In what pieces free memory lies; `failed` says why there is nothing to see.

    Args:
        zones: Those that have pages.
        order: Blocks of this order and larger are reported: what was asked for, or, of "auto", what
            the kernel says.
        memfree_bytes: Free in the whole guest.
        movable_small_pages: Free in blocks below the order, of the movable kind alone; None where
            it was not asked for or cannot be read.
        page_bytes: Of one page.
        pressure: The totals at that moment.
        failed: Why it could not be read.
    """

    zones: tuple[ZoneView, ...]
    order: int
    memfree_bytes: int
    movable_small_pages: int | None
    page_bytes: int
    pressure: PressureSample
    failed: str | None = None


class CompactionEnded(Struct, frozen=True, tag=True):
    """One node was compacted, or not to the end.

    Args:
        node: Which.
        outcome: How it ended; it is "broken_off" by a stop and by its last moment alike.
        took_us: From the start of the child to its end.
        migrated_pages: Moved meanwhile in the whole guest, by whomever.
        after: Read then, by what the Compact asked for; None where nobody did.
        detail: Why it was refused.
    """

    node: int
    outcome: Outcome
    took_us: int = 0
    migrated_pages: int = 0
    after: Fragmentation | None = None
    detail: str = ""


class StallSeen(Struct, frozen=True, tag=True):
    """A trigger fired, or a pause is being looked at: the exact totals of now."""

    pressure: PressureSample
    trigger: str | None = None


class LimitHit(Struct, frozen=True, tag=True):
    """Counters of memory.events that grew while work ran on or above this memcg."""

    path: str
    high: int = 0
    max: int = 0
    oom: int = 0


class MemcgDelays(Struct, frozen=True):
    """What the processes of a memcg waited between two readings; None is not said by this kernel.

    Args:
        path: The memcg, without those below it.
        processes: How many there are.
        gone: How many ended meanwhile, with what they waited last.
        reclaim_us: For memory to be reclaimed.
        swap_in_us: For swapped-out memory to come back.
        thrashing_us: For memory that had been in use when it was evicted, from swap too.
        compact_us: For memory to be compacted.
        block_io_us: For disks.
    """

    path: str
    processes: int
    gone: int
    reclaim_us: int | None
    swap_in_us: int
    thrashing_us: int | None
    compact_us: int | None
    block_io_us: int


class HarmSeen(Struct, frozen=True, tag=True):
    """Who waited for memory since work began until after it was broken off, the worst first.

    Args:
        since: The moment of the reading before it.
        at: The moment of the one after it.
        memcgs: Those that were hurt, a few of them.
        left_out: Processes that were too many to ask about.
    """

    since: Instant
    at: Instant
    memcgs: tuple[MemcgDelays, ...]
    left_out: int = 0


class MemcgAppeared(Struct, frozen=True, tag=True):
    """A memcg exists that did not, or at start."""

    path: str
    inode: int
    populated: bool = True
    frozen: bool = False


class MemcgChanged(Struct, frozen=True, tag=True):
    """A memcg became empty, populated, frozen or thawed."""

    path: str
    populated: bool
    frozen: bool


class MemcgGone(Struct, frozen=True, tag=True):
    """A memcg was removed."""

    path: str


class RulesChanged(Struct, frozen=True, tag=True):
    """Other rules are in force from this step on."""

    revision: int


class HoldAsked(Struct, frozen=True, tag=True):
    """An operator wants nothing to be done until then; a day at the most."""

    until: Instant
    by: str
    reason: str = ""


class ReleaseAsked(Struct, frozen=True, tag=True):
    """An operator ends such a hold."""

    by: str


class RunAsked(Struct, frozen=True, tag=True):
    """An operator wants a turn now: of everything, or of one memcg and those below it."""

    path: str | None
    by: str


class SqueezeAsked(Struct, frozen=True, tag=True):
    """An operator wants so much more to be reportable, now.

    Args:
        target_pages: Pages that are to become reportable; None for all that is cold.
        deadline: When it ends at the latest.
        path: Of the memcg that it is for, with those below it.
        by: Who asked.
        hold_us: For so long from now on no less is to be reportable; 0 to let go at its end.
    """

    target_pages: int | None
    deadline: Instant
    path: str
    by: str
    hold_us: int = 0


class SqueezeCancelled(Struct, frozen=True, tag=True):
    """Whoever asked for the squeeze wants it no more, or is gone."""

    by: str


class SqueezeReleased(Struct, frozen=True, tag=True):
    """An operator wants nothing to be kept any more."""

    by: str


class ClockDisturbed(Struct, frozen=True, tag=True):
    """Time or memory jumped under us: suspend, clock step, restored snapshot, memory hot-plug."""

    cause: str


class Stopping(Struct, frozen=True, tag=True):
    """The daemon ends: nothing new begins."""


Event = (
    CapabilitiesRead
    | TimerFired
    | Surveyed
    | Inspected
    | BatchEnded
    | AgingEnded
    | Fragmentation
    | CompactionEnded
    | StallSeen
    | LimitHit
    | HarmSeen
    | MemcgAppeared
    | MemcgChanged
    | MemcgGone
    | RulesChanged
    | HoldAsked
    | ReleaseAsked
    | RunAsked
    | SqueezeAsked
    | SqueezeCancelled
    | SqueezeReleased
    | ClockDisturbed
    | Stopping
)
