"""Reading and writing one small kernel file, and what its errno means."""

from __future__ import annotations

import errno
import os

from kernelio.errors import Interrupted, KernelioError, Refused, Unsupported, Vanished

__all__ = ["Record", "meaning_of", "read_bytes", "read_record", "write_bytes"]

_BLOCK = 65536
_RECORD = 4096
_LACKING = {
    errno.EOPNOTSUPP: "switched off in this kernel",
    errno.EACCES: "not permitted",
    errno.EPERM: "not permitted",
    errno.EROFS: "mounted read-only",
    errno.ENOTDIR: "not there",
}


def read_bytes(path: str, *, fixed: bool = False) -> bytes:
    """Read the whole file.

    Args:
        path: The file.
        fixed: Its directory belongs to the kernel build, not to a memcg or a device that comes and
            goes, so that a missing directory is a missing ability too.

    Raises:
        Vanished: Its directory is gone too, or the object behind it is.
        Unsupported: The directory is there and the file is not, or may not be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read_to_the_end(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise meaning_of(error, path, fixed=fixed) from error


def read_record(path: str, *, fixed: bool = False) -> bytes:
    """Read a file of one record of less than a page, which the first read gives whole.

    Errors are those of read_bytes.

    Source: Documentation/filesystems/seq_file.rst
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _RECORD)
        finally:
            os.close(fd)
    except OSError as error:
        raise meaning_of(error, path, fixed=fixed) from error


class Record:
    """A file of one record that is read again and again, by one call each time.

    Args:
        path: The file; it stays open until `close`.

    Raises:
        Vanished, Unsupported: As read_bytes.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise meaning_of(error, path) from error

    def read(self) -> bytes:
        """Read what it says now.

        Raises:
            Vanished: The object behind it is gone.
        """
        try:
            return os.pread(self._fd, _RECORD, 0)
        except OSError as error:
            raise meaning_of(error, self.path) from error

    def close(self) -> None:
        """Close it; once."""
        os.close(self._fd)


def _read_to_the_end(fd: int) -> bytes:
    # A seq file ends each read at a record, so a short read is no end: only an empty one is.
    parts = []
    while block := os.read(fd, _BLOCK):
        parts.append(block)
    return b"".join(parts)


def write_bytes(path: str, data: bytes, *, fixed: bool = False) -> None:
    """Write `data` in one call; for writes that are over at once (no kick breaks them off).

    Args:
        path: The file.
        data: The words for the kernel.
        fixed: As for reading.

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
        raise meaning_of(error, path, fixed=fixed) from error


def meaning_of(error: OSError, path: str, *, fixed: bool = False) -> KernelioError:
    """Translate the errno of an operation on `path` into our words."""
    number = error.errno or 0
    if number == errno.EINTR:
        return Interrupted(path)
    if number in (errno.ENODEV, errno.ESRCH):
        return Vanished(path)
    if number == errno.ENOENT:
        if fixed:
            return Unsupported(path, "not in this kernel")
        stays = os.path.isdir(os.path.dirname(path))
        return Unsupported(path, "no such file here") if stays else Vanished(path)
    if number in _LACKING:
        return Unsupported(path, _LACKING[number])
    return Refused(path, number, os.strerror(number))
