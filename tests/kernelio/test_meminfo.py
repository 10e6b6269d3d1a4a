from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading
from kernelio.meminfo import Meminfo, page_size, parse_meminfo, read_meminfo
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

_KB = st.integers(0, 2**54 - 1)
_LINES = {
    "MemTotal": "total_bytes",
    "MemFree": "free_bytes",
    "MemAvailable": "available_bytes",
    "SwapCached": "swap_cached_bytes",
    "Cached": "cached_bytes",
    "Unevictable": "unevictable_bytes",
    "SwapTotal": "swap_total_bytes",
    "SwapFree": "swap_free_bytes",
    "Zswap": "zswap_bytes",
    "Zswapped": "zswapped_bytes",
    "Dirty": "dirty_bytes",
    "Writeback": "writeback_bytes",
    "AnonPages": "anon_bytes",
    "Shmem": "shmem_bytes",
    "SReclaimable": "reclaimable_slab_bytes",
    "Balloon": "balloon_bytes",
}


def _printed(kb: dict[str, int]) -> str:
    lines = [f"{name + ':':<16}{value:>8} kB\n" for name, value in kb.items()]
    return "".join([*lines, "HugePages_Total:       0\n", "DirectMap1G:    25165824 kB\n"])


@pytest.mark.parametrize("file", golden_files("proc/meminfo"))
def test_reads_what_each_recorded_kernel_printed(file: str) -> None:
    meminfo = parse_meminfo(os.fsdecode(golden_text(file)), file)
    assert 0 < meminfo.free_bytes < meminfo.total_bytes
    assert meminfo.available_bytes < meminfo.total_bytes
    assert meminfo.swap_free_bytes <= meminfo.swap_total_bytes


def test_reads_the_kernels_kb_as_bytes() -> None:
    text = os.fsdecode(golden_text("6.18/proc/meminfo"))
    total = next(line for line in text.split("\n") if line.startswith("MemTotal:"))
    assert parse_meminfo(text, "x").total_bytes == int(total.split()[1]) * 1024


@given(st.fixed_dictionaries(dict.fromkeys(_LINES, _KB)))
def test_reads_back_every_value_the_kernel_can_print(kb: dict[str, int]) -> None:
    meminfo = parse_meminfo(_printed(kb), "/proc/meminfo")
    assert meminfo._asdict() == {field: kb[name] * 1024 for name, field in _LINES.items()}


@given(st.text() | st.binary().map(os.fsdecode) | st.from_regex(r"(\w+: +\d+ kB\n)*"))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        meminfo = parse_meminfo(text, "/proc/meminfo")
        assert isinstance(meminfo, Meminfo)


def test_a_kernel_without_zswap_says_none_of_it() -> None:
    kb = dict.fromkeys(_LINES.keys() - {"Zswap", "Zswapped", "Balloon"}, 1)
    meminfo = parse_meminfo(_printed(kb), "x")
    assert (meminfo.zswap_bytes, meminfo.zswapped_bytes, meminfo.balloon_bytes) == (None,) * 3


def test_a_missing_line_is_named() -> None:
    kb = dict.fromkeys(_LINES.keys() - {"MemAvailable"}, 1)
    with pytest.raises(MalformedReading, match="MemAvailable"):
        parse_meminfo(_printed(kb), "x")


def test_a_malformed_line_is_quoted() -> None:
    with pytest.raises(MalformedReading, match="MemTotal: lots kB"):
        parse_meminfo("MemTotal: lots kB\n", "x")


def test_reads_it_where_the_layout_says(guest: FakeGuest) -> None:
    guest.shows("/proc/meminfo", golden_text("6.18/proc/meminfo"))
    assert read_meminfo(guest.layout).total_bytes > 0


def test_the_page_size_is_a_power_of_two() -> None:
    assert page_size() >= 4096
    assert page_size() & (page_size() - 1) == 0
