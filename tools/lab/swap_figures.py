"""What a guest with swap showed, and whether it is what it should. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Held", "Tier", "failures", "table"]

_MIB = 1 << 20
_LEAST_BACK_BYTES = 250_000_000
# What the kernel reads in beside, and a page that was looked at in the wrong moment.
_FAULTS_MORE = 16


@dataclass(frozen=True, slots=True)
class Held:
    """What was held, and what the hot part had to read back, at one moment.

    Args:
        host_bytes: Of the guest's memory, by the host.
        hot_faults: Major faults of the hot part, in a window of time that ends here.
    """

    host_bytes: int
    hot_faults: int


@dataclass(frozen=True, slots=True)
class Tier:
    """One kind of swap.

    Args:
        name: Of it.
        before: Without memreact.
        after: After the periods.
        file_bytes: What the host's file takes then; None where there is none.
        file_swapped_bytes: What the guest has swapped out to it.
        zram_stored_bytes: The same to zram, before it is compressed.
        zram_taken_bytes: What zram takes of the guest's memory for that.
        zram_ledger_bytes: What it took for evictions, by memreact's ledger.
        came_back_right: The cold part was read whole, and is what it was.
        gone: The swap was removed, its file with it, and zram was put back by a final stop.
    """

    name: str
    before: Held
    after: Held
    file_bytes: int | None
    file_swapped_bytes: int
    zram_stored_bytes: int
    zram_taken_bytes: int
    zram_ledger_bytes: int
    came_back_right: bool
    gone: bool

    @property
    def back_bytes(self) -> int:
        """By so much less is held by the host: what zram takes is held, so it is net."""
        return self.before.host_bytes - self.after.host_bytes


_ROWS: tuple[tuple[str, Callable[[Tier], str]], ...] = (
    ("held by the host before, MiB", lambda t: _mib(t.before.host_bytes)),
    ("held by the host after, MiB", lambda t: _mib(t.after.host_bytes)),
    ("back at the host, net, MiB", lambda t: _mib(t.back_bytes)),
    ("the host's file takes, MiB", lambda t: _mib(t.file_bytes)),
    ("swapped out to it, MiB", lambda t: _mib(t.file_swapped_bytes)),
    ("swapped out to zram, MiB", lambda t: _mib(t.zram_stored_bytes)),
    ("zram takes for that, MiB", lambda t: _mib(t.zram_taken_bytes)),
    ("the same by the ledger, MiB", lambda t: _mib(t.zram_ledger_bytes)),
    ("hot part's major faults before", lambda t: str(t.before.hot_faults)),
    ("and after, in as long", lambda t: str(t.after.hot_faults)),
    ("the cold part came back right", lambda t: _yes(t.came_back_right)),
    ("removed, no file or zram left", lambda t: _yes(t.gone)),
)


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / _MIB:.0f}"


def _yes(answer: bool) -> str:  # noqa: FBT001  # our own
    return "yes" if answer else "NO"


def table(tiers: Sequence[Tier]) -> str:
    """Every figure, a column for each kind."""
    head = ("", *(tier.name for tier in tiers))
    rows = [head, *((name, *(cell(tier) for tier in tiers)) for name, cell in _ROWS)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    return "  ".join(
        [first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    )


def failures(tiers: Sequence[Tier]) -> list[str]:
    """Return what is not as it should be, a sentence each."""
    return [f"{tier.name}: {said}" for tier in tiers for said in _of(tier)]


def _of(tier: Tier) -> Iterator[str]:
    if tier.back_bytes < _LEAST_BACK_BYTES:
        yield f"only {_mib(tier.back_bytes)} MiB are back at the host"
    more = tier.after.hot_faults - tier.before.hot_faults
    if more > _FAULTS_MORE:
        yield f"the hot part had {more} major faults more"
    if not tier.came_back_right:
        yield "what was swapped out did not come back right"
    if not tier.gone:
        yield "the swap was removed, and its file or zram is not gone"
    if tier.file_bytes is not None and not _is_in(tier.file_bytes, tier.file_swapped_bytes):
        yield "what was swapped out is not in the host's file"
    if not tier.file_swapped_bytes + tier.zram_stored_bytes:
        yield "nothing was swapped out"
    if bool(tier.zram_ledger_bytes) != bool(tier.zram_taken_bytes):
        yield "what zram takes is not what memreact's ledger knows of"


def _is_in(file_bytes: int, swapped_bytes: int) -> bool:
    """Whether a file takes what was written to it; pages of zeros are not written."""
    return swapped_bytes > 0 and file_bytes * 10 >= swapped_bytes * 9
