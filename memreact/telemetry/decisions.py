"""The last decisions, all of them, in memory: bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from memreact.actions import Decision
from memreact.events import Instant

__all__ = ["DecisionLog"]


class DecisionLog:
    """Keeps the newest; how many were ever made is counted.

    Args:
        kept: How many are kept.
    """

    def __init__(self, kept: int) -> None:
        self._rows: deque[tuple[Instant, Decision]] = deque(maxlen=kept)
        self.made = 0

    def add(self, at: Instant, decision: Decision) -> None:
        """Remember one."""
        self._rows.append((at, decision))
        self.made += 1

    def keep(self, kept: int) -> None:
        """Keep another number from now on, the newest of what is there first."""
        if kept != self._rows.maxlen:
            self._rows = deque(self._rows, maxlen=kept)

    def __iter__(self) -> Iterator[tuple[Instant, Decision]]:
        """Oldest first."""
        return iter(self._rows)

    def __len__(self) -> int:
        """How many are kept now."""
        return len(self._rows)
