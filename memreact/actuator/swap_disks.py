"""Which disk is meant, whether it was made for swap, and which areas are in use.

A disk is known by what the host called it (its serial), by where it is plugged in, and by the UUID
of the swap signature on it. Its name in /dev says nothing: that is given in the order of arrival.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from kernelio.block import BlockDevice, disk_names, open_disk, read_disk
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.swap import SwapDevice, read_swaps
from kernelio.swap_header import SwapHeader, parse_swap_header, read_begin
from memreact_schemas.swap import MARK, AddSwap, RemoveSwap, SwapArea

__all__ = [
    "Wanted",
    "area_of",
    "areas_in_use",
    "find_area",
    "find_disk",
    "is_ours",
    "read_signature",
    "wanted_by",
]

_PARTITION = "partition"


class Wanted(NamedTuple):
    """What is said of a disk; all of it has to be so.

    Args:
        serial: What the host called it.
        pci_path: Slots, two digits each, as in "01/00".
        uuid: Of the signature, in lower case.
        path: Of its node.
    """

    serial: str | None = None
    pci_path: str | None = None
    uuid: str | None = None
    path: str | None = None

    @property
    def in_words(self) -> str:
        """As an answer says it."""
        named = {
            "serial": self.serial,
            "PCI path": self.pci_path,
            "UUID": self.uuid,
            "path": self.path,
        }
        return " and ".join(f"{what} {value}" for what, value in named.items() if value is not None)


def wanted_by(call: AddSwap | RemoveSwap) -> Wanted:
    """Bring what a call says into the one form that is compared."""
    slots = None if call.pci_path is None else _two_digits(call.pci_path)
    uuid = None if call.uuid is None else call.uuid.lower()
    path = call.path if isinstance(call, RemoveSwap) else None
    return Wanted(call.serial, slots, uuid, path)


def _two_digits(pci_path: str) -> str:
    parts = (part.partition(".") for part in pci_path.split("/"))
    # A function that is 0 is not said.
    return "/".join(
        slot.rjust(2, "0") + (f".{function}" if function.strip("0") else "")
        for slot, _, function in parts
    )


def is_ours(disk: BlockDevice) -> bool:
    """Whether a host that knows memreact made it: it is a virtio-blk of that name."""
    return disk.virtio and disk.serial.startswith(MARK)


def find_disk(layout: Layout, wanted: Wanted) -> BlockDevice | None:
    """Find the virtio-blk that is meant; None where there is none.

    A UUID that is said beside something else is not looked at here: a disk that is found has to
    have it, or to be given it.

    Raises:
        KernelioError: sysfs does not show disks at all.
    """
    for disk in _disks(layout):
        if wanted.path not in {None, disk.path}:
            continue
        if wanted.serial not in {None, disk.serial} or wanted.pci_path not in {None, disk.pci_path}:
            continue
        by_uuid_alone = wanted.serial is wanted.pci_path is wanted.path is None
        if by_uuid_alone and not _has_uuid(layout, disk, wanted.uuid):
            continue
        return disk
    return None


def _disks(layout: Layout) -> Iterator[BlockDevice]:
    for name in disk_names(layout):
        with suppress(KernelioError):  # it went while we looked, or is of a kind that says less
            disk = read_disk(layout, name)
            if disk.virtio:
                yield disk


def _has_uuid(layout: Layout, disk: BlockDevice, uuid: str | None) -> bool:
    with suppress(KernelioError):
        header = read_signature(layout, disk)
        return header is not None and header.uuid == uuid
    return False


def read_signature(layout: Layout, disk: BlockDevice) -> SwapHeader | None:
    """Read the swap signature of a disk; None where it has none.

    Raises:
        KernelioError: It cannot be read, or says what no kernel understands.
    """
    fd = open_disk(layout, disk)
    try:
        return parse_swap_header(read_begin(fd, disk.path), disk.path)
    finally:
        os.close(fd)


def areas_in_use(layout: Layout) -> tuple[SwapArea, ...]:
    """All swap areas, with what is known of their disks.

    Raises:
        KernelioError: This kernel has no swap at all, or its table cannot be read.
    """
    return tuple(_described(layout, device) for device in read_swaps(layout))


def _described(layout: Layout, device: SwapDevice) -> SwapArea:
    area = SwapArea(
        path=device.path,
        kind=device.kind,
        size_bytes=device.size_bytes,
        used_bytes=device.used_bytes,
        priority=device.priority,
        lost=device.kind == _PARTITION and device.deleted,
    )
    if device.kind != _PARTITION or area.lost:
        return area
    try:
        disk = read_disk(layout, os.path.basename(device.path))
    except KernelioError:
        return area
    return area_of(device, disk, _uuid(layout, disk))


def area_of(device: SwapDevice, disk: BlockDevice, uuid: str | None) -> SwapArea:
    """An area in use, with what is known of its disk."""
    return SwapArea(
        path=device.path,
        kind=device.kind,
        size_bytes=device.size_bytes,
        used_bytes=device.used_bytes,
        priority=device.priority,
        serial=disk.serial or None,
        pci_path=disk.pci_path or None,
        uuid=uuid,
        ours=is_ours(disk),
    )


def _uuid(layout: Layout, disk: BlockDevice) -> str | None:
    if not disk.virtio:  # nobody names others by it
        return None
    try:
        header = read_signature(layout, disk)
    except KernelioError:
        return None
    return None if header is None else header.uuid


def find_area(areas: tuple[SwapArea, ...], wanted: Wanted) -> SwapArea | None:
    """Find the area in use that is meant; None where there is none."""
    said = (
        (wanted.serial, "serial"),
        (wanted.pci_path, "pci_path"),
        (wanted.uuid, "uuid"),
        (wanted.path, "path"),
    )
    for area in areas:
        if all(value in {None, getattr(area, name)} for value, name in said):
            return area
    return None
