"""The way from a thread to the loop: a queue, and one fd that uvloop can read."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

_Item = TypeVar("_Item")
# A turn of the loop takes no more than this, so that a stop never waits behind a burst.
_AT_ONCE = 64


class Mailbox(Generic[_Item]):
    """Posted by any thread, drained by the loop; a burst wakes it once."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable while something waits."""
        return self._fd

    def post(self, item: _Item) -> None:
        """Leave an item for the loop."""
        self._items.append(item)
        os.eventfd_write(self._fd, 1)

    def drain(self) -> Iterator[_Item]:
        """Take what waits, oldest first, a bounded number; the rest wakes the loop again."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return
        try:
            for _ in range(_AT_ONCE):
                if not self._items:
                    return
                yield self._items.popleft()
        finally:  # whoever took them may have been stopped by an error of its own
            if self._items:
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Give the fd back."""
        os.close(self._fd)
