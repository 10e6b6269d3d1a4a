"""The last decisions, all of them, in memory: bounded; and as the rows that are told."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from memreact.actions import Decision
from memreact.events import Instant
from memreact_schemas.status import DecisionRow

__all__ = ["INT_MAX", "DecisionLog", "as_text", "row_of"]

INT_MAX = 2**63 - 1
"""The largest number that Varlink holds."""

_OF_FREE_MEMORY = frozenset({"back_off", "compact", "compacted", "skip"})


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

    def rows(self, since: int = 0) -> Iterator[DecisionRow]:
        """Those that are kept and were made after number `since`, oldest first."""
        first = self.made - len(self._rows) + 1
        skipped = max(0, since + 1 - first)
        kept = islice(tuple(self._rows), skipped, None)  # those of now, whoever reads how slowly
        numbered = enumerate(kept, first + skipped)
        return (row_of(number, at, decision) for number, (at, decision) in numbered)

    def rows_on(self, path: str, most: int) -> tuple[DecisionRow, ...]:
        """The last ones on a memcg and on the guest, oldest first; of compactions none.

        Free memory in pieces is nobody's: a compaction says nothing about a memcg.

        Args:
            path: Of the memcg.
            most: How many, at most.
        """
        found: deque[tuple[int, Instant, Decision]] = deque(maxlen=most)
        for number, (at, decision) in enumerate(self._rows, self.made - len(self._rows) + 1):
            guests = not decision.path and decision.verdict not in _OF_FREE_MEMORY
            if guests or decision.path == path:
                found.append((number, at, decision))
        return tuple(row_of(*each) for each in found)

    def __iter__(self) -> Iterator[tuple[Instant, Decision]]:
        """Oldest first."""
        return iter(self._rows)

    def __len__(self) -> int:
        """How many are kept now."""
        return len(self._rows)


def row_of(number: int, at: Instant, decision: Decision) -> DecisionRow:
    """A decision as it is told.

    Args:
        number: How many were made with it; 0 where nobody counted.
        at: When it was made.
        decision: What was decided.
    """
    saw = decision.because.saw
    return DecisionRow(
        number=number,
        at_us=at,
        verdict=decision.verdict,
        because=decision.because.code,
        path=as_text(decision.path),
        node=decision.node,
        figures={k: min(v, INT_MAX) for k, v in saw.items() if not isinstance(v, str)},
        words={k: as_text(v) for k, v in saw.items() if isinstance(v, str)},
    )


def as_text(name: str) -> str:
    """A name as it can be told: what is no text in it, as the kernel allows, is escaped."""
    return name if name.isascii() else name.encode(errors="backslashreplace").decode()
