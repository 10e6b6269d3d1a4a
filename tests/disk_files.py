"""Disks of a guest that is made of files: what sysfs shows of them, and what lies on them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from kernelio.block import BlockDevice
from kernelio.errors import Refused, Unsupported, Vanished
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from kernelio.swap_header import make_swap_header
from memreact.actuator import swap, swap_disks, swap_off, zram
from tests.fake_guest import FakeGuest

__all__ = ["PCI", "SWAPS_HEADER", "SwapGuest", "shows_disk"]

PCI = "/sys/devices/pci0000:00"


def shows_disk(  # noqa: PLR0913  # what a disk is
    guest: FakeGuest,
    name: str = "vdc",
    serial: str | None = "memreact-swap0",
    *,
    bus: str = "0000:00:02.0/0000:01:00.0/virtio5",
    driver: str = "virtio_blk",
    sectors: int = 2048,
) -> None:
    """Make a disk in sysfs, with links as the kernel has them."""
    there = f"{PCI}/{bus}/block/{name}"
    for file, text in (("dev", "254:32\n"), ("size", f"{sectors}\n"), ("ro", "0\n")):
        guest.shows(f"{there}/{file}", text)
    if serial is not None:
        guest.shows(f"{there}/serial", serial)
    for link, to in (
        (f"/sys/block/{name}", guest.path(there)),
        (f"{there}/device/driver", f"/sys/bus/virtio/drivers/{driver}"),
    ):
        os.makedirs(os.path.dirname(guest.path(link)), exist_ok=True)
        os.symlink(to, guest.path(link))


SWAPS_HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
MEMINFO = """\
MemTotal:        1000000 kB
MemFree:          100000 kB
MemAvailable:     {available} kB
Cached:            10000 kB
SwapCached:            0 kB
Unevictable:           0 kB
Dirty:                 0 kB
Writeback:             0 kB
AnonPages:             0 kB
Shmem:                 0 kB
SReclaimable:          0 kB
SwapTotal:             0 kB
SwapFree:              0 kB
"""


class SwapGuest:
    """A guest of files whose disks can be opened, and whose kernel takes them into use.

    A file is no block device, so what opens a disk is replaced: all else is as it is.

    Args:
        guest: Made of files.
        patch: pytest's.
    """

    def __init__(self, guest: FakeGuest, patch: pytest.MonkeyPatch) -> None:
        self.guest = guest
        self.layout = guest.layout
        self.switched_on: list[tuple[str, int | None, str]] = []
        self.refuses: Refused | Unsupported | None = None
        self.before_swapon: Callable[[], None] = lambda: None
        self._table: dict[str, str] = {}
        for module in (swap, swap_disks, swap_off, zram):
            patch.setattr(module, "open_disk", self._open)
        for taking in (swap, zram):
            patch.setattr(taking, "swap_on", self._swap_on)
        os.makedirs(guest.path("/sys/block"))
        self.shows_table()
        self.shows_memory(available_kb=500_000)

    def has_disk(
        self,
        name: str = "vdc",
        serial: str = "memreact-swap0",
        *,
        content: bytes = b"",
        slot: int = 1,
        driver: str = "virtio_blk",
    ) -> None:
        """Plug a disk of 1 MiB in, behind the root port of that slot."""
        bus = f"0000:00:{slot:02x}.0/0000:01:00.0/virtio{slot}"
        shows_disk(self.guest, name, serial, bus=bus, driver=driver)
        self.guest.shows(f"/dev/{name}", content.ljust(1 << 20, b"\0"))

    def has_zram(self, number: int = 1, *, label: str | None = None) -> str:
        """Make a device of 1 MiB, the next that the kernel gives out; a label says whose it was."""
        name = f"zram{number}"
        shows_disk(self.guest, name, None, bus="../virtual", driver="-")
        content = b"" if label is None else make_swap_header(1 << 20, page_size(), label=label)
        self.guest.shows(f"/dev/{name}", content.ljust(1 << 20, b"\0"))
        files = {
            f"/sys/block/{name}/disksize": "0\n" if label is None else f"{1 << 20}\n",
            f"/sys/block/{name}/comp_algorithm": "lzo [lzo-rle] zstd\n",
            "/sys/class/zram-control/hot_add": f"{number}\n",
            "/sys/class/zram-control/hot_remove": "",
        }
        for path, text in files.items():
            self.guest.shows(path, text)
        return f"/dev/{name}"

    def shows_table(self) -> None:
        """Show what is in use."""
        self.guest.shows("/proc/swaps", SWAPS_HEADER + "".join(self._table.values()))

    def uses(
        self, path: str, *, used_kb: int = 0, priority: int = -2, kind: str = "partition"
    ) -> None:
        """Have an area in use."""
        self._table[path] = f"{path}\t{kind}\t1020\t{used_kb}\t{priority}\n"
        self.shows_table()

    def uses_no_more(self, path: str) -> None:
        """Have it in use no more."""
        del self._table[path]
        self.shows_table()

    def shows_memory(self, *, available_kb: int) -> None:
        """Show how much of a million kB is available."""
        self.guest.shows("/proc/meminfo", MEMINFO.format(available=available_kb))

    def _open(self, layout: Layout, disk: BlockDevice, *, alone: bool = False) -> int:
        path = layout.root + disk.path
        if not os.path.exists(path):
            raise Vanished(path)
        if alone and disk.path in self._table:
            raise Refused(path, 16, "Device or resource busy")
        return os.open(path, os.O_RDWR if alone else os.O_RDONLY)

    def _swap_on(self, fd: int, path: str, *, priority: int | None, discard: str) -> None:
        self.before_swapon()
        if self.refuses is not None:
            raise self.refuses
        assert os.path.samestat(os.fstat(fd), os.stat(self.guest.path(path)))
        self.switched_on.append((path, priority, discard))
        self.uses(path, priority=-2 if priority is None else priority)
