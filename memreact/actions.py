"""What can be done: the policy's answers, carried out by the actuator and the sources."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = [
    "Action",
    "Age",
    "AgeTarget",
    "Arm",
    "Because",
    "BreakOff",
    "Compact",
    "Decision",
    "Disarm",
    "Evict",
    "Inspect",
    "ReadCapabilities",
    "ReadFragmentation",
    "ReadPressure",
    "Reclaim",
    "Survey",
    "Trigger",
]


class Because(Struct, frozen=True):
    """Why: a code that never changes its meaning, and the figures behind it, units in the names."""

    code: str
    saw: dict[str, int | str] = {}


class Decision(Struct, frozen=True):
    """What was decided about one memcg (and node), or about the guest where `path` is empty."""

    verdict: str
    because: Because
    path: str = ""
    node: int | None = None


class Trigger(Struct, frozen=True, array_like=True):
    """One PSI trigger: it fires at `stall_us` of stall within `window_us`."""

    stall_us: int
    window_us: int


class AgeTarget(Struct, frozen=True, array_like=True):
    """One aging write; `max_seq` is the youngest generation when the survey read it."""

    path: str
    inode: int
    memcg_id: int
    node: int
    max_seq: int
    can_swap: bool


class Survey(Struct, frozen=True, tag=True):
    """Read every memcg's generations and stall totals, once."""


class Inspect(Struct, frozen=True, tag=True):
    """Read one memcg closely, before the first write to it."""

    path: str


class Evict(Struct, frozen=True, tag=True):
    """Write one eviction: generations up to `seq`, at most about `pages`."""

    path: str
    inode: int
    memcg_id: int
    node: int
    seq: int
    swappiness: int
    pages: int


class Reclaim(Struct, frozen=True, tag=True):
    """Write one request to memory.reclaim; the rung below Evict."""

    path: str
    inode: int
    pages: int
    page_bytes: int
    swappiness: int


class Age(Struct, frozen=True, tag=True):
    """Age these, one after the other, until held back."""

    targets: tuple[AgeTarget, ...]


class ReadFragmentation(Struct, frozen=True, tag=True):
    """Read in what pieces free memory lies; answered by Fragmentation.

    Args:
        order: Of the blocks that count, or "auto" for the one that the kernel reports from.
        with_movable: Look at /proc/pagetypeinfo too, which walks free lists under the zones' lock.
        let_go: Have the CPUs let go of free pages that they keep at hand, before it is read.
    """

    order: int | Literal["auto"]
    with_movable: bool = False
    let_go: bool = False


class Compact(Struct, frozen=True, tag=True):
    """Gather the free memory of one node, in a child of its own; answered by CompactionEnded.

    Args:
        node: Which.
        ends_by: The moment at which it is broken off: CLOCK_MONOTONIC, microseconds.
        order: As for ReadFragmentation, for the reading after it.
        with_movable: The same.
        let_go: The same, before it begins and when it has ended.
    """

    node: int
    ends_by: int
    order: int | Literal["auto"] = "auto"
    with_movable: bool = False
    let_go: bool = False


class Arm(Struct, frozen=True, tag=True):
    """Arm triggers on memory and io pressure of a memcg, or of the guest where `path` is empty."""

    path: str
    triggers: tuple[Trigger, ...]


class Disarm(Struct, frozen=True, tag=True):
    """Close a memcg's triggers, or the guest's where `path` is empty."""

    path: str


class ReadPressure(Struct, frozen=True, tag=True):
    """Read the exact totals now; answered by StallSeen."""

    path: str | None = None


class BreakOff(Struct, frozen=True, tag=True):
    """End the write that is under way, inside the kernel, or the compaction with its child."""


class ReadCapabilities(Struct, frozen=True, tag=True):
    """Find out again what this guest can do."""


Action = (
    Survey
    | Inspect
    | Evict
    | Reclaim
    | Age
    | ReadFragmentation
    | Compact
    | Arm
    | Disarm
    | ReadPressure
    | BreakOff
    | ReadCapabilities
)
