"""What is counted as it happens, for metrics: how fast things went, and what is gone by now.

It is kept whether or not anybody reads it, so it is small: a few lists of numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from memreact.actions import Decision
from memreact.events import BatchEnded, Event, Instant, MemcgAppeared, MemcgGone
from memreact.policy.state import Counters, State

__all__ = ["RATE_BOUNDS", "STOP_BOUNDS_US", "Measures", "Spread", "counts_of"]

STOP_BOUNDS_US = (
    *(500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000),
    *(100_000, 200_000, 500_000, 1_000_000, 5_000_000),
)
"""Microseconds from what breaks an eviction off until its write has returned."""

RATE_BOUNDS = tuple(1 << shift for shift in range(20, 36, 2))
"""Bytes a second that one write evicts: 1 MiB to 16 GiB."""

_US_PER_SEC = 1_000_000


class Spread:
    """How many values lie between each two bounds.

    Args:
        bounds: The upper ends, rising; what is over the last one has a place too.
    """

    __slots__ = ("bounds", "each", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.each = [0] * (len(bounds) + 1)
        self.total = 0

    def add(self, value: int) -> None:
        """Count one."""
        self.each[bisect_left(self.bounds, value)] += 1
        self.total += value


class Measures:
    """What happened so far; told of each event, on the loop alone."""

    def __init__(self) -> None:
        self.decisions: Counter[tuple[str, str]] = Counter()
        """How many of each verdict, with its reason."""
        self.gone: Counter[str] = Counter()
        """What memcgs had counted that are gone, or whose path has another one now."""
        self.stops_by_stall = Spread(STOP_BOUNDS_US)
        self.stops_by_others = Spread(STOP_BOUNDS_US)
        self.rates = Spread(RATE_BOUNDS)
        self._before = State()
        self._stalled_at: Instant | None = None
        self._asked_at: Instant | None = None
        self._broken_off: BatchEnded | None = None

    def begins(self) -> None:
        """Take in that work is handed out: whatever stops from now on stops that."""
        self._stalled_at = self._asked_at = None

    def stalled(self, at: Instant) -> None:
        """Take in when a trigger fired; it breaks off whatever is being written."""
        ended, self._broken_off = self._broken_off, None
        if ended is not None and ended.ended_at - ended.took_us <= at <= ended.ended_at:
            self.stops_by_stall.add(ended.ended_at - at)  # its end came in first
        elif self._stalled_at is None:
            self._stalled_at = at

    def asked_to_stop(self, at: Instant) -> None:
        """Take in when the policy, or changed settings, broke off what is being written."""
        if self._asked_at is None:
            self._asked_at = at

    def observe(
        self, event: Event, state: State, decisions: Sequence[Decision], taken_bytes: int
    ) -> None:
        """Take in an event.

        Args:
            event: What happened.
            state: After it.
            decisions: What was decided on it.
            taken_bytes: What it evicted, where it is the end of a write.
        """
        for decision in decisions:
            self.decisions[decision.verdict, decision.because.code] += 1
        match event:
            case MemcgGone() | MemcgAppeared():
                self._count_gone(event.path, state)
            case BatchEnded():
                self._batch(event, taken_bytes)
            case _:
                pass
        self._before = state

    def _count_gone(self, path: str, state: State) -> None:
        before, now = self._before.memcgs.get(path), state.memcgs.get(path)
        if before is not None and (now is None or now.inode != before.inode):
            self.gone.update(counts_of(before.counters))

    def _batch(self, ended: BatchEnded, taken_bytes: int) -> None:
        if taken_bytes > 0 and ended.took_us > 0:
            self.rates.add(taken_bytes * _US_PER_SEC // ended.took_us)
        self._broken_off = None
        if ended.outcome != "broken_off":
            return
        if self._stalled_at is not None:
            self.stops_by_stall.add(max(0, ended.ended_at - self._stalled_at))
        elif self._asked_at is not None:
            self.stops_by_others.add(max(0, ended.ended_at - self._asked_at))
        else:
            self._broken_off = ended


def counts_of(counters: Counters) -> dict[str, int]:
    """All that one memcg counts, by name; a reason's name begins with `because:`."""
    return {
        "agings": counters.agings,
        "evictions": counters.evictions,
        "evicted_pages": counters.evicted_pages,
        **{f"because:{code}": times for code, times in counters.because.items()},
    }
