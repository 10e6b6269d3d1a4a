"""One pass over the folder of all guests and over one guest: whatever was begun is found and ended.

Nothing is remembered between passes: the files, the owners beside them and the monitor's disks tell
all, so a tool that is killed anywhere is as good as one that was not begun, or one that ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from memreact_tools.host.swap.files import Folder, Home
from memreact_tools.host.swap.filesystem import takes_direct_io
from memreact_tools.host.swap.monitor import Disk, Monitor
from memreact_tools.host.swap.owner import identity, lives, owner_of
from memreact_tools.host.swap.sizing import (
    Decision,
    Grow,
    Pace,
    SwapFile,
    SwapSettings,
    decide,
    pace_after_failure,
)
from memreact_tools.host.swap.trouble import NoRoom, SwapTrouble

__all__ = ["Guest", "Passed", "clear_the_dead", "give_back", "grow_if_due"]


class Guest(NamedTuple):
    """A guest that runs.

    Args:
        where: Its monitor, as it is named: qmp:/PATH or ch:/PATH.
        monitor: The same, open.
    """

    where: str
    monitor: Monitor


class Passed(NamedTuple):
    """What came of a pass.

    Args:
        decision: What was to be done.
        pace: With which the next pass goes on.
        said: What was done, for people, a line each.
        trouble: Why growing failed, if it did.
    """

    decision: Decision
    pace: Pace
    said: tuple[str, ...] = ()
    trouble: SwapTrouble | None = None


def clear_the_dead(home: Home, *, proc: str = "/proc") -> Iterator[str]:
    """Delete what guests left that are gone, and say so."""
    for name in home.names():
        with home.folder(name) as folder:
            owner, files = folder.owner(), folder.files()
        if owner is not None and lives(owner, proc=proc):
            continue
        if owner is None and files:
            yield f"{home.path}/{name} does not say whose it is: it stays"
        elif home.remove_folder(name):
            yield f"{home.path}/{name} of a guest that is gone is deleted"
        else:
            yield f"{home.path}/{name} of a guest that is gone has something else in it: it stays"


def grow_if_due(
    home: Home, guest: Guest, settings: SwapSettings, pace: Pace, now_us: int
) -> Passed:
    """End what was begun for a guest, decide what it is worth now, and give it that.

    Raises:
        SwapTrouble: The monitor does not answer as it should.
        OSError: The folder cannot be read or written.
    """
    owner = owner_of(guest.monitor.pid, guest.where)
    name = home.name_for(owner, guest.monitor.called)
    home.make_folder(name, owner)
    with home.folder(name) as folder:
        passed = _pass(home, folder, guest.monitor, settings, pace, now_us)
        nothing = not folder.files()
    if nothing:
        home.remove_folder(name)
    return passed


def _pass(  # noqa: PLR0913, PLR0917  # where, whose, by what, since when, and the moment
    home: Home,
    folder: Folder,
    monitor: Monitor,
    settings: SwapSettings,
    pace: Pace,
    now_us: int,
) -> Passed:
    said = list(_end_what_was_begun(folder, monitor))
    files = _as_the_guest_has_them(folder, monitor.disks())
    decision = decide(settings, pace, files, now_us)
    if not isinstance(decision, Grow):
        return Passed(decision, pace, tuple(said))
    try:
        said.append(_grow(home, folder, monitor, decision))
    except SwapTrouble as trouble:
        after = pace_after_failure(pace, settings, now_us)
        return Passed(decision, after, tuple(said), trouble)
    return Passed(decision, pace, tuple(said))


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


def _as_the_guest_has_them(folder: Folder, disks: Sequence[Disk]) -> list[SwapFile]:
    sizes = {file.name: file.size_bytes for file in folder.files()}
    return [SwapFile(disk.name, disk.size_bytes or sizes.get(disk.name, 0)) for disk in disks]


def _grow(home: Home, folder: Folder, monitor: Monitor, wanted: Grow) -> str:
    name, size_bytes = wanted
    short_by = home.room().short_by(size_bytes)
    if short_by:
        raise NoRoom(
            f"{home.path}: {size_bytes >> 20} MiB of swap, what other files there may still take, "
            f"and 1 GiB for others do not fit: {-(-short_by >> 20)} MiB are missing"
        )
    uid, gid = identity(monitor.pid)
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


def give_back(home: Home, guest: Guest, names: Sequence[str]) -> Iterator[str]:
    """Take disks away from a guest that does not swap to them any more, and delete their files.

    Args:
        home: Where the files are.
        guest: Whose.
        names: Of the files; all if none is named.

    Raises:
        SwapTrouble: One of the names is none, or the guest does not let a disk go.
    """
    owner = owner_of(guest.monitor.pid, guest.where)
    folder_name = home.name_for(owner, guest.monitor.called)
    disks = {disk.name: disk for disk in guest.monitor.disks()}
    for name in names:
        if name not in disks:
            raise SwapTrouble(f"{guest.where} has no {name}, but {', '.join(sorted(disks)) or '-'}")
    home.make_folder(folder_name, owner)
    with home.folder(folder_name) as folder:
        for name in names or sorted(disks):
            guest.monitor.remove(name)
            yield _delete(folder, disks[name])
        left = folder.files()
    if not left:
        home.remove_folder(folder_name)


def _delete(folder: Folder, disk: Disk) -> str:
    ours = f"{folder.path}/{disk.name}"
    if disk.path not in ("", ours):
        return f"{disk.path} is no disk any more; it lies elsewhere and stays"
    folder.remove(disk.name)
    return f"{ours} is no disk any more and is deleted"
