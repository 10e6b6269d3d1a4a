"""What a crowd of cgroups costs the daemon and memreact-top, in words."""

from __future__ import annotations

from typing import NamedTuple

from lab.counted_top import Counts

__all__ = ["Span", "table"]


class Span(NamedTuple):
    """What the daemon took over a while.

    Args:
        seconds: How long that was.
        cpu_us: Its processor time, its children's included.
        turns: It made.
        anon_bytes: Its anonymous memory at the end.
    """

    seconds: float
    cpu_us: int
    turns: int
    anon_bytes: int


def table(alone: Span, looked_at: Span, counts: Counts) -> str:
    """The figures in words.

    Args:
        alone: The daemon, while nobody looks.
        looked_at: The same with memreact-top.
        counts: Of memreact-top.
    """
    rows = {
        "the daemon, nobody looks": _span(alone),
        "the daemon, looked at": _span(looked_at),
        "memreact-top": _top(counts),
        "what came to it": _came(counts),
        "lost": f"{counts.left_out} decisions not told in time, {counts.dropped} not taken in time",
    }
    return "\n".join(f"{name:26}{told}" for name, told in rows.items())


def _span(span: Span) -> str:
    share = _percent(span.cpu_us, span.seconds)
    return f"{share} in {span.turns} turns, {span.anon_bytes / (1 << 20):.1f} MiB anonymous"


def _top(counts: Counts) -> str:
    missed = max(0, counts.frames_due - counts.frames)
    dropped = f"{missed} of {counts.frames_due} frames dropped"
    shown = f"{counts.shown / counts.seconds:.1f} a second shown"
    used = f"{_percent(counts.cpu_us, counts.seconds)}, {counts.resident_bytes >> 20} MiB"
    return f"{used}; {dropped}, {shown}"


def _came(counts: Counts) -> str:
    readings = f"{counts.readings / counts.seconds:.1f} readings"
    decisions = f"{counts.decisions / counts.seconds:.0f} decisions a second"
    return f"{readings} and {decisions}; all cgroups {counts.trees} times"


def _percent(cpu_us: int, seconds: float) -> str:
    return f"{cpu_us / seconds / 1e4:.1f} % of a CPU"
