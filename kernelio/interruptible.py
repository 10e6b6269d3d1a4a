"""Writes that a signal can break off in the middle of the kernel's loop.

os.write goes on after a signal (PEP 475), so an eviction written with it cannot be stopped. The
libc's own write returns EINTR instead, once the kick signal has a handler that does not ask for
restarts.

Source: signal(7), "Interruption of system calls and library functions by signal handlers".
"""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = ["KICK_SIGNAL", "install_kick_handler", "kick", "write_interruptibly"]

KICK_SIGNAL: int = signal.SIGRTMIN + 3

# What the kernel sends in its stead where it cannot queue it (fcntl(2), F_SETSIG).
_WHERE_THE_QUEUE_IS_FULL = signal.SIGIO

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_LIBC.write.restype = ctypes.c_ssize_t


def install_kick_handler() -> None:
    """Make the kick signal break off system calls; call it once, on the main thread.

    Not with loop.add_signal_handler(): that sets SA_RESTART, and the kernel would take up again
    what we broke off. An ignored signal breaks off nothing either, so the handler does nothing.
    """
    for number in (KICK_SIGNAL, _WHERE_THE_QUEUE_IS_FULL):
        signal.signal(number, _do_nothing)
        signal.siginterrupt(number, True)  # noqa: FBT003  # positional only


def _do_nothing(_number: int, _frame: object) -> None:
    """Be there: what counts is the EINTR."""


def write_interruptibly(fd: int, data: bytes) -> int:
    """Write `data` once, without the interpreter's lock, and return the bytes taken.

    Raises:
        OSError: Of the errno's own class; InterruptedError means that a kick broke it off, and that
            what the kernel did until then stays done.
    """
    written: int = _LIBC.write(fd, data, len(data))
    if written < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return written


def kick(thread_id: int) -> None:
    """Break off the system call that a thread is in.

    A kick that lands before the thread is in the kernel is lost: repeat it until the thread says
    that it is done. One at a thread that just ended does no harm, but a thread that is kicked
    should live as long as those who kick it: its id (threading.get_ident) is an address.

    Args:
        thread_id: What threading.get_ident() returned on that thread.
    """
    # The queue of signals may be full for a moment, of ours or of others of this user.
    try:  # noqa: SIM105  # whoever waits for this kick pays for each call on its way
        signal.pthread_kill(thread_id, KICK_SIGNAL)
    except (ProcessLookupError, BlockingIOError):
        pass
