"""By how much the kernel may let a wait of the calling thread end late."""

from __future__ import annotations

import ctypes

__all__ = ["timer_slack_ns"]

_PR_GET_TIMERSLACK = 30  # include/uapi/linux/prctl.h
_LIBC = ctypes.CDLL(None)


def timer_slack_ns() -> int:
    """Ask the kernel. Source: PR_GET_TIMERSLACK(2const)."""
    slack_ns: int = _LIBC.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0)
    return slack_ns
