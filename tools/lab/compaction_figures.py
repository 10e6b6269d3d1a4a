"""What the rows of `make compaction` hold, as a file and as a table, and which aims were missed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

__all__ = ["Figures", "read_rows", "table", "verdicts", "written"]

_MIB = 1 << 20
_FREE_HELD_MOST = 12 * _MIB
_HALF = 2

_NAMES = {
    "none": "reporting alone",
    "evict": "+ eviction",
    "threshold": '+ compaction, "threshold"',
    "gain": '+ compaction, "gain"',
    "gain-5": "the same, reporting order 5",
    "mixed-none": "mixed: reporting alone",
    "mixed-evict": "mixed: + eviction",
    "mixed-threshold": 'mixed: + compaction, "threshold"',
    "mixed-gain": 'mixed: + compaction, "gain"',
    "mixed-gain-5": "mixed: the same, reporting order 5",
}
_HEAD = (
    "",
    "held",
    "free",
    "free, held",
    "never told",
    "pinned",
    "evicted",
    "moved",
    "a MiB",
    "runs",
    "job s",
    "cpu s",
)


class Figures(msgspec.Struct):
    """One row.

    Args:
        name: Its key.
        release: Of the guest's kernel.
        took_s: From the job's begin to the figures.
        held_bytes: Guest memory that the host holds at the end.
        free_bytes: Free in the guest then.
        free_held_bytes: Free in the guest, and the host holds it nevertheless.
        never_told_bytes: Of that, in zones that the kernel reports nothing of at this order.
        pinned_bytes: Of that, in 2 MiB that hold pages of the kernel's own, which do not move.
        migrated_pages: Pages that moved, whoever moved them.
        worked_us: How long the job's processes worked, all together.
        cpu_us: Processor time of memreact.
        evicted_bytes: What it took.
        zram_bytes: Of that, what zram took.
        compactions: How many began.
        compact_us: How long they ran.
        expected_bytes: What they were to make reportable.
        gained_bytes: What they did.
        because: Why free memory was or was not compacted, and how often.
        free_held: What memreact says of free memory that the host was not told of.
    """

    name: str
    release: str
    took_s: float
    held_bytes: int
    free_bytes: int
    free_held_bytes: int
    migrated_pages: int
    worked_us: int | None = None
    cpu_us: int | None = None
    evicted_bytes: int | None = None
    zram_bytes: int | None = None
    compactions: int | None = None
    compact_us: int | None = None
    expected_bytes: int | None = None
    gained_bytes: int | None = None
    because: dict[str, int] = {}
    never_told_bytes: int = 0
    pinned_bytes: int = 0
    free_held: dict[str, int] = {}


def read_rows(data: bytes) -> dict[str, Figures]:
    """Rows by name, of a file that `written` made."""
    lines = [line for line in data.splitlines() if line]
    rows = [msgspec.json.decode(line, type=Figures) for line in lines]
    return {row.name: row for row in rows}


def written(rows: Mapping[str, Figures]) -> bytes:
    """One line of JSON a row."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows.values())


def table(rows: Mapping[str, Figures]) -> str:
    """The rows in columns: MiB, thousands of pages, pages for a MiB given back, seconds."""
    lines = [_HEAD, *(_line(rows[name], rows) for name in _NAMES if name in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEAD))]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def _line(row: Figures, rows: Mapping[str, Figures]) -> tuple[str, ...]:
    each = _pages_a_mib(row, rows)
    return (
        _NAMES[row.name],
        _mib(row.held_bytes),
        _mib(row.free_bytes),
        f"{row.free_held_bytes / _MIB:.1f}",
        f"{row.never_told_bytes / _MIB:.1f}",
        f"{row.pinned_bytes / _MIB:.1f}",
        _mib(row.evicted_bytes),
        f"{row.migrated_pages / 1000:.1f}",
        "-" if each is None else f"{each:.0f}",
        "-" if row.compactions is None else str(row.compactions),
        _seconds(row.worked_us),
        _seconds(row.cpu_us),
    )


def _pages_a_mib(row: Figures, rows: Mapping[str, Figures]) -> float | None:
    """Pages that moved for each MiB that the host has back beyond what eviction alone gives."""
    without = rows.get("mixed-evict" if row.name.startswith("mixed") else "evict")
    if without is None or row.held_bytes >= without.held_bytes:
        return None
    return row.migrated_pages * _MIB / (without.held_bytes - row.held_bytes)


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / _MIB:.0f}"


def _seconds(time_us: int | None) -> str:
    return "-" if time_us is None else f"{time_us / 1e6:.1f}"


def verdicts(rows: Mapping[str, Figures]) -> list[str]:
    """What was not reached, in words; rows that are not there are not judged."""
    missed = []
    gain, threshold, mixed = rows.get("gain"), rows.get("threshold"), rows.get("mixed-gain")
    if gain is not None and threshold is not None:
        if gain.held_bytes > threshold.held_bytes:
            missed.append(
                f'"gain" leaves {_mib(gain.held_bytes)} MiB with the host, '
                f'"threshold" {_mib(threshold.held_bytes)}'
            )
        missed += _moves_too_much(gain, threshold, rows)
    if mixed is not None and mixed.free_held_bytes >= _FREE_HELD_MOST:
        held, never = mixed.free_held_bytes / _MIB, mixed.never_told_bytes / _MIB
        missed.append(
            f"{held:.1f} MiB of the mixed workload's free memory stay with the host: {never:.1f} "
            f"that the kernel never tells of, {mixed.pinned_bytes / _MIB:.1f} beside its own pages"
        )
    return missed


def _moves_too_much(
    gain: Figures, threshold: Figures, rows: Mapping[str, Figures]
) -> Iterator[str]:
    """Compared at the same give-back; where one gave nothing back, as they are."""
    each, other = _pages_a_mib(gain, rows), _pages_a_mib(threshold, rows)
    if each is None or other is None:
        each, other = gain.migrated_pages, threshold.migrated_pages
    if each * _HALF > other:
        yield (
            f'"gain" moves {gain.migrated_pages} pages, "threshold" {threshold.migrated_pages}: '
            f"for the same give-back {each / other:.2f} as many, more than half"
        )
