"""Being told of changes to files and directories; a cgroup's event files are watched this way.

A cgroup that is removed shows only as IN_DELETE on its parent's watch, and its event files as
IN_MODIFY, at most one in 10 ms, without their content.

Source: inotify(7); kernfs_notify() in fs/kernfs/file.c.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from kernelio.errors import MalformedReading, Refused, Vanished
from kernelio.files import meaning_of

__all__ = [
    "IN_ATTRIB",
    "IN_CLOSE_WRITE",
    "IN_CREATE",
    "IN_DELETE",
    "IN_DELETE_SELF",
    "IN_IGNORED",
    "IN_ISDIR",
    "IN_MASK_ADD",
    "IN_MODIFY",
    "IN_MOVED_FROM",
    "IN_MOVED_TO",
    "IN_MOVE_SELF",
    "IN_ONLYDIR",
    "IN_Q_OVERFLOW",
    "IN_UNMOUNT",
    "Inotify",
    "Watched",
    "parse_events",
]

IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_UNMOUNT: Final = 0x2000
IN_Q_OVERFLOW: Final = 0x4000  # wd is -1: events were lost, look at everything again
IN_IGNORED: Final = 0x8000  # the watch is gone
IN_ONLYDIR: Final = 0x1000000
IN_MASK_ADD: Final = 0x20000000
IN_ISDIR: Final = 0x40000000

_HEAD = struct.Struct("iIII")  # wd, mask, cookie, length of the name: struct inotify_event
_ONE_READ = 16384  # bytes: some 500 events, so that a storm leaves the reader its turn
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Watched(NamedTuple):
    """One event: the watch, what happened, and the entry's name if the watch is on a directory."""

    wd: int
    mask: int
    name: str


def parse_events(data: bytes) -> list[Watched]:
    """Parse what one read of an inotify fd returned.

    Raises:
        MalformedReading: It ends in the middle of an event.
    """
    return list(_events_in(data))


def _events_in(data: bytes) -> Iterator[Watched]:
    at = 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise _cut_off(data[at:])
        wd, mask, _cookie, length = _HEAD.unpack_from(data, at)
        name_at = at + _HEAD.size
        if name_at + length > len(data):
            raise _cut_off(data[at:])
        # The name is padded with NULs to a multiple of the head's size.
        name = data[name_at : name_at + length].partition(b"\0")[0]
        yield Watched(wd, mask, os.fsdecode(name))
        at = name_at + length


def _cut_off(rest: bytes) -> MalformedReading:
    return MalformedReading("inotify", rest.hex(), "a whole struct inotify_event")


def _os_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class Inotify:
    """One queue of events, readable like any fd, so that a loop can watch it.

    Raises:
        Refused: This user has too many of them already.
    """

    def __init__(self) -> None:
        self._fd: int = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            error = _os_error()
            detail = f"{error.strerror}: raise fs.inotify.max_user_instances"
            raise Refused("inotify", error.errno or 0, detail) from error

    def fileno(self) -> int:
        """Give the fd to wait for."""
        return self._fd

    def add(self, path: str, mask: int) -> int:
        """Watch a file or directory and return the watch's number.

        A path that is watched already keeps its number and gets the new mask. What happened before
        is not told: look at the file after adding.

        Raises:
            Vanished: There is no such file.
            Refused: No watches are left.
        """
        wd: int = _LIBC.inotify_add_watch(self._fd, os.fsencode(path), mask)
        if wd >= 0:
            return wd
        error = _os_error()
        if error.errno == errno.ENOENT:
            raise Vanished(path) from error
        if error.errno == errno.ENOSPC:
            detail = "no inotify watches left: raise fs.inotify.max_user_watches"
            raise Refused(path, errno.ENOSPC, detail) from error
        raise meaning_of(error, path) from error

    def remove(self, wd: int) -> None:
        """Stop a watch; one that is gone already is none the worse. IN_IGNORED follows."""
        if _LIBC.inotify_rm_watch(self._fd, wd) < 0:
            error = _os_error()
            if error.errno != errno.EINVAL:
                raise meaning_of(error, "inotify") from error

    def read(self) -> list[Watched]:
        """Take some of the events that wait, oldest first; none is an empty list.

        Not all at once: while more wait the fd stays readable.
        """
        try:
            data = os.read(self._fd, _ONE_READ)
        except BlockingIOError:
            return []
        except OSError as error:
            raise meaning_of(error, "inotify") from error
        return parse_events(data)

    def close(self) -> None:
        """Close the queue and with it all watches."""
        os.close(self._fd)
