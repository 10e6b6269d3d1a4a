"""The clocks, and a timer that fires when the wall clock is set: after a snapshot, mostly.

A paused or restored guest notices nothing on CLOCK_MONOTONIC and CLOCK_BOOTTIME. What it can notice
is somebody (the guest agent, chrony) setting CLOCK_REALTIME right.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

from kernelio.errors import Unsupported

__all__ = ["ClockStepWatch", "boottime_us", "monotonic_us"]

_NS_PER_US = 1000
_CLOCK_REALTIME = 0
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_FAR_FUTURE_S = 1 << 40  # 34,000 years: it never expires, it is only ever cancelled
_NAME = "timerfd"  # stands for a path in errors


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.timerfd_create.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.timerfd_create.restype = ctypes.c_int
_libc.timerfd_settime.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(_Itimerspec),
    ctypes.c_void_p,
)
_libc.timerfd_settime.restype = ctypes.c_int


def monotonic_us() -> int:
    """CLOCK_MONOTONIC in microseconds: stands still while the guest is suspended."""
    return time.monotonic_ns() // _NS_PER_US


def boottime_us() -> int:
    """CLOCK_BOOTTIME in microseconds: goes on while the guest is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NS_PER_US


class ClockStepWatch:
    """Tells that the wall clock was set; costs nothing while it is not.

    Raises:
        Unsupported: This kernel has no timerfd.

    Source: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET
    """

    def __init__(self) -> None:
        self._fd = _libc.timerfd_create(_CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise Unsupported(_NAME, os.strerror(ctypes.get_errno()))
        self._arm()

    def fileno(self) -> int:
        """Readable when the clock was set."""
        return int(self._fd)

    def read(self) -> bool:
        """Whether the clock was set since the last read; watches on either way."""
        try:
            os.read(self._fd, 8)
        except OSError as error:
            if error.errno == errno.ECANCELED:
                self._arm()
                return True
            if error.errno != errno.EAGAIN:
                raise Unsupported(_NAME, os.strerror(error.errno or 0)) from error
        return False

    def close(self) -> None:
        """Close the timer."""
        os.close(self._fd)

    def _arm(self) -> None:
        never = _Itimerspec(_Timespec(0, 0), _Timespec(_FAR_FUTURE_S, 0))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if _libc.timerfd_settime(self._fd, flags, ctypes.byref(never), None) < 0:
            number = ctypes.get_errno()
            # A set clock between two arms is reported by the arming itself, which still takes hold.
            if number != errno.ECANCELED:
                raise Unsupported(_NAME, os.strerror(number))
