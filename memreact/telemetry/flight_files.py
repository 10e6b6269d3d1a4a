"""What the flight recorder leaves in a folder: a bounded number of files, for root alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["leave_file"]

_SUFFIX = ".jsonl.gz"


def leave_file(folder: str, source: str, stamp: str, members: Iterable[bytes], kept: int) -> str:
    """Write a file of the members of a gzip file, and remove the oldest of its kind.

    Args:
        folder: Where.
        source: Why; it begins the name.
        stamp: When, written so that names sort by it.
        members: What.
        kept: How many of this kind there may be, at least 1.

    Returns:
        Its path.

    Raises:
        OSError: There is no room, or no such folder.
    """
    begin = f"flight-{source}-"
    path = os.path.join(folder, f"{begin}{stamp}{_SUFFIX}")
    fresh = f"{path}.new"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with open(os.open(fresh, flags, 0o600), "wb") as file:
            file.writelines(members)
        os.replace(fresh, path)
    except OSError:
        with suppress(OSError):  # half of one is of no use
            os.unlink(fresh)
        raise
    names = sorted(name for name in os.listdir(folder) if name.startswith(begin))
    for name in names[:-kept]:
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))
    return path
