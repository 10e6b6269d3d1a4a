"""Takes disks into use as swap, and gives them back; on a thread of its own for each call.

Nothing here is quick: a disk is waited for, swapon may discard all of it, and swapoff reads back
what lies there. So a call is an errand, which whoever asked can call back.
"""

from __future__ import annotations

import errno
import os
import queue
import stat
from contextlib import suppress
from typing import NamedTuple

from msgspec import Struct

from kernelio.block import BlockDevice, open_disk
from kernelio.errors import KernelioError, Refused, Vanished
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from kernelio.swap import SwapDevice, read_swaps, swap_on
from kernelio.swap_header import (
    SwapHeader,
    is_blank,
    make_swap_header,
    parse_swap_header,
    parse_uuid,
    read_begin,
    write_header,
)
from memreact.actuator.swap_disks import Wanted, area_of, find_disk, is_ours
from memreact.events import Instant
from memreact.sources.pressure import now_us
from memreact.swap_trouble import SwapTrouble
from memreact_schemas import swap
from memreact_schemas.swap import Discard, NotForSwapBecause, SwapAdded, SwapArea

__all__ = [
    "Adding",
    "CalledBack",
    "Errand",
    "add_swap",
    "is_swap_path",
    "refused",
    "wanted_by_path",
]

_US_PER_SEC = 1_000_000


class CalledBack(Exception):  # noqa: N818  # reads as what happened
    """Whoever asked is gone, or the daemon ends."""


class Errand:
    """What the loop and the thread of one call have between them."""

    def __init__(self) -> None:
        self.called_back = False
        self.stopping = False
        self.taking = False
        """A disk was found, and whoever asked has their answer in a moment."""

        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def tell(self) -> None:
        """Something happened to a disk: look again."""
        self._news.put(None)

    def call_back(self, *, stopping: bool = False) -> None:
        """End it as soon as that is possible.

        Args:
            stopping: Because the daemon ends.
        """
        self.stopping |= stopping
        self.called_back = True
        self.tell()

    def wait(self, timeout_us: int) -> None:
        """Wait for news, for so long at the most.

        Raises:
            CalledBack: There is no need to go on.
        """
        with suppress(queue.Empty):
            self._news.get(timeout=max(0, timeout_us) / _US_PER_SEC)
        self.go_on()

    def go_on(self) -> None:
        """Go on, unless it was called back.

        Raises:
            CalledBack: It was.
        """
        if self.called_back:
            raise CalledBack


class Adding(NamedTuple):
    """What is to become swap, and how.

    Args:
        wanted: Which disk.
        make: Write a signature first.
        priority: Higher ones are used first; None leaves it to the kernel.
        discard: What is discarded.
        wait_us: For how long a disk is waited for.
        by_place: Whatever disk is plugged in there will do, if it has a signature: Kata's own has
            no other name.
    """

    wanted: Wanted
    make: bool = False
    priority: int | None = None
    discard: Discard = "both"
    wait_us: int = 0
    by_place: bool = False


def add_swap(layout: Layout, adding: Adding, errand: Errand, began: Instant) -> SwapAdded:
    """Take a disk into use as swap.

    Args:
        layout: Where the kernel shows its files.
        adding: Which, and how.
        errand: Told of each event of a disk from before now on, so that none comes unseen.
        began: When it was asked for.

    Raises:
        SwapTrouble: It cannot be done.
        CalledBack: It was called back; nothing is in use that was not.
    """
    while True:
        disk = _waited_for(layout, adding, errand, began)
        waited_us = now_us() - began
        errand.taking = True
        try:
            header, device = _taken(layout, adding, errand, disk)
        except Vanished as error:
            # sysfs shows it before it has a node, and still when it has none any more.
            left_us = began + adding.wait_us - now_us()
            if left_us <= 0:
                raise refused(disk.path, "opening it", error) from error
            errand.taking = False
            errand.wait(left_us)
        except KernelioError as error:
            raise refused(disk.path, "opening it", error) from error
        else:
            area = area_of(device, disk, header.uuid)
            took_us = now_us() - began
            return SwapAdded(area=area, made=adding.make, waited_us=waited_us, took_us=took_us)


def _waited_for(layout: Layout, adding: Adding, errand: Errand, began: Instant) -> BlockDevice:
    gives_up_at = began + adding.wait_us
    while True:
        try:
            disk = find_disk(layout, adding.wanted)
        except KernelioError as error:
            raise refused(error.path, "looking for disks", error) from error
        if disk is not None:
            return disk
        left_us = gives_up_at - now_us()
        if left_us <= 0:
            waited_us = now_us() - began
            wanted = adding.wanted.in_words
            answer = swap.NoSuchDevice(wanted=wanted, waited_us=waited_us)
            after = f"after {waited_us / _US_PER_SEC:.1f} s"
            raise SwapTrouble(answer, f"there is no virtio disk with {wanted} {after}")
        errand.wait(left_us)


def wanted_by_path(layout: Layout, path: str) -> Wanted:
    """Name the disk that a path leads to; by what it is called, that one may be taken or not.

    Raises:
        SwapTrouble: Nothing is there, or no whole virtio disk.
    """
    try:
        found = os.stat(layout.root + path)
    except (OSError, ValueError) as error:
        answer: Struct = swap.NoSuchDevice(wanted=f"path {path}", waited_us=0)
        raise SwapTrouble(answer, f"there is no disk {path}") from error
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    name = os.path.basename(os.path.realpath(layout.sys(f"dev/block/{number}")))
    wanted = Wanted(path=f"/dev/{name}")
    if not stat.S_ISBLK(found.st_mode) or find_disk(layout, wanted) is None:
        why = "it is no whole virtio disk"
        answer = swap.NotForSwap(path=path, because="not_a_disk", detail=why)
        raise SwapTrouble(answer, f"{path} is not taken: {why}")
    return wanted


def is_swap_path(device: SwapDevice, name: str) -> bool:
    """Whether an area is the disk of that name.

    The kernel names it as it was found where swapon was called, and once that mount namespace is
    gone, without the /dev.
    """
    whole = device.kind == "partition" and not device.deleted
    return whole and os.path.basename(device.path) == name


def _in_use(layout: Layout, disk: BlockDevice) -> SwapDevice | None:
    return next((each for each in read_swaps(layout) if is_swap_path(each, disk.name)), None)


def _prepared(layout: Layout, adding: Adding, disk: BlockDevice) -> SwapHeader:
    """See to it that the disk is for us and has a signature; returns that."""
    device = _in_use(layout, disk)
    if device is not None:
        raise _already(area_of(device, disk, None))
    uuid, ours = adding.wanted.uuid, is_ours(disk)
    if not (ours or adding.by_place or (uuid and not adding.make)):
        why = f"its serial {disk.serial!r} does not begin with {swap.MARK}"
        raise _not_for_swap(disk, "not_ours", why)
    header = _made(layout, adding, disk) if adding.make else _found(layout, disk)
    if uuid is not None and header.uuid != uuid:
        raise _not_for_swap(disk, "other_uuid", f"its signature has the UUID {header.uuid}")
    if header.page_bytes != page_size():
        why = f"its signature is for pages of {header.page_bytes} bytes, not of {page_size()}"
        raise _not_for_swap(disk, "other_pages", why)
    if header.size_bytes > disk.size_bytes:
        why = f"its signature speaks of {header.size_bytes} bytes, and it has {disk.size_bytes}"
        raise _not_for_swap(disk, "too_small", why)
    return header


def _taken(
    layout: Layout, adding: Adding, errand: Errand, disk: BlockDevice
) -> tuple[SwapHeader, SwapDevice]:
    header = _prepared(layout, adding, disk)
    errand.go_on()
    return header, _switched_on(layout, adding, disk)


def _found(layout: Layout, disk: BlockDevice) -> SwapHeader:
    fd = open_disk(layout, disk)
    try:
        begin = read_begin(fd, disk.path)
    finally:
        os.close(fd)
    header = parse_swap_header(begin, disk.path)
    if header is None:
        found = "zeros" if is_blank(begin) else "something else"
        raise _not_for_swap(disk, "no_signature", f"at its begin are {found}")
    return header


def _made(layout: Layout, adding: Adding, disk: BlockDevice) -> SwapHeader:
    """Write a signature over zeros or another signature, while nobody else has the disk."""
    fd = open_disk(layout, disk, alone=True)
    try:
        begin = read_begin(fd, disk.path)
        if not is_blank(begin) and parse_swap_header(begin, disk.path) is None:
            why = "something that is no swap signature lies at its begin"
            raise _not_for_swap(disk, "not_empty", why)
        uuid = None if adding.wanted.uuid is None else parse_uuid(adding.wanted.uuid)
        page = make_swap_header(disk.size_bytes, page_size(), uuid)
        write_header(fd, page, disk.path)
    except ValueError as error:
        raise _not_for_swap(disk, "too_small", str(error)) from error
    finally:
        os.close(fd)
    header = parse_swap_header(page, disk.path)
    assert header is not None  # noqa: S101  # it was made a moment ago
    return header


def _switched_on(layout: Layout, adding: Adding, disk: BlockDevice) -> SwapDevice:
    fd = open_disk(layout, disk)
    try:
        swap_on(fd, disk.path, priority=adding.priority, discard=adding.discard)
    except Refused as error:
        device = _in_use(layout, disk)
        if error.errno == errno.EBUSY and device is not None:  # somebody was faster
            raise _already(area_of(device, disk, None)) from error
        raise refused(disk.path, "swapon", error) from error
    except KernelioError as error:
        raise refused(disk.path, "swapon", error) from error
    finally:
        os.close(fd)
    device = _in_use(layout, disk)
    if device is None:
        raise refused(disk.path, "swapon", Vanished(disk.path))
    return device


def refused(path: str, doing: str, error: KernelioError) -> SwapTrouble:
    """What the kernel said, as an answer."""
    number = error.errno if isinstance(error, Refused) else 0
    answer = swap.SwapRefused(path=path, doing=doing, errno=number, why=error.detail)
    return SwapTrouble(answer, f"{path}: {doing}: {error.detail}")


def _already(area: SwapArea) -> SwapTrouble:
    return SwapTrouble(swap.AlreadySwap(area=area), f"{area.path} is in use as swap already")


def _not_for_swap(disk: BlockDevice, because: NotForSwapBecause, detail: str) -> SwapTrouble:
    answer = swap.NotForSwap(path=disk.path, because=because, detail=detail)
    return SwapTrouble(answer, f"{disk.path} is not taken: {detail}")
