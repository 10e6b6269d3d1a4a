"""What swap files there are, and what their guests' monitors say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import msgspec

from memreact_schemas.swap import SwapArea
from memreact_tools.host.swap.files import Folder, Home
from memreact_tools.host.swap.monitor import MARK, Disk, Monitor
from memreact_tools.host.swap.owner import Owner, lives
from memreact_tools.host.swap.trouble import SwapTrouble

__all__ = ["Row", "as_text", "rows"]

_MIB_SHIFT = 20
_BUSY = "not known: another memreact-host is at work there"
_HEAD = ("GUEST", "FILE", "MIB", "TAKES", "USED", "PCI", "STATE")


class Look(Protocol):
    """How guests are asked."""

    def monitor(self, owner: Owner) -> AbstractContextManager[Monitor]:
        """Open a guest's monitor; SwapTrouble where that does not answer."""

    def areas(self, owner: Owner) -> Mapping[str, SwapArea] | None:
        """Return what the guest swaps to, by the name of the file; None where nobody says."""


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
        used_bytes: What the guest has swapped out to it; None where nobody in it says.
        failed: Reads and writes of the guest's that the host could not do, such as writes to a file
            system that is full.
    """

    guest: str
    path: str
    size_bytes: int
    allocated_bytes: int
    pci_path: str
    state: str
    serial: str
    used_bytes: int | None = None
    failed: int = 0


def rows(home: Home, look: Look) -> list[Row]:
    """Look at every file, and ask every guest that lives and that nobody else is at work for."""
    found = []
    for name in home.names():
        with suppress(FileNotFoundError), home.folder(name) as folder:  # cleared away meanwhile
            found += _rows_of(folder, look)
    return found


def _rows_of(folder: Folder, look: Look) -> list[Row]:
    ours = folder.claim()
    owner = folder.owner()
    disks, state = _ask(owner, look) if ours else ({}, _BUSY)
    areas = look.areas(owner) if owner and disks else None
    made = []
    for file in folder.files():
        disk = disks.get(file.name)
        area = None if areas is None else areas.get(file.name)
        made.append(
            Row(
                guest=owner.monitor if owner else "",
                path=f"{folder.path}/{file.name}",
                size_bytes=file.size_bytes,
                allocated_bytes=file.allocated_bytes,
                pci_path=disk.pci_path if disk else "",
                state=state or _state(disk, area, known=areas is not None),
                serial=MARK + file.name,
                used_bytes=None if area is None else area.used_bytes,
                failed=disk.failed if disk else 0,
            )
        )
    return made


def _state(disk: Disk | None, area: SwapArea | None, *, known: bool) -> str:
    if disk is None:
        return "not a disk: the next add or remove deletes it"
    failed = f", {disk.failed} reads and writes failed" if disk.failed else ""
    if not known:
        return f"disk{failed}"
    return f"in use{failed}" if area else "disk, not in use: the next add takes it into use"


def _ask(owner: Owner | None, look: Look) -> tuple[dict[str, Disk], str]:
    """Return the guest's disks by name, or why they are not known."""
    if owner is None:
        return {}, "nobody's: it is not written whose"
    if not lives(owner):
        return {}, "its guest is gone: the next add or remove deletes it"
    try:
        with look.monitor(owner) as monitor:
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
    used = "-" if row.used_bytes is None else str(row.used_bytes >> _MIB_SHIFT)
    pci = row.pci_path or "-"
    return row.guest or "-", row.path, str(size), str(takes), used, pci, row.state
