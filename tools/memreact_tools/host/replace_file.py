"""A file's content exchanged at one moment: readers see all of the old or all of the new."""

from __future__ import annotations

import contextlib
import os

__all__ = ["read_text", "replace_text"]


def read_text(path: str) -> str:
    """Return what is in a file, its line ends as they are.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
    """
    with open(path, "rb") as file:
        return file.read().decode("utf-8")


def replace_text(path: str, text: str) -> None:
    """Write a file anew, with its old mode and owner; a symbolic link stays one.

    Raises:
        OSError: It could not be written; the old file is then untouched.
    """
    target = os.path.realpath(path)
    status = os.stat(target)
    beside = f"{target}.{os.getpid()}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            os.fchown(fd, status.st_uid, status.st_gid)
            os.fchmod(fd, status.st_mode & 0o7777)
            file.write(text.encode())
            file.flush()
            os.fsync(fd)
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    _sync_folder(os.path.dirname(target))


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
