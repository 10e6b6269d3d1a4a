"""Sets up a zram device as swap above all other, and takes it away again.

Nothing is remembered: ours is what its label says, and with it by which setting it was made. So a
device that a killed memreact left is found, and another's is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from kernelio import zram
from kernelio.block import BlockDevice, open_disk, read_disk
from kernelio.errors import KernelioError, Refused
from kernelio.layout import Layout
from kernelio.meminfo import page_size, read_meminfo
from kernelio.swap import read_swaps, swap_on, zram_name
from kernelio.swap_header import make_swap_header, write_header
from memreact.actuator.swap import Errand, is_swap_path, refused
from memreact.actuator.swap_disks import Wanted, read_signature
from memreact.actuator.swap_off import Guest, Removing, remove_swap
from memreact.swap_trouble import SwapTrouble
from memreact_schemas.control import NotPossible

__all__ = ["PRIORITY", "OurZram", "WantedZram", "our_zrams", "settle_zram", "take_down"]

PRIORITY = 32767
"""The highest that there is: cold memory goes to zram until that is full, then to disks."""

_LABEL = "memreact-zram"
# udev looks at a device for a moment after it was swap, and the kernel takes none that is open.
_TRIES, _BETWEEN_US = 40, 50_000


class WantedZram(NamedTuple):
    """What the settings ask for.

    Args:
        percent: Of the guest's memory, before it is compressed; 0 for no zram.
        algorithm: By which it is compressed; empty leaves it to the kernel.
    """

    percent: int
    algorithm: str = ""


class OurZram(NamedTuple):
    """A device that a memreact made.

    Args:
        name: "zram1".
        wanted: What it was made for, with the algorithm that it has.
        in_use: It is swap.
    """

    name: str
    wanted: WantedZram
    in_use: bool

    @property
    def path(self) -> str:
        """Its node."""
        return f"/dev/{self.name}"

    def serves(self, wanted: WantedZram) -> bool:
        """Whether it is what is asked for."""
        same = wanted.algorithm in {"", self.wanted.algorithm}
        return self.in_use and same and self.wanted.percent == wanted.percent


def our_zrams(layout: Layout) -> list[OurZram]:
    """Find what a memreact made, this one or one before it.

    Raises:
        KernelioError: sysfs does not show disks.
    """
    found = []
    for name in zram.zram_names(layout):
        with suppress(KernelioError, ValueError):  # it went, or bears a signature of its own kind
            if each := _ours(layout, name):
                found.append(each)
    return found


def _ours(layout: Layout, name: str) -> OurZram | None:
    if not zram.read_zram_size(layout, name):
        return None
    header = read_signature(layout, read_disk(layout, name))
    if header is None or not header.label.startswith(_LABEL):
        return None
    percent = int(header.label.removeprefix(_LABEL))
    in_use = any(is_swap_path(each, name) for each in read_swaps(layout))
    return OurZram(name, WantedZram(percent, zram.read_algorithm(layout, name)), in_use)


def settle_zram(
    layout: Layout, wanted: WantedZram, take: Callable[[OurZram], None]
) -> OurZram | None:
    """Have what is asked for, and no other of ours; returns what was made, if anything was.

    Args:
        layout: Where the kernel shows its files.
        wanted: What is asked for.
        take: Takes a device of ours away.

    Raises:
        SwapTrouble: It cannot be had, or what is there cannot be taken away.
    """
    try:
        serving = None
        for each in our_zrams(layout):
            if serving is None and each.serves(wanted):
                serving = each
            else:
                take(each)
        if serving is not None or not wanted.percent:
            return None
        _leave_to_others(layout)
        return _set_up(layout, wanted)
    except KernelioError as error:
        raise refused(error.path, "setting up zram", error) from error


def _leave_to_others(layout: Layout) -> None:
    names = [zram_name(area) for area in read_swaps(layout)]
    used = ", ".join(name for name in names if name is not None)
    if used:
        raise _not_possible(f"zram is not set up: {used} is swap already, and is not memreact's")


def _not_possible(why: str) -> SwapTrouble:
    return SwapTrouble(NotPossible(why=why), why)


def _set_up(layout: Layout, wanted: WantedZram) -> OurZram:
    page = page_size()
    size_bytes = read_meminfo(layout).total_bytes * wanted.percent // 100 // page * page
    name = zram.add_zram(layout)
    try:
        zram.size_zram(layout, name, size_bytes, wanted.algorithm)
        _swap_to(layout, read_disk(layout, name), f"{_LABEL}{wanted.percent}")
        algorithm = zram.read_algorithm(layout, name)
    except (KernelioError, ValueError) as error:
        with suppress(KernelioError):
            zram.remove_zram(layout, name)
        if isinstance(error, ValueError):
            raise _not_possible(f"zram is not set up: {error}") from error
        raise
    return OurZram(name, WantedZram(wanted.percent, algorithm), in_use=True)


def _swap_to(layout: Layout, disk: BlockDevice, label: str) -> None:
    header = make_swap_header(disk.size_bytes, page_size(), label=label)
    fd = open_disk(layout, disk, alone=True)
    try:
        write_header(fd, header, disk.path)
    finally:
        os.close(fd)
    fd = open_disk(layout, disk)
    try:
        swap_on(fd, disk.path, priority=PRIORITY, discard="no")
    finally:
        os.close(fd)


def take_down(guest: Guest, ours: OurZram, removing: Removing, errand: Errand) -> None:
    """Take back what lies on a device of ours, and take it away.

    Args:
        guest: Where.
        ours: Which device.
        removing: When to let it be; whatever area that names, this one is meant.
        errand: By which it is called back.

    Raises:
        SwapTrouble: The guest has no memory for what lies there, or was hurt: it is swap as before.
        CalledBack: It was called back.
    """
    if ours.in_use:
        wanted = Wanted(path=_path_in_use(guest.layout, ours))
        remove_swap(guest, removing._replace(wanted=wanted), errand)
    _remove(guest.layout, ours, errand)


def _path_in_use(layout: Layout, ours: OurZram) -> str:
    areas = read_swaps(layout)
    return next((each.path for each in areas if is_swap_path(each, ours.name)), ours.path)


def _remove(layout: Layout, ours: OurZram, errand: Errand) -> None:
    for left in reversed(range(_TRIES)):
        try:
            zram.remove_zram(layout, ours.name)
        except Refused as error:
            if not left:
                raise refused(ours.path, "removing it", error) from error
            errand.wait(_BETWEEN_US)
        except KernelioError as error:
            raise refused(ours.path, "removing it", error) from error
        else:
            return
