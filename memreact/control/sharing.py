"""What connections share: turns of the loop, and memory for answers that nobody has read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["Sharing", "Turn", "Writing"]

UNREAD_BYTES_MAX = 16 << 20


class Writing(Protocol):
    """A connection that answers are written to."""

    @property
    def unread(self) -> int:
        """Bytes that wait to be read."""

    @property
    def may_be_left(self) -> bool:
        """Whether it may be ended so that there is memory for others."""

    def leave(self) -> None:
        """End it at once."""


class Turn:
    """Something that is done when its turn comes.

    Args:
        do: What is to be done.
    """

    def __init__(self, do: Callable[[], None]) -> None:
        self._do: Callable[[], None] | None = do

    def cancel(self) -> None:
        """Do it not."""
        self._do = None

    def take(self) -> bool:
        """Do it; False where nobody wants it any more."""
        do, self._do = self._do, None
        if do is None:
            return False
        do()
        return True


class Sharing:
    """Keeps those who may only read from holding the loop, or taking its memory.

    What they ask for is answered one after the other, one in each turn of the loop, whoever asks.

    Args:
        unread_max: Bytes that all of them together leave unread.
    """

    def __init__(self, unread_max: int = UNREAD_BYTES_MAX) -> None:
        self._unread_max = unread_max
        self._turns: deque[Turn] = deque()
        self._behind: dict[Writing, None] = {}

    def soon(self, do: Callable[[], None]) -> Turn:
        """Do something in a turn of the loop of its own, after what waits already."""
        turn = Turn(do)
        if not self._turns:
            asyncio.get_running_loop().call_soon(self._next)
        self._turns.append(turn)
        return turn

    def wrote(self, connection: Writing) -> None:
        """Look at how much is unread; whoever has left the most unread is left, if it is much."""
        self._behind[connection] = None
        self._behind = {each: None for each in self._behind if each.unread}
        while sum(each.unread for each in self._behind) > self._unread_max:
            spare = [each for each in self._behind if each.may_be_left]
            if not spare:
                return
            worst = max(spare, key=lambda each: each.unread)
            self.forget(worst)
            worst.leave()

    def forget(self, connection: Writing) -> None:
        """Count a connection no more."""
        self._behind.pop(connection, None)

    def _next(self) -> None:
        try:
            while self._turns and not self._turns[0].take():
                self._turns.popleft()
        finally:
            if self._turns:
                self._turns.popleft()
            if self._turns:
                asyncio.get_running_loop().call_soon(self._next)
