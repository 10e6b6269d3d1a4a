"""Two readings of memreact's ledger beside the host's figures, and whether they add up. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from memreact_schemas.status import LedgerStatus

__all__ = ["Reading", "difference_percent", "table"]

_MIB = 1 << 20


class Reading(NamedTuple):
    """One moment.

    Args:
        held_bytes: Guest memory that the host holds.
        ledger: What the guest says.
    """

    held_bytes: int
    ledger: LedgerStatus


def table(first: Reading, last: Reading) -> str:
    """Where what was evicted is, in MiB: what the host has back, and what it has not, by cause."""
    rows = [*_rows(first, last)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {_mib(size)}".rstrip() for name, size in rows)


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / _MIB:8.1f}"


def _rows(first: Reading, last: Reading) -> Iterator[tuple[str, int | None]]:
    taken, before = last.ledger.since_start, first.ledger.since_start
    yield "evicted, file", taken.evicted_file_bytes - before.evicted_file_bytes
    yield "evicted, anonymous", taken.evicted_anon_bytes - before.evicted_anon_bytes
    yield "taken by zram for that", before.zram_taken_bytes - taken.zram_taken_bytes
    yield "= evicted, net", evicted_bytes(first, last)
    yield "", None
    yield "returned, by what the host holds", returned_bytes(first, last)
    for cause, size in still_held(first, last).items():
        yield f"still held: {cause.replace('_', ' ')}", size
    yield "= all of these", accounted_bytes(first, last)
    yield "", None
    yield "reported more, by the guest", _reported(last) - _reported(first)
    yield "difference", evicted_bytes(first, last) - accounted_bytes(first, last)


def evicted_bytes(first: Reading, last: Reading) -> int:
    """What evictions gave, less what zram took for it."""
    return _net(last) - _net(first)


def _net(reading: Reading) -> int:
    tally = reading.ledger.since_start
    return tally.evicted_file_bytes + tally.evicted_anon_bytes - tally.zram_taken_bytes


def returned_bytes(first: Reading, last: Reading) -> int:
    """By so much less the host holds."""
    return first.held_bytes - last.held_bytes


def still_held(first: Reading, last: Reading) -> dict[str, int]:
    """What was evicted and the host has not back, by cause; negative is what it got besides."""
    then, now = first.ledger.free_held_bytes, last.ledger.free_held_bytes
    causes = {cause: now.get(cause, 0) - then.get(cause, 0) for cause in {**then, **now}}
    causes["used_again"] = last.ledger.used_again_estimate_bytes
    causes["used_again"] -= first.ledger.used_again_estimate_bytes
    causes["freed_by_others"] = first.ledger.freed_by_others_estimate_bytes
    causes["freed_by_others"] -= last.ledger.freed_by_others_estimate_bytes
    return {cause: size for cause, size in causes.items() if size}


def accounted_bytes(first: Reading, last: Reading) -> int:
    """What the host has back and what it has not."""
    return returned_bytes(first, last) + sum(still_held(first, last).values())


def difference_percent(first: Reading, last: Reading) -> float:
    """How far what was evicted is from that, in percent of what the host has back."""
    difference = evicted_bytes(first, last) - accounted_bytes(first, last)
    return 100 * difference / max(1, returned_bytes(first, last))


def _reported(reading: Reading) -> int:
    return reading.ledger.reported_bytes or 0
