"""TCP on 127.0.0.1 alone: what listens there is reached by no other machine.

Source: ip(7), tcp(7)
"""

from __future__ import annotations

import errno
import os
import socket

from kernelio.errors import KernelioError, Refused, Unsupported

__all__ = ["accept", "open_listener"]

_HERE = "127.0.0.1"
_LACKING = {
    errno.EAFNOSUPPORT: "no AF_INET: this kernel has no IPv4, or the unit that runs us forbids it",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.EPERM: "not permitted",
}


def open_listener(port: int, backlog: int = 64) -> socket.socket:
    """Listen on a port; the socket is the caller's to close, and does not block.

    Raises:
        Unsupported: There is no IPv4 for us, or we may not have this port.
        Refused: The port is taken.
    """
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _meaning_of(error, port) from error
    try:
        # Else a port stays taken for a minute after the last one who listened there.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HERE, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _meaning_of(error, port) from error
    return listener


def accept(listener: socket.socket) -> tuple[socket.socket, None]:
    """Accept a connection, which does not block; nothing tells who it is.

    Raises:
        BlockingIOError: Nobody is waiting.
        OSError: As accept(2) tells: no file descriptor is left, or the peer is gone again.
    """
    stream, _ = listener.accept()
    stream.settimeout(0)
    return stream, None


def _meaning_of(error: OSError, port: int) -> KernelioError:
    name, number = f"port {port} of {_HERE}", error.errno or 0
    if number in _LACKING:
        return Unsupported(name, _LACKING[number])
    return Refused(name, number, os.strerror(number))
