"""One pass over the folder of all guests and over one guest: whatever was begun is found and ended.

Nothing is remembered between passes: the files, the owners beside them and the monitor's disks tell
all, so a tool that is killed anywhere is as good as one that was not begun, or one that ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from memreact_schemas.swap import SwapArea
from memreact_tools.host.swap.files import Folder, Home
from memreact_tools.host.swap.filesystem import takes_direct_io
from memreact_tools.host.swap.inside import Inside
from memreact_tools.host.swap.monitor import MARK, Disk, Monitor
from memreact_tools.host.swap.owner import identity, lives, owner_of
from memreact_tools.host.swap.sizing import (
    Decision,
    Grow,
    Pace,
    Shrink,
    SwapFile,
    SwapSettings,
    decide,
    pace_after_failure,
    pace_after_refusal,
)
from memreact_tools.host.swap.trouble import GuestSilent, NoRoom, SwapTrouble

__all__ = ["Guest", "Passed", "areas_of_ours", "clear_the_dead", "give_back", "grow_if_due"]


_BY_HAND = (
    "a guest loses what it swapped to a disk that is taken away: without memreact, swapoff there, "
    "then say --swapped-off"
)


class Guest(NamedTuple):
    """A guest that runs.

    Args:
        where: Its monitor, as it is named: qmp:/PATH or ch:/PATH.
        monitor: The same, open.
        inside: Its memreact, which takes disks into use and gives them back; None where nobody
            knows of one, and people do that.
        said: Where that is, as somebody said; empty where it was found.
    """

    where: str
    monitor: Monitor
    inside: Inside | None = None
    said: str = ""


class Passed(NamedTuple):
    """What came of a pass.

    Args:
        decision: What was to be done.
        pace: With which the next pass goes on.
        said: What was done, for people, a line each.
        trouble: Why growing or shrinking failed, if it did.
        unused: Disks that the guest has, but does not swap to.
    """

    decision: Decision
    pace: Pace
    said: tuple[str, ...] = ()
    trouble: SwapTrouble | None = None
    unused: tuple[str, ...] = ()


def areas_of_ours(inside: Inside | None) -> dict[str, SwapArea] | None:
    """Return what the guest swaps to of ours, by the name of the file; None where nobody says."""
    if inside is None:
        return None
    try:
        areas = inside.areas().areas
    except GuestSilent:
        return None
    serials = [(area.serial or "", area) for area in areas if not area.lost]
    return {serial.removeprefix(MARK): area for serial, area in serials if serial.startswith(MARK)}


def clear_the_dead(home: Home, *, proc: str = "/proc") -> Iterator[str]:
    """Delete what guests left that are gone, and say so."""
    for name in home.names():
        with home.alone():
            said = _clear(home, name, proc) if name in home.names() else ""
        if said:
            yield said


def _clear(home: Home, name: str, proc: str) -> str:
    with home.folder(name) as folder:
        owner = folder.owner()
        if owner is not None and lives(owner, proc=proc):
            return ""
        if not folder.claim():  # another one hears just now that the guest is gone
            return ""
        if owner is None and folder.files():
            return f"{folder.path} does not say whose it is: it stays"
        if home.remove_folder(name):
            return f"{folder.path} of a guest that is gone is deleted"
        return f"{folder.path} of a guest that is gone has something else in it: it stays"


def grow_if_due(
    home: Home, guest: Guest, settings: SwapSettings, pace: Pace, now_us: int
) -> Passed:
    """End what was begun for a guest, decide what it is worth now, and give or take that.

    What the guest swaps to is taken only once its memreact has said that it does not any more.

    Raises:
        SwapTrouble: The monitor does not answer as it should, or another one is at work for this
            guest.
        OSError: The folder cannot be read or written.
    """
    owner = owner_of(guest.monitor.pid, guest.where, guest.said)
    with home.claimed(owner, guest.monitor.called) as folder:
        passed = _pass(home, folder, guest, settings, pace, now_us)
        said, unused = _take_into_use(guest)
    return passed._replace(said=(*passed.said, *said), unused=unused)


def _pass(  # noqa: PLR0913, PLR0917  # where, whose, by what, since when, and the moment
    home: Home,
    folder: Folder,
    guest: Guest,
    settings: SwapSettings,
    pace: Pace,
    now_us: int,
) -> Passed:
    said = list(_end_what_was_begun(folder, guest.monitor))
    disks = guest.monitor.disks()
    said += _what_failed(disks)
    files = _as_the_guest_has_them(folder, disks)
    decision = decide(settings, pace, files, now_us)
    trouble: SwapTrouble | None = None
    try:
        match decision:
            case Grow():
                said.append(_grow(home, folder, guest.monitor, decision))
            case Shrink(names) if guest.inside is not None:
                said += _shrink(folder, guest, names)
    except SwapTrouble as error:
        trouble = error
        after = pace_after_failure if isinstance(decision, Grow) else pace_after_refusal
        pace = after(pace, settings, now_us)
    return Passed(decision, pace, tuple(said), trouble)


def _take_into_use(guest: Guest) -> tuple[list[str], tuple[str, ...]]:
    """Have the guest swap to every disk that it has; what was done, and the disks that it does not.

    Whoever was killed between the disk and its use is made up for here.
    """
    try:
        plugged = [disk.name for disk in guest.monitor.disks() if disk.plugged]
    except SwapTrouble:  # the pass has told already what went wrong there
        return [], ()
    in_use = areas_of_ours(guest.inside) if plugged else {}
    if guest.inside is None or in_use is None:
        return [], tuple(plugged)
    said, unused = [], []
    for name in (name for name in plugged if name not in in_use):
        try:
            added = guest.inside.take(MARK + name)
        except SwapTrouble as trouble:
            said.append(f"{name} is not in use: {trouble}")
            unused.append(name)
        else:
            took = "" if added is None else f" ({added.took_us / 1000:.0f} ms)"
            said.append(f"the guest swaps to {name}{took}")
    return said, tuple(unused)


def _shrink(folder: Folder, guest: Guest, names: Sequence[str]) -> list[str]:
    disks = {disk.name: disk for disk in guest.monitor.disks()}
    said = []
    for name in names:
        _swap_off(guest, name)
        guest.monitor.remove(name)
        said.append(_delete(folder, disks[name]))
    return said


def _swap_off(guest: Guest, name: str) -> None:
    """Have the guest take back what lies on a disk; only then may it go.

    Raises:
        SwapTrouble: It does not, or nobody there says so.
    """
    if guest.inside is None:
        raise GuestSilent(
            f"{guest.where}: where its memreact is asked is not known (GUEST=ADDRESS); {_BY_HAND}"
        )
    try:
        guest.inside.give_back(MARK + name)
    except GuestSilent as silent:
        raise GuestSilent(f"{silent}; {_BY_HAND}") from silent


def _end_what_was_begun(folder: Folder, monitor: Monitor) -> Iterator[str]:
    """Delete files that no disk of the guest's is made of, and what is half a disk."""
    for disk in monitor.disks():
        if not disk.plugged:
            monitor.remove(disk.name)
    there = {disk.name for disk in monitor.disks()}
    for file in folder.files():
        if file.name not in there:
            folder.remove(file.name)
            yield f"{folder.path}/{file.name}, which was no disk of the guest's, is deleted"


def _what_failed(disks: Sequence[Disk]) -> Iterator[str]:
    for disk in disks:
        if disk.failed:
            yield (
                f"{disk.name}: {disk.failed} reads and writes of the guest's failed: is "
                f"{disk.path} on a file system that is full?"
            )


def _as_the_guest_has_them(folder: Folder, disks: Sequence[Disk]) -> list[SwapFile]:
    sizes = {file.name: file.size_bytes for file in folder.files()}
    return [SwapFile(disk.name, disk.size_bytes or sizes.get(disk.name, 0)) for disk in disks]


def _grow(home: Home, folder: Folder, monitor: Monitor, wanted: Grow) -> str:
    name, size_bytes = wanted
    uid, gid = identity(monitor.pid)
    with home.alone():  # what fits here, others could take before it is made
        _refuse_without_room(home, size_bytes)
        path = folder.make(name, size_bytes, uid=uid, gid=gid)
    try:
        direct = takes_direct_io(name, folder=folder.fd)
        monitor.add(name, path, direct=direct)
    except SwapTrouble:
        with suppress(SwapTrouble):  # not heard any more it may have the disk: the next pass tells
            if all(disk.name != name for disk in monitor.disks()):
                folder.remove(name)
        raise
    how = "direct I/O" if direct else "through the host's page cache"
    return f"{path}, {size_bytes >> 20} MiB, is a disk of the guest's ({how})"


def _refuse_without_room(home: Home, size_bytes: int) -> None:
    short_by = home.room().short_by(size_bytes)
    if short_by:
        raise NoRoom(
            f"{home.path}: {size_bytes >> 20} MiB of swap, what other files there may still take, "
            f"and 1 GiB for others do not fit: {-(-short_by >> 20)} MiB are missing"
        )


def give_back(
    home: Home, guest: Guest, names: Sequence[str], *, swapped_off: bool = False
) -> Iterator[str]:
    """Have a guest swap off disks, take them away from it, and delete their files.

    Args:
        home: Where the files are.
        guest: Whose.
        names: Of the files; all if none is named.
        swapped_off: Somebody says that the guest does not swap to them: it is not asked.

    Raises:
        SwapTrouble: One of the names is none, the guest has no memory for what lies there, or it
            does not let a disk go, or another one is at work for it.
    """
    owner = owner_of(guest.monitor.pid, guest.where, guest.said)
    disks = {disk.name: disk for disk in guest.monitor.disks()}
    for name in names:
        if name not in disks:
            raise SwapTrouble(f"{guest.where} has no {name}, but {', '.join(sorted(disks)) or '-'}")
    with home.claimed(owner, guest.monitor.called) as folder:
        for name in names or sorted(disks):
            if disks[name].plugged and not swapped_off:
                _swap_off(guest, name)
            guest.monitor.remove(name)
            yield _delete(folder, disks[name])
        yield from _end_what_was_begun(folder, guest.monitor)


def _delete(folder: Folder, disk: Disk) -> str:
    ours = f"{folder.path}/{disk.name}"
    if disk.path not in ("", ours):
        return f"{disk.path} is no disk any more; it lies elsewhere and stays"
    folder.remove(disk.name)
    return f"{ours} is no disk any more and is deleted"
