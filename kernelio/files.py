"""Reading one small kernel file, and what its errno means."""

from __future__ import annotations

import errno
import os

from kernelio.errors import KernelioError, Refused, Unsupported, Vanished

__all__ = ["meaning_of", "read_bytes", "write_bytes"]

_BLOCK = 65536
_LACKING = {
    errno.EOPNOTSUPP: "switched off in this kernel",
    errno.EACCES: "not permitted",
    errno.EPERM: "not permitted",
    errno.EROFS: "mounted read-only",
    errno.ENOTDIR: "not there",
}


def read_bytes(path: str) -> bytes:
    """Read the whole file.

    Raises:
        Vanished: Its directory is gone too, or the object behind it is.
        Unsupported: The directory is there and the file is not, or may not be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            first = os.read(fd, _BLOCK)
            if len(first) < _BLOCK // 16:  # seq files end at a record, not at our buffer
                rest = os.read(fd, _BLOCK)
                if not rest:
                    return first
                first += rest
            parts = [first]
            while block := os.read(fd, _BLOCK):
                parts.append(block)
            return b"".join(parts)
        finally:
            os.close(fd)
    except OSError as error:
        raise meaning_of(error, path) from error


def write_bytes(path: str, data: bytes) -> None:
    """Write `data` in one call; for writes that are over at once (no kick breaks them off).

    Raises:
        Vanished, Unsupported: As for reading.
        Refused: The kernel does not accept these words now.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise meaning_of(error, path) from error


def meaning_of(error: OSError, path: str) -> KernelioError:
    """Translate the errno of an operation on `path` into our words."""
    number = error.errno or 0
    if number in (errno.ENODEV, errno.ESRCH):
        return Vanished(path)
    if number == errno.ENOENT:
        alive = os.path.isdir(os.path.dirname(path))
        return Unsupported(path, "not in this kernel") if alive else Vanished(path)
    if number in _LACKING:
        return Unsupported(path, _LACKING[number])
    return Refused(path, number, os.strerror(number))
