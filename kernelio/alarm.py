"""Kicks that the kernel gives by itself, when a trigger of a cgroup's pressure file fires.

A thread that waits for a trigger needs the interpreter's lock before it can kick another one. But
from Linux 6.5 on a trigger on a cgroup's file tells inotify too, and an inotify fd can have one
thread sent a signal. So the kernel breaks the write off, whatever Python does at that moment.

It comes as well when somebody else's trigger on the same file fires: whoever is kicked finds out
what is the matter.

Source: cgroup_pressure_write() in kernel/cgroup/cgroup.c; kernfs_notify() in fs/kernfs/file.c;
fcntl(2), "Managing signals"
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from contextlib import suppress

from kernelio.errors import KernelioError
from kernelio.inotify import IN_MODIFY, Inotify
from kernelio.interruptible import KICK_SIGNAL

__all__ = ["Alarm"]

# <linux/fcntl.h>, the same on all architectures that Python's own F_SETSIG knows.
_F_SETOWN_EX, _F_OWNER_TID = 15, 0
_OWNER = struct.Struct("ii")  # struct f_owner_ex


class Alarm:
    """Files whose triggers have the kernel kick one thread.

    install_kick_handler() comes first: without a handler the signal ends the process.

    Raises:
        Refused: This user has too many inotify instances already.
    """

    def __init__(self) -> None:
        self._inotify = Inotify()

    def kick_this_thread(self) -> None:
        """Have the calling thread kicked from now on, for as long as it lives.

        Raises:
            OSError: The kernel sends no signals to single threads; none is known that does not.
        """
        fd = self._inotify.fileno()
        fcntl.fcntl(fd, _F_SETOWN_EX, _OWNER.pack(_F_OWNER_TID, threading.get_native_id()))
        fcntl.fcntl(fd, fcntl.F_SETSIG, KICK_SIGNAL)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)

    def watch(self, path: str) -> int:
        """Kick whenever this file is modified, and return the watch's number.

        Raises:
            Vanished: There is no such file.
            Refused: No inotify watches are left.
        """
        return self._inotify.add(path, IN_MODIFY)

    def unwatch(self, watch: int) -> None:
        """Kick no more for this file; one that is gone already is none the worse."""
        self._inotify.remove(watch)

    def set_again(self) -> None:
        """Forget what came so far; call it at the start of each write that is to be broken off.

        An event that is like the last one in the queue is merged with it, and is no signal.
        """
        with suppress(KernelioError):
            while self._inotify.read():
                pass

    def close(self) -> None:
        """End it."""
        self._inotify.close()
