"""What results come to: medians, their spread, tables and pictures. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from lab.bench.results import Held, Micro, Run, Stops

__all__ = [
    "COLUMNS",
    "Column",
    "cpu_us",
    "gib_minutes",
    "given_back_bytes",
    "latencies",
    "micro_table",
    "run_table",
    "spread",
    "stops_summary",
    "stops_table",
    "summary",
    "time_to_s",
]

_MIB, _GIB = 1 << 20, 1 << 30
_MINUTE_S = 60
_LEAST_BYTES = 16 * _MIB  # a guest that nobody works on holds so much more or less
_INTERRUPTED = {
    "same": "stall in the same cgroup",
    "sibling": "stall in another",
    "disable": "told to stop",
}
_NOTHING = "nothing"
_MODEL = "model"


def gib_minutes(held: Sequence[Held]) -> float:
    """The area below what was held."""
    area = sum((a.held_bytes + b.held_bytes) / 2 * (b.at_s - a.at_s) for a, b in pairwise(held))
    return area / _GIB / _MINUTE_S


def given_back_bytes(run: Run) -> int:
    """By how much less was held at the end than at the start; 0 if it was more."""
    return _given_back(run.held)


def _given_back(held: Sequence[Held]) -> int:
    return max(0, held[0].held_bytes - held[-1].held_bytes)


def time_to_s(held: Sequence[Held], percent: int) -> float | None:
    """When so much of what was given back in the end had gone; None if it is nearly nothing."""
    first, last = held[0].held_bytes, held[-1].held_bytes
    if _given_back(held) < _LEAST_BYTES:
        return None
    until = first - (first - last) * percent / 100
    return next(each.at_s for each in held if each.held_bytes <= until)


def cpu_us(run: Run, usual_us: float) -> float:
    """What a rival used of the processors, with the kernel's threads that work for it.

    Args:
        run: Of the rival; a model's time outside of the kernel does not count.
        usual_us: What these threads use without a rival.
    """
    own = run.costs.system_us + (0 if run.rival == _MODEL else run.costs.user_us)
    return own + max(0.0, sum(run.costs.kernel_us.values()) - usual_us)


def usual_us(runs: Iterable[Run]) -> float:
    """What the kernel's threads use when nothing gives memory back: the median."""
    used = [sum(run.costs.kernel_us.values()) for run in runs if run.rival == _NOTHING]
    return statistics.median(used) if used else 0.0


class Column(NamedTuple):
    """A figure of a run; None where a run does not tell it.

    Args:
        name: With its unit.
        figure: What it is of a run, and of what the kernel's threads usually use.
        digits: Behind the point.
    """

    name: str
    figure: Callable[[Run, float], float | None]
    digits: int = 0


def _per_gib(run: Run, usual: float) -> float | None:
    back = given_back_bytes(run)
    if back < _LEAST_BYTES or run.rival == _NOTHING:
        return None
    return cpu_us(run, usual) / 1e6 / (back / _GIB)


def _seconds(value_us: int | None) -> float | None:
    return None if value_us is None else value_us / 1e6


def _millis(value_us: int | None) -> float | None:
    return None if value_us is None else value_us / 1e3


def _own_mib(size: int) -> float | None:
    return size / _MIB if size else None


COLUMNS: Sequence[Column] = (
    Column("held, start (MiB)", lambda run, _: run.held[0].held_bytes / _MIB),
    Column("held, end (MiB)", lambda run, _: run.held[-1].held_bytes / _MIB),
    Column("held (GiB·min)", lambda run, _: gib_minutes(run.held), 2),
    Column("T50 (s)", lambda run, _: time_to_s(run.held, 50)),
    Column("T90 (s)", lambda run, _: time_to_s(run.held, 90)),
    Column("free, yet held (MiB)", lambda run, _: run.free_held_bytes / _MIB),
    Column("CPU to start (s)", lambda run, _: _seconds(run.costs.start_us or None), 1),
    Column("CPU (s)", lambda run, usual: cpu_us(run, usual) / 1e6, 1),
    Column("CPU per GiB given back (s)", _per_gib, 1),
    Column("wake-ups (1/min)", lambda run, _: run.costs.switches * _MINUTE_S / run.seconds),
    Column("RSS (MiB)", lambda run, _: _own_mib(run.costs.rss_bytes), 1),
    Column("anon (MiB)", lambda run, _: _own_mib(run.costs.anon_bytes), 1),
    Column("private (MiB)", lambda run, _: _own_mib(run.costs.private_bytes), 1),
    Column("refaults (pages)", lambda run, _: run.harm.refaults),
    Column("major faults", lambda run, _: run.harm.major_faults),
    Column("stalled (ms)", lambda run, _: _millis(run.harm.stalled_us)),
    Column("passes over 5 ms", lambda run, _: run.harm.long_passes),
    Column("lost (ms)", lambda run, _: _millis(run.harm.lost_us)),
    Column("passes, requests, rounds", lambda run, _: run.harm.passes),
    Column("p50 (ms)", lambda run, _: _millis(run.harm.p50_us), 1),
    Column("p99 (ms)", lambda run, _: _millis(run.harm.p99_us), 1),
    Column("job (s)", lambda run, _: _seconds(run.harm.job_us), 2),
    Column("job again (s)", lambda run, _: _seconds(run.harm.rerun_us), 2),
    Column("steal (s)", lambda run, _: run.steal_us / 1e6, 1),
)
"""All figures of a run, in their order."""


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the least and the most beside it where they differ."""
    if not values:
        return "-"
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return middle if least == most else f"{middle} ({least} to {most})"


def run_table(runs: Sequence[Run]) -> str:
    """The rivals of one workload as columns of Markdown, a row for each figure that any has."""
    rivals = list(dict.fromkeys(run.rival for run in runs))
    usual = usual_us(runs)
    by_rival = {rival: [run for run in runs if run.rival == rival] for rival in rivals}
    rows = [
        (column.name, [_cell(column, by_rival[rival], usual) for rival in rivals])
        for column in COLUMNS
    ]
    told = [(name, cells) for name, cells in rows if any(cell != "-" for cell in cells)]
    return _markdown(["", *rivals], [[name, *cells] for name, cells in told])


def _cell(column: Column, runs: Sequence[Run], usual: float) -> str:
    values = [value for run in runs if (value := column.figure(run, usual)) is not None]
    return spread(values, column.digits)


def stops_table(stops: Sequence[Stops]) -> str:
    """Rivals as columns: how long evictions went on, how much they took, of all runs together."""
    rivals = list(dict.fromkeys(each.rival for each in stops))
    rows = []
    for kind, words in _INTERRUPTED.items():
        rows.append([f"{words}: ms until it stopped", *_stop_cells(stops, rivals, kind, 1e3)])
        rows.append([f"{words}: MiB taken until then", *_taken_cells(stops, rivals, kind)])
    return _markdown(["", *rivals], rows)


def latencies(stops: Iterable[Stops], rival: str, kind: str) -> list[int]:
    """All of one rival's, in microseconds."""
    return [us for each in stops if each.rival == rival for us in each.latency_us.get(kind, ())]


def _stop_cells(
    stops: Sequence[Stops], rivals: Sequence[str], kind: str, unit_us: float
) -> list[str]:
    return [spread([us / unit_us for us in latencies(stops, r, kind)], 1) for r in rivals]


def _taken_cells(stops: Sequence[Stops], rivals: Sequence[str], kind: str) -> list[str]:
    taken = {
        rival: [b for each in stops if each.rival == rival for b in each.taken_bytes.get(kind, ())]
        for rival in rivals
    }
    return [spread([size / _MIB for size in taken[rival]], 1) for rival in rivals]


def stops_summary(stops: Stops) -> str:
    """One run, in a line."""
    told = ", ".join(
        f"{kind} {spread([us / 1e3 for us in found], 1)} ms"
        for kind, found in stops.latency_us.items()
    )
    return f"stall, {stops.rival} {stops.number}: {told}; {stops.voids}"


def micro_table(measured: Iterable[Micro]) -> str:
    """Parts of memreact, a row for each: the latest where it was measured more than once."""
    latest = {each.name: each for each in measured}
    rows = [[name, *_micro_cells(each.values_us)] for name, each in latest.items()]
    return _markdown(["part", "median", "least", "most", "times"], rows)


def _micro_cells(values_us: Sequence[float]) -> list[str]:
    shown = (statistics.median(values_us), min(values_us), max(values_us))
    return [*(duration(value) for value in shown), str(len(values_us))]


def duration(value_us: float) -> str:
    """Three digits and a unit."""
    units: Mapping[str, float] = {"s": 1e6, "ms": 1e3, "us": 1.0}
    unit = next((u for u, size in units.items() if abs(value_us) >= size), "us")
    return f"{value_us / units[unit]:.3g} {unit}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))


def summary(run: Run) -> str:
    """The most important of one run, in a line."""
    first, last = run.held[0].held_bytes // _MIB, run.held[-1].held_bytes // _MIB
    harm = run.harm
    return (
        f"{run.workload}, {run.rival} {run.number}: held {first} to {last} MiB, "
        f"{gib_minutes(run.held):.2f} GiB min, CPU {cpu_us(run, 0) / 1e6:.1f} s, "
        f"{harm.major_faults} major faults, {harm.refaults} refaults, "
        f"{harm.long_passes} long passes; {run.note}"
    )
