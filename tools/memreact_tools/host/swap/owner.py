"""Whose a folder of swap files is: the process that runs the guest, and none that came after it."""

from __future__ import annotations

import contextlib
import os

import msgspec

from memreact_tools.host.swap.trouble import SwapTrouble

__all__ = ["Owner", "identity", "lives", "owner_of"]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Of /proc/PID/stat, counted behind the name, which may hold blanks itself.
_STARTED = 19


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A process that runs a guest; a number that is given again is another one.

    Args:
        boot: Of the host, as the kernel names it.
        pid: Of the process.
        started: Clock ticks from the boot until it started.
        monitor: Where its monitor is asked, as it was given.
        guest: Where its memreact is, as it was given; empty where it was not.
    """

    boot: str
    pid: int
    started: int
    monitor: str
    guest: str = ""


def owner_of(pid: int, monitor: str, guest: str = "", *, proc: str = "/proc") -> Owner:
    """Describe a process that lives.

    Raises:
        SwapTrouble: It does not, or it is not to be seen from here.
    """
    started = _started(pid, proc)
    if started is None:
        raise SwapTrouble(f"{monitor}: its process {pid} is not to be seen from here")
    return Owner(_boot(), pid, started, monitor, guest)


def lives(owner: Owner, *, proc: str = "/proc") -> bool:
    """Say whether that very process is still there."""
    return owner.boot == _boot() and _started(owner.pid, proc) == owner.started


def identity(pid: int, *, proc: str = "/proc") -> tuple[int, int]:
    """Return the user and the group by which a process opens files.

    Raises:
        SwapTrouble: It is gone.
    """
    found = {}
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/status", "rb") as file:
        for line in file:
            key, _, value = line.partition(b":")
            if key in (b"Uid", b"Gid"):
                found[key] = int(value.split()[3])  # of the file system
    if len(found) != len(("Uid", "Gid")):
        raise SwapTrouble(f"process {pid} is gone")
    return found[b"Uid"], found[b"Gid"]


def _boot() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _started(pid: int, proc: str) -> int | None:
    """Return when a process started; None if there is none, or only what its parent must reap."""
    try:
        with open(os.path.join(proc, str(pid), "stat"), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[_STARTED])
