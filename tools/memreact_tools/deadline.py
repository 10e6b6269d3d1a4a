"""One limit of time for all that is sent and received, however small the pieces."""

from __future__ import annotations

import errno
import socket
import time

__all__ = ["Deadline"]

_AT_ONCE_S = 0.001  # 0 would mean something else


class Deadline:
    """Ends once what a stream may take has passed, whether or not anything comes meanwhile.

    Args:
        seconds: From now on; None is for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds
        self._late = False

    def left(self) -> float | None:
        """Return the seconds that are left; None if there is no limit.

        Raises:
            TimeoutError: There are none.
        """
        if self._at is None:
            return None
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "timed out")
        return left

    def receive(self, stream: socket.socket, size: int) -> bytes:
        """Receive up to so many bytes, for no longer than is left.

        What lies there already is received once when no time is left: whoever was stopped for a
        while, by a signal or with the whole machine, has its answer all the same.

        Raises:
            OSError: The connection broke, or no time is left.
        """
        stream.settimeout(self._left_or_at_once())
        return stream.recv(size)

    def _left_or_at_once(self) -> float | None:
        try:
            return self.left()
        except TimeoutError:
            if self._late:
                raise
            self._late = True
            return _AT_ONCE_S
