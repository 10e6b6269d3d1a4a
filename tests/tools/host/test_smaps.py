from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.host.smaps import Held, Mapping, NoGuestMemory, guest_memory, parse_smaps
from tests.tools.host.processes import smaps

KIB = st.integers(0, 2**40)
MAPPED = st.tuples(KIB, KIB, KIB, KIB)
GIB = 1 << 20  # KiB


def mapping(size: int, rss: int = 0, pss: int = 0, swap: int = 0) -> Mapping:
    return Mapping(size << 10, rss << 10, pss << 10, swap << 10)


@given(st.lists(MAPPED, max_size=5))
def test_reads_back_every_mapping_that_the_kernel_can_print(
    mapped: list[tuple[int, int, int, int]],
) -> None:
    assert parse_smaps(smaps(*mapped)) == tuple(mapping(*each) for each in mapped)


@given(st.text() | st.binary().map(os.fsdecode))
def test_any_text_is_read(text: str) -> None:
    assert all(each.size_bytes >= 0 for each in parse_smaps(text + smaps((4, 4, 4, 0)) + text))


def test_of_this_process_something_is_held() -> None:
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as file:
        mappings = parse_smaps(file.read())
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        assert len(mappings) == pytest.approx(len(file.readlines()), abs=5)
    assert sum(each.rss_bytes for each in mappings) > 1 << 20


def test_huge_pages_of_hugetlbfs_are_held_too() -> None:
    text = smaps((GIB, 0, 0, 0)).replace("Private_Hugetlb:       0", "Private_Hugetlb: 6144")
    text = re.sub(r"Shared_Hugetlb: +0", "Shared_Hugetlb: 2048", text)
    assert parse_smaps(text) == (mapping(GIB, 8192, 8192),)


def test_the_mappings_of_the_stated_sizes_are_the_guests() -> None:
    code, heap = mapping(2 * GIB, 300, 300), mapping(64, 60, 60)
    ram = (mapping(GIB, 500, 400, 7), mapping(GIB, 100, 90, 1))
    mappings = [code, ram[0], heap, ram[1]]
    held = guest_memory(mappings, (GIB << 10, GIB << 10))
    assert held == Held(2 * GIB << 10, 600 << 10, 490 << 10, 8 << 10)
    assert guest_memory(mappings, (GIB << 10,)).rss_bytes == 500 << 10


def test_a_size_that_is_not_there_leaves_the_largest_that_make_up_as_much() -> None:
    mappings = [mapping(64, 1), mapping(3 * GIB, 10), mapping(GIB, 20), mapping(65, 2)]
    assert guest_memory(mappings, (4 * GIB << 10,)).rss_bytes == 30 << 10
    assert guest_memory(mappings, total_bytes=4 * GIB << 10).rss_bytes == 30 << 10
    assert guest_memory(mappings, total_bytes=2 * GIB << 10).rss_bytes == 10 << 10
    assert guest_memory(mappings).rss_bytes == 10 << 10


def test_a_process_without_memory_is_no_machine() -> None:
    with pytest.raises(NoGuestMemory):
        guest_memory([], (GIB,))
