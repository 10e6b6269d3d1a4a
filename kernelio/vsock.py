"""AF_VSOCK: a guest's sockets to its host, without a network.

uvloop takes no stream socket of this family. It takes one of AF_UNIX, and then reads and writes the
file descriptor without asking for its family again, so an accepted connection is handed on under
that name.

Source: vsock(7)
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from kernelio.errors import KernelioError, Refused, Unsupported

__all__ = ["CID_HOST", "CID_LOCAL", "accept", "as_unix", "local_cid", "open_listener"]

CID_LOCAL = 1
"""Loop-back: a process of any user of this guest."""

CID_HOST = 2

_CID_ANY = _PORT_ANY = 2**32 - 1
_GET_LOCAL_CID = 0x7B9  # IOCTL_VM_SOCKETS_GET_LOCAL_CID, include/uapi/linux/vm_sockets.h
_DEVICE = "/dev/vsock"
# Pythons built without vsock's header lack the name; Linux has the family.
_FAMILY = getattr(socket, "AF_VSOCK", 40)
_LACKING = {
    errno.EAFNOSUPPORT: "this kernel has no AF_VSOCK",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.EPERM: "not permitted",
}


def open_listener(port: int, backlog: int = 64) -> socket.socket:
    """Listen on a port for every CID; the socket is the caller's to close, and does not block.

    Raises:
        Unsupported: The kernel has no AF_VSOCK, or we may not have this port.
        Refused: The port is taken, or is none.
    """
    if not 0 <= port < _PORT_ANY:  # Python would cut it down to one
        raise Refused(f"vsock port {port}", errno.EINVAL, "no port has this number")
    try:
        listener = socket.socket(_FAMILY, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _meaning_of(error, port) from error
    try:
        listener.bind((_CID_ANY, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _meaning_of(error, port) from error
    return listener


def local_cid(device: str = _DEVICE) -> int:
    """Read this guest's own CID; 1 where the only transport is loop-back.

    Raises:
        Unsupported: There is no such device, or it is none of vsock.
    """
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            answer = fcntl.ioctl(fd, _GET_LOCAL_CID, b"\0\0\0\0")
        finally:
            os.close(fd)
    except OSError as error:
        raise Unsupported(device, os.strerror(error.errno or 0)) from error
    return int(struct.unpack("=I", answer)[0])


def accept(listener: socket.socket) -> tuple[socket.socket, int, int]:
    """Accept a connection, as a loop takes it, with the peer's CID and port.

    Raises:
        BlockingIOError: Nobody is waiting.
        OSError: As accept(2) tells: no file descriptor is left, or the peer is gone again.
    """
    stream, (cid, port) = listener.accept()
    return as_unix(stream), cid, port


def as_unix(stream: socket.socket) -> socket.socket:
    """Hand a stream on under the family that a loop takes; the old object is empty afterwards."""
    handed_on = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=stream.detach())
    handed_on.settimeout(0)
    return handed_on


def _meaning_of(error: OSError, port: int) -> KernelioError:
    name = f"vsock port {port}"
    number = error.errno or 0
    if number in _LACKING:
        return Unsupported(name, _LACKING[number])
    return Refused(name, number, os.strerror(number))
