"""A small program that runs beside us, and that any thread may kill at any moment.

Not a fork of the daemon: posix_spawn shares our memory until the program is in place. By way of the
libc, because os.posix_spawn keeps the interpreter's lock until then, which on a guest that has to
read the program from disk is long enough to miss a stop.

Source: posix_spawn(3), pidfd_open(2), waitid(2)
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from kernelio.errors import Unsupported
from kernelio.files import meaning_of

__all__ = ["Child"]

_LIBC = ctypes.CDLL(None, use_errno=True)
# A posix_spawn_file_actions_t is opaque, and has 80 bytes in glibc and in musl.
_FILE_ACTIONS_BYTES = 512
_STDOUT = 1
_LONGEST_MS = 2**31 - 1  # poll(2) takes an int


class Child:
    """One program at a time; the object lives as long as those that may want to kill.

    The pidfd keeps its number from the first program on, so that a kill that comes too late meets
    the next program or one that has ended, never a file of somebody else. A pidfd does not mean
    another process once its own is gone, as a pid may.
    """

    __slots__ = ("_pidfd",)

    def __init__(self) -> None:
        self._pidfd = -1

    def start(self, argv: Sequence[str], stdout: int) -> None:
        """Start a program whose parent, as PR_SET_PDEATHSIG means it, is the calling thread.

        Args:
            argv: Absolute path of the program, and its arguments.
            stdout: What it writes to; it has our stdin and stderr, and no other fd.

        Raises:
            Refused: The guest cannot have one more process now: EAGAIN, ENOMEM.
            Unsupported: There is no such program, or it may not be run; or SIGCHLD is ignored, so
                that the kernel would forget a child before we could say which one we mean.
        """
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            raise Unsupported(argv[0], "SIGCHLD is ignored: no child could be waited for")
        pid = _spawn(argv, stdout)
        try:
            self._keep(os.pidfd_open(pid))
        except OSError as error:
            # Nobody else waits for it, so the pid is its own until we do.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise meaning_of(error, "pidfd_open") from error

    def _keep(self, pidfd: int) -> None:
        if self._pidfd < 0:
            self._pidfd = pidfd
            return
        try:
            os.dup2(pidfd, self._pidfd, inheritable=False)
        finally:
            os.close(pidfd)

    def kill(self) -> None:
        """Kill it, from any thread; nothing happens where none runs."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def ends_within(self, timeout_ms: float) -> bool:
        """Wait for its end; whether that came in time."""
        waiting = select.poll()
        waiting.register(self._pidfd, select.POLLIN)
        return bool(waiting.poll(min(max(0, timeout_ms), _LONGEST_MS)))

    def reap(self) -> int:
        """Wait for its end, and leave no zombie.

        Returns:
            Its exit status, or minus the number of the signal that ended it.
        """
        # It is None with WNOHANG alone.
        ended = cast("os.waitid_result", os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED))
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def close(self) -> None:
        """Let go of the pidfd, when no thread may kill any more."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _spawn(argv: Sequence[str], stdout: int) -> int:
    words = [os.fsencode(word) for word in argv]
    pid = ctypes.c_int()
    number = _posix_spawn(pid, words, stdout)
    if number == errno.ENOENT:
        raise Unsupported(argv[0], "no such program")
    if number:
        raise meaning_of(OSError(number, os.strerror(number)), argv[0])
    return pid.value


def _posix_spawn(pid: ctypes.c_int, words: Sequence[bytes], stdout: int) -> int:
    """Call it with an empty environment; returns 0 or an errno."""
    actions = ctypes.create_string_buffer(_FILE_ACTIONS_BYTES)
    arguments = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    environment = (ctypes.c_char_p * 1)(None)
    number: int = _LIBC.posix_spawn_file_actions_init(actions)
    if number:
        return number
    try:
        number = _LIBC.posix_spawn_file_actions_adddup2(actions, stdout, _STDOUT)
        if not number and hasattr(_LIBC, "posix_spawn_file_actions_addclosefrom_np"):
            # All of ours close by themselves; a fd of a trigger that did not would keep it armed.
            number = _LIBC.posix_spawn_file_actions_addclosefrom_np(actions, _STDOUT + 2)
        return number or _LIBC.posix_spawn(
            ctypes.byref(pid), words[0], actions, None, arguments, environment
        )
    finally:
        _LIBC.posix_spawn_file_actions_destroy(actions)
