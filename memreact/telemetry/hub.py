"""Who follows the stream: each has a queue of its own, and nobody waits for a slow one.

The queues share their rows: all of them together hold what the longest one holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from memreact_schemas.status import DecisionRow, Status

__all__ = ["Hub", "Item", "Subscription"]

Item = DecisionRow | Status
"""What is told while it happens."""


class Subscription:
    """What one follower has not read yet: so many decisions, and the newest status.

    A status is of use only as the newest, and it is large: the next one takes its place.

    Args:
        hub: Where it is from.
        limit: Says how many decisions wait at the most; the oldest leave first, and are counted.
        ready: Told when something waits and nothing did before.
        decisions: Whether decisions are wanted.
        status: Whether status is wanted.
    """

    def __init__(
        self,
        hub: Hub,
        limit: Callable[[], int],
        ready: Callable[[], None],
        *,
        decisions: bool,
        status: bool,
    ) -> None:
        self._hub = hub
        self._ready = ready
        self._limit = limit
        self._rows: deque[DecisionRow] = deque()
        self._status: Status | None = None
        self.wants_decisions = decisions
        self.wants_status = status
        self.dropped = 0
        """Decisions that were left out, so far, because nobody read them in time."""

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._rows) + (self._status is not None)

    def take(self) -> Item | None:
        """Take the oldest decision, then the status; None when nothing waits."""
        if self._rows:
            return self._rows.popleft()
        status, self._status = self._status, None
        return status

    def close(self) -> None:
        """Follow no longer; what waits is let go."""
        self._hub.leave(self)
        self._rows.clear()
        self._status = None

    def put(self, item: Item) -> bool:
        """Let it wait, if it is wanted; returns whether a decision had to go for it.

        A status that a newer one replaces is no loss: it would have said less.
        """
        was_empty = not self
        if isinstance(item, Status):
            if not self.wants_status:
                return False
            full = False
            self._status = item
        else:
            if not self.wants_decisions:
                return False
            self._rows.append(item)
            full = len(self._rows) > self._limit()
            if full:
                self._rows.popleft()
        self.dropped += full
        if was_empty:
            self._ready()
        return full


class Hub:
    """Gives each item to all who follow; without any it costs nothing, and it never waits."""

    def __init__(self) -> None:
        self._followers: tuple[Subscription, ...] = ()
        self.deserted: Callable[[], None] = lambda: None
        """Called when the last one who wants status has left."""
        self.dropped = 0
        """Decisions that any of them, also those who left, did not read in time."""

    @property
    def subscribers(self) -> int:
        """How many follow."""
        return len(self._followers)

    @property
    def wants_decisions(self) -> bool:
        """Whether anybody would be given a decision: look before making a row."""
        return any(each.wants_decisions for each in self._followers)

    @property
    def wants_status(self) -> bool:
        """Whether anybody would be given a status: look before making one."""
        return any(each.wants_status for each in self._followers)

    def subscribe(
        self,
        limit: Callable[[], int],
        ready: Callable[[], None],
        *,
        decisions: bool = True,
        status: bool = False,
    ) -> Subscription:
        """Follow from now on, until `close`.

        Args:
            limit: Says how many decisions wait at the most; asked whenever another one comes.
            ready: Called when something waits and nothing did before; it must not wait itself.
            decisions: Be given decisions.
            status: Be given status.
        """
        follower = Subscription(self, limit, ready, decisions=decisions, status=status)
        self._followers = (*self._followers, follower)
        return follower

    def publish(self, item: Item) -> None:
        """Give an item to all who want it."""
        for follower in self._followers:  # a tuple: whoever is told may leave
            self.dropped += follower.put(item)

    def leave(self, follower: Subscription) -> None:
        """Give it nothing more; a second time changes nothing."""
        wanted = self.wants_status
        self._followers = tuple(each for each in self._followers if each is not follower)
        if wanted and not self.wants_status:
            self.deserted()
