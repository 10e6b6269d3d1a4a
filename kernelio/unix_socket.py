"""Listening on a unix socket that has a name in the file system.

Source: unix(7)
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from kernelio.errors import KernelioError, Refused, Unsupported

__all__ = ["find_group", "give_to_group", "open_listener"]

_MODE_ROOT_ALONE = 0o600
_MODE_GROUP_TOO = 0o660
_UNCHANGED = -1


def find_group(name: str) -> int | None:
    """Look a group's number up; None where there is no such group."""
    import grp  # noqa: PLC0415  # a daemon without a group never needs it

    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError, OSError):
        return None


def open_listener(path: str, *, group: int | None, backlog: int = 64) -> socket.socket:
    """Listen on a path; a socket there that nobody listens on any more is replaced.

    The socket gets its name when it has its mode and its group and listens, so that nobody connects
    to one that is not finished.

    Args:
        path: Its name.
        group: May connect beside root; None for root alone.
        backlog: Connections that wait to be accepted.

    Returns:
        A socket that does not block, the caller's to close; the name stays.

    Raises:
        Refused: Somebody listens there, or it is no socket, or the file system says no.
        Unsupported: We may not, or the folder is not there.
    """
    _refuse_if_taken(path)
    unfinished = f"{path}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        listener.bind(unfinished)
        give_to_group(unfinished, group)
        listener.listen(backlog)
        os.rename(unfinished, path)
    except (OSError, KernelioError) as error:
        listener.close()
        with suppress(OSError):
            os.unlink(unfinished)
        raise _meaning_of(error, path) from error
    return listener


def give_to_group(path: str, group: int | None) -> None:
    """Say who may connect: root, and a group if one is named.

    Raises:
        Refused: The file system says no.
        Unsupported: We may not.
    """
    try:
        os.chmod(path, _MODE_ROOT_ALONE)  # nobody of another group in between
        if group is not None:
            os.chown(path, _UNCHANGED, group)
            os.chmod(path, _MODE_GROUP_TOO)
    except OSError as error:
        raise _meaning_of(error, path) from error


def _refuse_if_taken(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError as error:
            if _is_socket(path):
                return  # whoever listened is gone
            raise Refused(path, errno.EEXIST, "there is something that is no socket") from error
        except OSError as error:
            if error.errno != errno.EAGAIN:  # EAGAIN: somebody listens, and is busy
                raise _meaning_of(error, path) from error
    raise Refused(path, errno.EADDRINUSE, "somebody listens there already")


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode)


def _meaning_of(error: OSError | KernelioError, path: str) -> KernelioError:
    if isinstance(error, KernelioError):
        return error
    number = error.errno or 0
    detail = os.strerror(number) if number else str(error)  # a path that is too long has no errno
    lacking = number in {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS}
    return Unsupported(path, detail) if lacking else Refused(path, number, detail)
