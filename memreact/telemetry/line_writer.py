"""Writing lines to a descriptor of others that may be full: never waiting, and counting the lost.

A journald that is stopped, or a pipe that nobody reads, would else hold the loop for ever. The
descriptor's flags are not ours to change: whoever gave it shares them.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress

__all__ = ["LineWriter"]

Send = Callable[[bytes], int]
Close = Callable[[], None]
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_WARNING = "<4>"


class LineWriter:
    """Writes lines that may be lost, each whole or not at all, in order.

    Args:
        fd: Where to; it stays the caller's, with the flags that it has.
        under_systemd: Whether lines begin with `<priority>`.
    """

    def __init__(self, fd: int, *, under_systemd: bool = False) -> None:
        self._send, self._close = _opened(fd)
        self._prefix = _WARNING if under_systemd else ""
        self._rest = b""
        self._lost = 0

    def write(self, line: str) -> None:
        """Write a line, or count it; the next that goes is preceded by how many were lost."""
        if self._lost and self._put(f"{self._prefix}lines_lost n={self._lost}\n"):
            self._lost = 0
        if self._lost or not self._put(line):
            self._lost += 1

    def close(self) -> None:
        """Give back what was opened for it; nothing is written after that."""
        self._close()

    def _put(self, line: str) -> bool:
        """Begin a line where the one before has ended; once begun, its rest waits for room."""
        data = line.encode(errors="backslashreplace")
        try:
            self._rest = self._left_of(self._rest)
            if self._rest:
                return False
            left = self._left_of(data)
        except OSError:  # nobody listens any more: that is no reason to stop
            self._rest = b""
            return False
        begun = len(left) < len(data)
        self._rest = left if begun else b""
        return begun

    def _left_of(self, data: bytes) -> bytes:
        with suppress(BlockingIOError):
            while data:
                data = data[self._send(data) :]
        return data


def _opened(fd: int) -> tuple[Send, Close]:
    """A way to write that does not wait, whatever the descriptor is, and how to give it back."""
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISSOCK(kind):
            stream = socket.socket(fileno=os.dup(fd))
            return lambda data: stream.send(data, _FLAGS), stream.close
        if stat.S_ISFIFO(kind) or (stat.S_ISCHR(kind) and os.isatty(fd)):
            own = _reopened(fd)
            return lambda data: os.write(own, data), lambda: os.close(own)
    except OSError:  # closed, or not ours to open: written to as it is
        pass
    return lambda data: os.write(fd, data), lambda: None


def _reopened(fd: int) -> int:
    """The same file by a description of our own, so that its flags are ours."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    return os.open(f"/proc/self/fd/{fd}", flags)
