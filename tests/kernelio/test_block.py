"""Which disk it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelio.block import BlockDevice, disk_names, open_disk, pci_path_of, read_disk
from kernelio.errors import MalformedReading, Unsupported, Vanished
from kernelio.layout import Layout
from tests.disk_files import PCI, shows_disk
from tests.fake_guest import FakeGuest


def test_a_virtio_disk_is_known_by_its_serial_and_its_place(guest: FakeGuest) -> None:
    shows_disk(guest)
    assert disk_names(guest.layout) == ["vdc"]
    disk = read_disk(guest.layout, "vdc")
    assert disk == BlockDevice(
        name="vdc",
        number=(254, 32),
        size_bytes=1 << 20,
        serial="memreact-swap0",
        pci_path="02/00",
        virtio=True,
        read_only=False,
    )
    assert disk.path == "/dev/vdc"


def test_another_kind_of_disk_has_neither_serial_nor_place(guest: FakeGuest) -> None:
    shows_disk(guest, "sda", None, bus="0000:00:1f.2/ata1/host0", driver="sd")
    disk = read_disk(guest.layout, "sda")
    assert (disk.serial, disk.pci_path, disk.virtio) == ("", "1f.2", False)


@pytest.mark.parametrize(
    ("path", "slots"),
    [
        (f"{PCI}/0000:00:02.0/0000:01:00.0/virtio5/block/vdc", "02/00"),
        (f"{PCI}/0000:00:05.0/virtio2/block/vda", "05"),
        (f"{PCI}/0000:00:02.1/0000:01:1f.0/0000:02:00.3/virtio5/block/vdc", "02.1/1f/00.3"),
        ("/sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/virtio0/block/vda", "01"),
        ("/sys/devices/platform/a000000.virtio_mmio/virtio0/block/vda", ""),
        ("/sys/devices/pci0001:00/0001:00:02.0/virtio5/block/vdc", ""),
        ("/sys/devices/virtual/block/zram0", ""),
        ("", ""),
    ],
)
def test_the_place_is_the_slots_from_the_root_bus_down(path: str, slots: str) -> None:
    assert pci_path_of(path) == slots


@pytest.mark.parametrize("name", ["vdd", "../vdc", "vdc/../vdc"])
def test_what_is_no_disk_is_gone(guest: FakeGuest, name: str) -> None:
    shows_disk(guest)
    with pytest.raises(Vanished):
        read_disk(guest.layout, name)


@pytest.mark.parametrize(("file", "text"), [("dev", "254\n"), ("size", "many\n")])
def test_what_sysfs_does_not_say_as_documented_is_malformed(
    guest: FakeGuest, file: str, text: str
) -> None:
    shows_disk(guest)
    guest.shows(f"/sys/block/vdc/{file}", text)
    with pytest.raises(MalformedReading):
        read_disk(guest.layout, "vdc")


def test_a_disk_that_goes_while_it_is_read_is_gone(guest: FakeGuest) -> None:
    shows_disk(guest)
    os.unlink(guest.path("/sys/block/vdc/size"))
    with pytest.raises(Vanished):
        read_disk(guest.layout, "vdc")


def test_a_kernel_without_block_devices_has_none(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        disk_names(guest.layout)


def test_a_node_that_is_another_devices_or_no_device_is_not_opened(guest: FakeGuest) -> None:
    shows_disk(guest)
    disk = read_disk(guest.layout, "vdc")
    before = os.listdir("/proc/self/fd")
    guest.shows("/dev/vdc", "a file")
    for alone in (False, True):
        with pytest.raises(Vanished):
            open_disk(guest.layout, disk, alone=alone)
    guest.loses("/dev/vdc")
    os.symlink(os.devnull, guest.path("/dev/vdc"))
    with pytest.raises(Vanished):
        open_disk(guest.layout, disk)
    assert os.listdir("/proc/self/fd") == before


def test_a_disk_is_opened_where_the_layout_has_devices(tmp_path: Path) -> None:
    """As the guest has them mounted, where that is not what this process sees as /dev."""
    disk = BlockDevice("null", (1, 3), 0, "", "", virtio=False, read_only=False)
    os.symlink("/dev/null", tmp_path / "null")
    with pytest.raises(Vanished, match="/dev/null"):  # it is there, and no block device
        open_disk(Layout(dev=str(tmp_path)), disk)
    os.unlink(tmp_path / "null")
    with pytest.raises(Unsupported, match="no such file here"):
        open_disk(Layout(dev=str(tmp_path)), disk)
