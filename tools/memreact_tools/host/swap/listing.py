"""What swap files there are, and what their guests' monitors say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec

from memreact_tools.host.swap.files import Folder, Home
from memreact_tools.host.swap.monitor import Disk, Monitor
from memreact_tools.host.swap.owner import Owner, lives
from memreact_tools.host.swap.trouble import SwapTrouble

__all__ = ["Row", "as_text", "rows"]

Open = Callable[[str], AbstractContextManager[Monitor]]

_MIB_SHIFT = 20
_HEAD = ("GUEST", "FILE", "MIB", "TAKES", "PCI", "STATE")


class Row(msgspec.Struct, frozen=True):
    """One file.

    Args:
        guest: Its monitor, as it was named; empty where that was not written.
        path: Of the file.
        size_bytes: What it may grow to.
        allocated_bytes: What it takes now.
        pci_path: Where the guest finds it, as Kata's agent is told; empty where it is not known.
        state: For people.
        serial: By which the guest knows the disk.
    """

    guest: str
    path: str
    size_bytes: int
    allocated_bytes: int
    pci_path: str
    state: str
    serial: str


def rows(home: Home, open_monitor: Open) -> list[Row]:
    """Look at every file, and ask every guest that lives."""
    found = []
    for name in home.names():
        with home.folder(name) as folder:
            found += _rows_of(folder, open_monitor)
    return found


def _rows_of(folder: Folder, open_monitor: Open) -> list[Row]:
    owner = folder.owner()
    disks, state = _ask(owner, open_monitor)
    made = []
    for file in folder.files():
        disk = disks.get(file.name)
        said = state or (
            "not a disk: the next add or remove deletes it" if disk is None else "disk"
        )
        where = owner.monitor if owner else ""
        pci = disk.pci_path if disk else ""
        path = f"{folder.path}/{file.name}"
        serial = f"memreact-{file.name}"
        made.append(Row(where, path, file.size_bytes, file.allocated_bytes, pci, said, serial))
    return made


def _ask(owner: Owner | None, open_monitor: Open) -> tuple[dict[str, Disk], str]:
    """Return the guest's disks by name, or why they are not known."""
    if owner is None:
        return {}, "nobody's: it is not written whose"
    if not lives(owner):
        return {}, "its guest is gone: the next add or remove deletes it"
    try:
        with open_monitor(owner.monitor) as monitor:
            return {disk.name: disk for disk in monitor.disks() if disk.plugged}, ""
    except SwapTrouble as trouble:
        return {}, f"not known: {trouble}"


def as_text(found: Sequence[Row]) -> str:
    """Return a table, or a line that there is nothing."""
    if not found:
        return "no guest has swap from here"
    cells = [_HEAD, *(_cells(row) for row in found)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    size, takes = row.size_bytes >> _MIB_SHIFT, row.allocated_bytes >> _MIB_SHIFT
    return row.guest or "-", row.path, str(size), str(takes), row.pci_path or "-", row.state
