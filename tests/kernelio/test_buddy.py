from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.buddy import FreeBlocks, parse_buddyinfo, read_buddyinfo, reportable_bytes
from kernelio.errors import MalformedReading
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

_ROW = st.builds(
    FreeBlocks,
    node=st.integers(0, 1023),
    zone=st.sampled_from(["DMA", "DMA32", "Normal", "HighMem", "Movable", "Device"]),
    counts=st.lists(st.integers(0, 2**63), min_size=1, max_size=20).map(tuple),
)


def _printed(row: FreeBlocks) -> str:
    """As mm/vmstat.c, frag_show_print()."""
    counts = "".join(f"{count:6} " for count in row.counts)
    return f"Node {row.node}, zone {row.zone:>8} {counts}\n"


@pytest.mark.parametrize("file", golden_files("proc/buddyinfo"))
def test_reads_what_each_recorded_kernel_printed(file: str) -> None:
    rows = parse_buddyinfo(os.fsdecode(golden_text(file)), file)
    assert {row.zone for row in rows} >= {"DMA32"}
    assert {len(row.counts) for row in rows} == {11}


@given(st.lists(_ROW))
def test_reads_back_every_table_the_kernel_can_print(rows: list[FreeBlocks]) -> None:
    assert list(parse_buddyinfo("".join(map(_printed, rows)), "x")) == rows


@given(st.text() | st.binary().map(os.fsdecode) | st.from_regex(r"Node \d, zone \w+( \d+)*"))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        rows = parse_buddyinfo(text, "x")
        assert all(row.counts for row in rows)


def test_counts_blocks_of_the_reporting_order_and_above(guest: FakeGuest) -> None:
    guest.shows(
        "/proc/buddyinfo",
        "Node 0, zone    DMA32      9      9      1      2 \n"
        "Node 1, zone   Normal      9      9      3      0 \n",
    )
    rows = read_buddyinfo(guest.layout)
    assert reportable_bytes(rows, 2, 4096) == (4 * 1 + 8 * 2 + 4 * 3) * 4096
    assert reportable_bytes(rows, 3, 65536) == 8 * 2 * 65536
    assert reportable_bytes(rows, 4, 4096) == 0
