from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.buddy import FreeBlocks, parse_buddyinfo
from kernelio.errors import MalformedReading, Unsupported
from kernelio.pagetypeinfo import parse_movable, read_movable, small_pages
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

TYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
HEAD = (
    "Page block order: 9\nPages per block:  512\n\n"
    "Free pages count per migrate type at order       0      1      2 \n"
)
CAP = 100_000  # where mm/vmstat.c stops to count

_ROWS = st.lists(
    st.tuples(
        st.integers(0, 1023),
        st.sampled_from(["DMA", "DMA32", "Normal", "HighMem", "Movable", "Device"]),
        st.sampled_from(TYPES),
        st.lists(st.integers(0, CAP + 5), min_size=1, max_size=14),
    ),
    min_size=1,
)


def _printed(node: int, zone: str, kind: str, counts: list[int]) -> str:
    """As mm/vmstat.c, pagetypeinfo_showfree_print()."""
    cells = "".join(f"{'>' if count >= CAP else ''}{min(count, CAP):6} " for count in counts)
    return f"Node {node:4}, zone {zone:>8}, type {kind:>12} {cells}\n"


def _block_counts(rows: list[tuple[int, str, str, list[int]]]) -> str:
    """The second table, in which a zone that is called Movable looks much like a type."""
    names = "".join(f"{kind:>12} " for kind in TYPES)
    cells = "".join(f"{7:12} " for _ in TYPES)
    lines = "".join(f"Node {node}, zone {zone:>8} {cells}\n" for node, zone, _, _ in rows)
    return f"\nNumber of blocks type {names}\n{lines}"


@pytest.mark.parametrize("file", golden_files("proc/pagetypeinfo"))
def test_movable_pages_of_each_recorded_kernel_are_some_of_its_free_ones(file: str) -> None:
    rows = parse_movable(os.fsdecode(golden_text(file)), file)
    assert [(row.node, row.zone, len(row.counts)) for row in rows] == [
        (0, "DMA", 11),
        (0, "DMA32", 11),
    ]
    assert rows[0].counts[9:] == (1, 3)
    buddy = os.path.join(os.path.dirname(file), "buddyinfo")
    free = parse_buddyinfo(os.fsdecode(golden_text(buddy)), buddy)
    assert 0 < rows[1].counts[10] <= free[1].counts[10] + 4  # recorded a moment later


@given(_ROWS)
def test_reads_back_the_movable_rows_that_the_kernel_can_print(
    rows: list[tuple[int, str, str, list[int]]],
) -> None:
    text = HEAD + "".join(_printed(*row) for row in rows) + _block_counts(rows)
    assert list(parse_movable(text, "x")) == [
        FreeBlocks(node, zone, tuple(min(count, CAP) for count in counts))
        for node, zone, kind, counts in rows
        if kind == "Movable"
    ]


@given(
    st.text()
    | st.binary().map(os.fsdecode)
    | st.from_regex(r"Node +\d, zone +\w+, type +\w+ ( >?\d+)*")
)
def test_any_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        assert all(row.counts for row in parse_movable(text, "x"))


def test_a_count_that_the_kernel_capped_is_no_less_than_the_cap() -> None:
    text = "Node    0, zone   Normal, type      Movable >100000     10      0 \n"
    assert parse_movable(text, "x") == (FreeBlocks(0, "Normal", (100_000, 10, 0)),)


def test_a_row_with_a_word_among_its_counts_is_malformed() -> None:
    with pytest.raises(MalformedReading, match="count per order"):
        parse_movable("Node    0, zone   Normal, type      Movable      1    two \n", "x")


def test_a_kernel_that_shows_no_page_types_is_no_malformed_one(guest: FakeGuest) -> None:
    guest.shows("/proc/buddyinfo", "")
    with pytest.raises(Unsupported):
        read_movable(guest.layout)


@pytest.mark.parametrize(("order", "pages"), [(9, 128), (3, 32), (0, 0), (11, 12928)])
def test_counts_pages_in_blocks_below_the_order(guest: FakeGuest, order: int, pages: int) -> None:
    row = "Node    0, zone   Normal, type      Movable 10 5 3 2 1 0 1 0 0 7 9 \n"
    guest.shows("/proc/pagetypeinfo", HEAD + row.replace("Movable", "Reclaimable") + row)
    assert small_pages(read_movable(guest.layout), order) == pages
