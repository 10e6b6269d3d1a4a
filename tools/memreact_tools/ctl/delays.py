"""What processes waited, for people."""

from __future__ import annotations

from memreact_schemas.status import Delays
from memreact_tools.ctl.amounts import bounded

__all__ = ["delays_in_words", "milliseconds"]


def milliseconds(us: int) -> str:
    """Write a length of time in milliseconds, with a digit behind the point where it is short."""
    us = bounded(us)
    return f"{us / 1000:.0f} ms" if us >= 10_000 or not us else f"{us / 1000:.1f} ms"  # noqa: PLR2004  # digits that say something


def delays_in_words(delays: Delays) -> str:
    """Say what processes waited, by kind, in milliseconds."""
    kinds = (
        ("reclaim", delays.reclaim_us),
        ("swap-in", delays.swap_in_us),
        ("thrashing", delays.thrashing_us),
        ("compaction", delays.compact_us),
        ("disk", delays.block_io_us),
    )
    told = ", ".join(f"{name} {milliseconds(us)}" for name, us in kinds if us is not None)
    many = "1 process" if delays.processes == 1 else f"{delays.processes} processes"
    gone = f", {delays.gone} ended" * bool(delays.gone)
    out = f", {delays.left_out} not asked" * bool(delays.left_out)
    return f"{told} ({many}{gone}{out})"
