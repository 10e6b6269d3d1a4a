"""Who is at the other end of a unix socket, as the kernel saw them when they connected.

Source: unix(7), SO_PEERCRED; net/core/sock.c, SO_PEERGROUPS
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from kernelio.errors import Unsupported

__all__ = ["PeerCredentials", "read_peer_credentials"]

_SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h, since Linux 4.13
_CREDENTIALS = struct.Struct("=iII")  # struct ucred
_GROUPS_MAX = 256  # Python asks for 1024 bytes at most
_NAME = "SO_PEERCRED"  # stands for a path in errors


class PeerCredentials(NamedTuple):
    """Who connected.

    Args:
        pid: Their process; it may be gone, and the number another's.
        uid: Their effective user.
        groups: Their effective group first, then the others; of somebody in more than 256 groups
            the first alone.
    """

    pid: int
    uid: int
    groups: tuple[int, ...]


def read_peer_credentials(stream: socket.socket) -> PeerCredentials:
    """Ask the kernel who connected.

    Raises:
        Unsupported: It is no unix socket, or nobody is connected.
    """
    try:
        asked = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError as error:
        raise Unsupported(_NAME, os.strerror(error.errno or 0)) from error
    pid, uid, gid = _CREDENTIALS.unpack(asked)
    if pid <= 0 and uid == gid == 2**32 - 1:  # what other families answer
        raise Unsupported(_NAME, "no unix socket")
    return PeerCredentials(pid, uid, (gid, *_other_groups(stream)))


def _other_groups(stream: socket.socket) -> tuple[int, ...]:
    """Supplementary groups; none where the kernel does not tell them."""
    try:
        data = stream.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_MAX * 4)
    except OSError:  # no such option, or more groups: who may then not be known, may less
        return ()
    return struct.unpack(f"={len(data) // 4}I", data)
