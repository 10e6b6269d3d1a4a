"""How long a compaction waits for free memory to settle.

A compaction moves what lies between the free pages. What was touched a moment ago may be evicted
soon: to move it is in vain, and the hole that it leaves then makes another compaction pay, which
moves the rest once more. Once a turn has evicted much of what lay between them, or free memory has
lain in pieces for as long as memory takes to become cold, what is still there is in use and stays.
"""

from __future__ import annotations

from memreact.events import Instant
from memreact.policy.state import Settling
from memreact.rules import Rules
from memreact.value import replace

__all__ = ["by_eviction", "settled", "settled_at", "settles_us", "waited"]

_MUCH = 4
"""A turn that evicted this share of what is hoped for has decided about the memory around."""

_MANY_MORE = 2
"""So many times what was hoped for, and the wait begins anew: a rush goes on, or is just over."""

_TURNS_APART = 2
_LONGEST_WAITS = 2
_LONGEST_PERIODS = 6


def settles_us(rules: Rules) -> int:
    """How long memory has to lie still: until what was touched before is evicted or proven in use.

    Two turns later than memory becomes cold: what is touched just after a turn is aged by the next
    one, and the one after the last finds it cold. No longer than six checks, whatever memory that
    may become cold in a week; and nothing where nothing is evicted.
    """
    mine = rules.base
    if mine.disabled:
        return 0
    cold_us = (mine.aging_count_min + _TURNS_APART) * mine.period_us
    return min(cold_us, _LONGEST_PERIODS * rules.compact.period_us)


def by_eviction(evicted_bytes: int, expected_bytes: int) -> bool:
    """Whether the turn just before decided about the memory around: what it left is in use.

    Args:
        evicted_bytes: What it evicted.
        expected_bytes: What a compaction should make reportable.
    """
    return evicted_bytes * _MUCH >= expected_bytes > 0


def waited(known: Settling | None, expected_bytes: int, now: Instant) -> Settling:
    """Take in that a compaction would pay now.

    Args:
        known: Since when one would; None where the last look found nothing that pays.
        expected_bytes: What it should bring.
        now: The moment.
    """
    if known is None:
        return Settling(now, now, expected_bytes)
    if expected_bytes >= _MANY_MORE * known.expected_bytes:
        return replace(known, grown_at=now, expected_bytes=expected_bytes)
    return known


def settled(expected_bytes: int, settles_us: int, now: Instant) -> Settling:
    """What has settled already, and stays so until it has been gathered."""
    long_ago = Instant(now - _LONGEST_WAITS * settles_us)
    return Settling(long_ago, long_ago, expected_bytes)


def settled_at(known: Settling, settles_us: int) -> Instant:
    """When it begins at the latest, however often the wait began anew."""
    longest_us = _LONGEST_WAITS * settles_us
    return Instant(min(known.grown_at + settles_us, known.since + longest_us))
