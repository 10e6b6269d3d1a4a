"""What is said of swap on io.memreact: a disk of the host's taken into use, and given back.

Only a disk that was made for it is taken: its serial begins with `memreact-`, or the caller names
the UUID of the swap signature that is on it.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

__all__ = [
    "MARK",
    "PRIORITY_MAX",
    "SWAPOFF_SECONDS",
    "SWAPOFF_SECONDS_MAX",
    "WAIT_MS_MAX",
    "AddSwap",
    "AlreadySwap",
    "Discard",
    "ListSwap",
    "NoSuchDevice",
    "NoSuchSwap",
    "NotEnoughMemory",
    "NotForSwap",
    "NotForSwapBecause",
    "RemoveSwap",
    "SwapAdded",
    "SwapArea",
    "SwapAreas",
    "SwapRefused",
    "SwapRemoved",
    "SwapoffEnded",
    "SwapoffEndedBecause",
]

MARK = "memreact-"
PRIORITY_MAX = 32_767  # SWAP_FLAG_PRIO_MASK
WAIT_MS_MAX = 60_000
SWAPOFF_SECONDS = 60
SWAPOFF_SECONDS_MAX = 3_600  # an hour

Serial: TypeAlias = Annotated[str, Meta(pattern=f"^{MARK}[!-~]*$", max_length=20)]
PciPath: TypeAlias = Annotated[
    str, Meta(pattern=r"^[01]?[0-9a-f](\.[0-7])?(/[01]?[0-9a-f](\.[0-7])?){0,15}$")
]
Uuid: TypeAlias = Annotated[
    str, Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
]
Discard: TypeAlias = Literal["no", "once", "pages", "both"]
NotForSwapBecause: TypeAlias = Literal[
    "not_ours", "not_a_disk", "no_signature", "other_uuid", "other_pages", "too_small", "not_empty"
]
SwapoffEndedBecause: TypeAlias = Literal[
    "pressure", "memory", "deadline", "cancelled", "stopping", "killed"
]


class _Which(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Says which disk; all that is said has to be so, and something has to be.

    Args:
        serial: Of its virtio-blk, memreact-swap0 and the like.
        pci_path: Slots from the root bus down to it, in hexadecimal, as in 01/00.
        uuid: Of the swap signature on it.
    """

    serial: Serial | None = None
    pci_path: PciPath | None = None
    uuid: Uuid | None = None


class AddSwap(_Which, frozen=True, kw_only=True):
    """Take a disk into use as swap; one that is not there yet is waited for.

    Args:
        make: Write a swap signature first, with `uuid` if that is given. Only on a disk whose
            serial begins with memreact-, that holds zeros or a swap signature at its begin.
        priority: Higher ones are used first; None leaves it to the kernel, after all that have one.
        discard: What of it is discarded: all at the begin ("once"), what is free again ("pages"),
            "both" or "no"; None means "both". A disk that cannot is used without.
        wait_ms: For how long at the most to wait for it; None means as the settings say.
    """

    make: bool | None = None
    priority: Annotated[int, Meta(ge=0, le=PRIORITY_MAX)] | None = None
    discard: Discard | None = None
    wait_ms: Annotated[int, Meta(ge=0, le=WAIT_MS_MAX)] | None = None


class RemoveSwap(_Which, frozen=True, kw_only=True):
    """Take what lies in a swap area back into memory, and use it no more.

    It is refused where memory would not hold that, and broken off under pressure, at its deadline
    and when whoever asked goes away: what is not back then stays where it is, in use.

    Args:
        path: Of its device, as ListSwap tells it.
        deadline_seconds: For how long at the most; None means a minute.
    """

    path: Annotated[str, Meta(max_length=4095)] | None = None
    deadline_seconds: Annotated[int, Meta(ge=1, le=SWAPOFF_SECONDS_MAX)] | None = None


class ListSwap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ask for all swap areas in use; those who ask meanwhile are given the same answer."""


class SwapArea(Struct, frozen=True, kw_only=True):
    """One swap area in use.

    Args:
        path: As the kernel names it.
        kind: "partition", which is any device, or "file".
        size_bytes: What it can hold.
        used_bytes: What it holds.
        priority: Higher ones are used first.
        serial: Of its virtio-blk; None where it has none.
        pci_path: Of its device; None where it is on no PCI bus.
        uuid: Of its signature; None where that cannot be read.
        ours: Its serial begins with memreact-.
        lost: Its device is gone while it is in use: what lies there cannot be read any more.
    """

    path: str
    kind: str
    size_bytes: int
    used_bytes: int
    priority: int
    serial: str | None = None
    pci_path: str | None = None
    uuid: str | None = None
    ours: bool = False
    lost: bool = False


class SwapAdded(Struct, frozen=True, kw_only=True):
    """A disk is in use as swap.

    Args:
        area: As the kernel lists it.
        made: A signature was written.
        waited_us: For the disk.
        took_us: From the call on, the wait with it.
    """

    area: SwapArea
    made: bool
    waited_us: int
    took_us: int


class SwapRemoved(Struct, frozen=True, kw_only=True):
    """A swap area is in use no more, and its disk can be taken away.

    Args:
        area: As it was before.
        took_us: From the call on.
    """

    area: SwapArea
    took_us: int


class SwapAreas(Struct, frozen=True, kw_only=True):
    """All swap areas in use.

    Args:
        areas: In the kernel's order.
        available_bytes: Memory that the kernel says it could make available.
        kept_bytes: Of it, what has to stay when an area is removed.
    """

    areas: tuple[SwapArea, ...]
    available_bytes: int
    kept_bytes: int


class NoSuchDevice(Struct, frozen=True, kw_only=True):
    """There is no such disk, and none came in time.

    Args:
        wanted: In words.
        waited_us: For it.
    """

    wanted: str
    waited_us: int


class NotForSwap(Struct, frozen=True, kw_only=True):
    """The disk was not made for this; nothing was written to it.

    Args:
        path: Of the disk.
        because: "not_ours", "not_a_disk", "no_signature", "other_uuid", "other_pages", "too_small"
            or "not_empty".
        detail: What was found.
    """

    path: str
    because: NotForSwapBecause
    detail: str


class AlreadySwap(Struct, frozen=True, kw_only=True):
    """The disk is in use as swap already; nothing was changed.

    Args:
        area: As the kernel lists it.
    """

    area: SwapArea


class NoSuchSwap(Struct, frozen=True, kw_only=True):
    """No swap area in use is meant by that.

    Args:
        wanted: In words.
    """

    wanted: str


class NotEnoughMemory(Struct, frozen=True, kw_only=True):
    """Memory would not hold what lies in the area; nothing was begun.

    Args:
        path: Of its device.
        used_bytes: What lies there.
        available_bytes: Memory that the kernel says it could make available.
        kept_bytes: Of it, what has to stay.
    """

    path: str
    used_bytes: int
    available_bytes: int
    kept_bytes: int


class SwapoffEnded(Struct, frozen=True, kw_only=True):
    """It was broken off; the area is in use as before, with what was not back yet.

    Args:
        path: Of its device.
        because: "pressure", "memory", "deadline", "cancelled", "stopping" or "killed".
        back_bytes: What came back into memory.
        used_bytes: What still lies there.
        took_us: From the call on.
    """

    path: str
    because: SwapoffEndedBecause
    back_bytes: int
    used_bytes: int
    took_us: int


class SwapRefused(Struct, frozen=True, kw_only=True):
    """The kernel said no.

    Args:
        path: Of the device.
        doing: "swapon", "swapoff", or what was done to the device.
        errno: The kernel's number; 0 where there is none.
        why: The same in words.
    """

    path: str
    doing: str
    errno: int
    why: str
