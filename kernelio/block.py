"""Block devices: which disk it is, by what the host called it and where it is plugged in.

Source: Documentation/ABI/stable/sysfs-block; drivers/block/virtio_blk.c, serial_show()
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from kernelio.errors import MalformedReading, Refused, Unsupported, Vanished
from kernelio.files import meaning_of, read_bytes
from kernelio.layout import Layout

__all__ = ["BlockDevice", "disk_names", "open_disk", "pci_path_of", "read_disk"]

_SECTOR = 512  # of `size`, whatever the device's own sectors are
_SERIAL_BYTES = 20  # VIRTIO_BLK_ID_BYTES
_NUMBER = re.compile(r"(\d{1,7}):(\d{1,7})\n", re.ASCII)
_SIZE = re.compile(r"(\d{1,20})\n", re.ASCII)
_ROOT_BUS = "pci0000:00"
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:([0-9a-f]{2})\.([0-7])", re.ASCII)
_VIRTIO = "virtio_blk"


class BlockDevice(NamedTuple):
    """A whole disk.

    Args:
        name: "vdc".
        number: Major and minor.
        size_bytes: What it holds.
        serial: What the host called it; empty where it has no name.
        pci_path: Slots from the root bus down to it; empty where it is on no PCI bus.
        virtio: It is a virtio-blk.
        read_only: Nothing can be written to it.
    """

    name: str
    number: tuple[int, int]
    size_bytes: int
    serial: str
    pci_path: str
    virtio: bool
    read_only: bool

    @property
    def path(self) -> str:
        """Its node, where devtmpfs makes it."""
        return f"/dev/{self.name}"


def pci_path_of(sys_path: str) -> str:
    """Read the slots of root port, bridges and device out of a path in sysfs, as in "01/00".

    A function that is not 0 stands behind its slot, as in "01.1/00". Empty where the device is not
    below the first root bus.
    """
    _, below, rest = sys_path.partition(f"/{_ROOT_BUS}/")
    slots = []
    for part in rest.split("/") if below else ():
        address = _PCI_ADDRESS.fullmatch(part)
        if address is None:
            break
        function = f".{address[2]}" if address[2] != "0" else ""
        slots.append(address[1] + function)
    return "/".join(slots)


def disk_names(layout: Layout) -> list[str]:
    """Names of all whole disks, loop and RAM disks too.

    Raises:
        Unsupported: sysfs does not show them.
    """
    path = layout.sys("block")
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        raise meaning_of(error, path, fixed=True) from error


def read_disk(layout: Layout, name: str) -> BlockDevice:
    """Read what a disk is; of a virtio-blk its serial is asked of the host, which may take time.

    Raises:
        Vanished: It is gone, or is no whole disk.
        MalformedReading: sysfs does not say it as documented.
    """
    directory = layout.sys(f"block/{name}")
    if "/" in name or not os.path.isdir(directory):
        raise Vanished(directory)
    driver = os.path.basename(os.path.realpath(f"{directory}/device/driver"))
    return BlockDevice(
        name=name,
        number=_number(_text(f"{directory}/dev"), f"{directory}/dev"),
        size_bytes=_sectors(_text(f"{directory}/size"), f"{directory}/size") * _SECTOR,
        serial=_serial(f"{directory}/serial"),
        pci_path=pci_path_of(os.path.realpath(directory)),
        virtio=driver == _VIRTIO,
        read_only=_text(f"{directory}/ro") != "0\n",
    )


def _text(path: str) -> str:
    try:
        return os.fsdecode(read_bytes(path))
    except Unsupported as error:
        raise Vanished(path) from error


def _serial(path: str) -> str:
    try:
        return os.fsdecode(read_bytes(path))[:_SERIAL_BYTES].rstrip("\n\0")
    except (Unsupported, Vanished, Refused):  # other kinds of disk have none, and one that died
        return ""


def _number(text: str, path: str) -> tuple[int, int]:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise MalformedReading(path, text, "major:minor")
    return int(found[1]), int(found[2])


def _sectors(text: str, path: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise MalformedReading(path, text, "a number of sectors")
    return int(found[1])


def open_disk(layout: Layout, disk: BlockDevice, *, alone: bool = False) -> int:
    """Open the node of a disk, and see to it that it is that disk's; the fd is the caller's.

    Args:
        layout: Where /dev is.
        disk: As read from sysfs.
        alone: To write to it, while nobody has it mounted, as swap, or open like this.

    Raises:
        Vanished: It is gone, or another device has its name now.
        Unsupported: It may not be opened.
        Refused: It is in use (EBUSY), among others.
    """
    path = layout.root + disk.path
    flags = os.O_RDWR | os.O_EXCL if alone else os.O_RDONLY
    try:
        node = f"{layout.root}{layout.dev}/{disk.name}"
        fd = os.open(node, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise meaning_of(error, path) from error
    found = os.fstat(fd)
    number = (os.major(found.st_rdev), os.minor(found.st_rdev))
    if not stat.S_ISBLK(found.st_mode) or number != disk.number:
        os.close(fd)
        raise Vanished(path)
    return fd
