"""One limit of time for all that is sent and received, however small the pieces."""

from __future__ import annotations

import errno
import socket
import time

__all__ = ["Deadline"]


class Deadline:
    """Ends once what a stream may take has passed, whether or not anything comes meanwhile.

    Args:
        seconds: From now on; None is for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

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

        Raises:
            OSError: The connection broke, or no time is left.
        """
        stream.settimeout(self.left())
        return stream.recv(size)
