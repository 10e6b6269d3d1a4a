"""Disks that are plugged into a guest while it runs, each a file of holes on this machine."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec

from lab.channel import Refusal
from lab.errors import DeadlinePassed
from lab.guest import Guest

__all__ = ["Disk"]

_GONE_S = 30.0
_POLL_S = 0.05


class _Property(msgspec.Struct):
    name: str


class Disk:
    """A virtio-blk behind one of the guest's root ports.

    Args:
        guest: Where.
        folder: Of the file.
        serial: What the guest is told that it is called.
        mib: Its size.
        port: Which root port, 0 or 1.
    """

    def __init__(self, guest: Guest, folder: Path, serial: str, mib: int, *, port: int = 0) -> None:
        self.guest = guest
        self.serial = serial
        self.file = folder / serial
        self._bus = f"port{port}"
        self.file.touch()
        os.truncate(self.file, mib << 20)

    @property
    def allocated_bytes(self) -> int:
        """What its file takes on this machine."""
        return self.file.stat().st_blocks * 512

    def plug(self) -> None:
        """Plug it in; the guest learns of it in its own time."""
        file: dict[str, object] = {"driver": "file", "filename": str(self.file), "discard": "unmap"}
        node: dict[str, object] = {
            "driver": "raw",
            "node-name": self.serial,
            "discard": "unmap",
            "file": file,
        }
        self.guest.qmp("blockdev-add", node)
        device: dict[str, object] = {
            "driver": "virtio-blk-pci",
            "id": self.serial,
            "drive": self.serial,
        }
        device |= {"serial": self.serial, "bus": self._bus, "werror": "report", "rerror": "report"}
        self.guest.qmp("device_add", device)

    def unplug(self) -> None:
        """Take it away, and wait until the guest has let it go.

        Raises:
            DeadlinePassed: It has not.
        """
        if not self._forgotten():
            with contextlib.suppress(Refusal):  # it was asked for already
                self.guest.qmp("device_del", {"id": self.serial})
        deadline = time.monotonic() + _GONE_S
        while not self._forgotten():
            if time.monotonic() > deadline:
                raise DeadlinePassed(f"the guest has not let {self.serial} go")
            time.sleep(_POLL_S)

    def _forgotten(self) -> bool:
        """Whether nothing of it is left; what is behind the device goes when that is gone."""
        told = self.guest.qmp("qom-list", {"path": "/machine/peripheral"})
        if self.serial in {each.name for each in msgspec.json.decode(told, type=list[_Property])}:
            return False
        try:
            self.guest.qmp("blockdev-del", {"node-name": self.serial})
        except Refusal as refusal:
            return "Failed to find" in str(refusal)
        return True
