"""What the interruptions come to: rows of figures, a table, and which aims were missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lab.workload import Line

__all__ = [
    "KINDS",
    "Kick",
    "Row",
    "kick_rows",
    "kicks_of",
    "percentile",
    "rows_of",
    "table",
    "verdicts",
    "voids",
    "who_was_first",
]

KINDS = {
    "same": "stall in the same cgroup",
    "sibling": "stall in a sibling",
    "settings": "settings file",
    "call": "call over vsock",
    "kata": "Kata's call over vsock",
}
"""What an eviction is interrupted by, and how the table calls it."""

_FIGURES = {
    "latency_us": "until the write returned",
    "answered_us": "until the caller was answered",
    "kicked_us": "until the kick (tracefs)",
    "wake_to_kick_us": "wake to kick (tracefs)",
    "pages": "pages until then",
    "pages_after_kick": "pages after the kick",
}
_WENT_ON = "went on to its own end"
_RESUMED = "went on once the totals were read"
# Microseconds, by (row's beginning, percentile).
_AIMS: dict[str, dict[tuple[str, int], int]] = {
    "tcg": {
        ("stall in the same cgroup: until the write", 50): 25_000,
        ("stall in a sibling: until the write", 50): 25_000,
        ("call over vsock: until the write", 50): 25_000,
        ("Kata's call over vsock: until the write", 50): 25_000,
        ("stall in the same cgroup: wake", 99): 5_000,
        ("stall in a sibling: wake", 99): 5_000,
        ("wake to kick", 99): 5_000,
    },
    "native": {("wake to kick", 50): 300, ("wake to kick", 99): 2_000},
}


class Row(NamedTuple):
    """One line of the table: what was measured, and all its values."""

    name: str
    values: tuple[int, ...]


class Kick(msgspec.Struct, frozen=True):
    """One round of lab.workloads.kick, from the kernel's wake of the waiting thread.

    Args:
        wake_to_kick_us: To whichever kick came first.
        returned_us: To the write having returned.
        by_kernel_us: To the kernel's own kick; None where it gave none.
        by_thread_us: To the waiting thread's.
    """

    wake_to_kick_us: int
    returned_us: int
    by_kernel_us: int | None = None
    by_thread_us: int | None = None


def kicks_of(printed: str) -> list[Kick]:
    """Read what lab.workloads.kick printed."""
    return [msgspec.json.decode(line, type=Kick) for line in printed.splitlines()]


def who_was_first(kicks: Sequence[Kick]) -> str:
    """How often the kernel's own kick came before the thread's, in words."""
    first = sum(each.by_kernel_us == each.wake_to_kick_us for each in kicks)
    return f"the kernel was first to kick {first} of {len(kicks)} times"


def kick_rows(name: str, kicks: Sequence[Kick]) -> list[Row]:
    """A row for the first kick, one for each way to be kicked that there was, and the end.

    Args:
        name: What the loop did meanwhile.
        kicks: At least one.
    """
    figures: dict[str, Sequence[int | None]] = {
        "wake to kick": [each.wake_to_kick_us for each in kicks],
        "wake to the kernel's own kick": [each.by_kernel_us for each in kicks],
        "wake to the thread's kick": [each.by_thread_us for each in kicks],
        "wake to write returned": [each.returned_us for each in kicks],
    }
    rows = [
        Row(f"{words}, {name}", tuple(us for us in values if us is not None))
        for words, values in figures.items()
    ]
    return [row for row in rows if row.values]


def percentile(values: Sequence[int], percent: int) -> int:
    """The nearest rank: a value that was measured."""
    ranked = sorted(values)
    return ranked[max(0, -(-percent * len(ranked) // 100) - 1)]


def rows_of(lines: Iterable[Line]) -> list[Row]:
    """Sort what the driver printed into rows; a figure that never came has no row."""
    told = list(lines)
    rows = [row for kind in KINDS for row in _of_kind(kind, told)]
    return [row for row in rows if row.values]


def _of_kind(kind: str, told: list[Line]) -> Iterator[Row]:
    mine = [line.figures for line in told if line.what == kind]
    for figure, words in _FIGURES.items():
        values = tuple(int(each[figure]) for each in mine if figure in each)
        yield Row(f"{KINDS[kind]}: {words}", values)
    resumed = tuple(int(e["latency_us"]) for e in mine if e.get("resumed"))
    yield Row(f"{KINDS[kind]}: {_RESUMED}", resumed)
    went_on = tuple(int(e["went_on_us"]) for e in mine if "went_on_us" in e)
    yield Row(f"{KINDS[kind]}: {_WENT_ON}", went_on)


def voids(lines: Iterable[Line]) -> str:
    """How many rounds told nothing and were repeated, and why, in a sentence."""
    why = Counter(reason for line in lines if line.what == "void" for reason in line.figures)
    counts = ", ".join(f"{count} {reason}" for reason, count in why.most_common())
    return f"rounds that were repeated: {counts or 'none'}"


def table(rows: Sequence[Row]) -> str:
    """The rows in columns: how many, p50, p99 and the largest; microseconds, or pages."""
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'':{width}}  {'n':>5} {'p50':>9} {'p99':>9} {'most':>9}"]
    for name, values in rows:
        p50, p99 = percentile(values, 50), percentile(values, 99)
        lines.append(f"{name:{width}}  {len(values):5} {p50:9,} {p99:9,} {max(values):9,}")
    return "\n".join(lines)


def verdicts(rows: Sequence[Row], wanted: Mapping[str, int], under: str) -> list[str]:
    """What was not reached, in words; empty when all was.

    Args:
        rows: What was measured.
        wanted: Interruptions that were asked for, by kind.
        under: "tcg" or "native".
    """
    missed = [
        f"{row.name}: p{percent} is {percentile(row.values, percent):,} us, aim {aim_us:,}"
        for (beginning, percent), aim_us in _AIMS[under].items()
        for row in rows
        if row.name.startswith(beginning) and percentile(row.values, percent) > aim_us
    ]
    missed += [f"{row.name}: {len(row.values)} times" for row in rows if _WENT_ON in row.name]
    return [*missed, *_too_few(rows, wanted)]


def _too_few(rows: Sequence[Row], wanted: Mapping[str, int]) -> Iterator[str]:
    for kind, rounds in wanted.items():
        words = KINDS[kind]
        name = f"{words}: {_FIGURES['latency_us']}"
        stopped = sum(len(row.values) for row in rows if row.name == name)
        if stopped < rounds:
            yield f"{words}: {stopped} of {rounds} evictions were interrupted"
