from __future__ import annotations

import ctypes
import mmap
import os
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading, Unsupported
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from kernelio.pagemap import read_own_pfns
from tests.fake_guest import FakeGuest

PRESENT = 1 << 63
SWAPPED = 1 << 62
SOFT_DIRTY = 1 << 55


def shows(guest: FakeGuest, *words: int) -> None:
    guest.shows("/proc/self/pagemap", b"".join(word.to_bytes(8, sys.byteorder) for word in words))


def test_the_frames_of_pages_that_are_present_are_read(guest: FakeGuest) -> None:
    shows(guest, PRESENT | 1, PRESENT | SOFT_DIRTY | 7, SWAPPED | 9, 0, PRESENT | 4)
    assert read_own_pfns(guest.layout, page_size(), 4 * page_size()) == (7, 4)


def test_who_may_not_know_them_is_told_so(guest: FakeGuest) -> None:
    shows(guest, PRESENT, PRESENT)
    with pytest.raises(Unsupported, match="CAP_SYS_ADMIN"):
        read_own_pfns(guest.layout, 0, 2 * page_size())


def test_a_file_that_ends_too_soon_is_malformed(guest: FakeGuest) -> None:
    shows(guest, PRESENT | 3)
    with pytest.raises(MalformedReading, match="each of 2 pages"):
        read_own_pfns(guest.layout, 0, 2 * page_size())


def test_a_kernel_without_the_file_cannot_say(guest: FakeGuest) -> None:
    os.makedirs(guest.path("/proc/self"))
    with pytest.raises(Unsupported):
        read_own_pfns(guest.layout, 0, page_size())


@given(words=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9))
def test_any_entries_are_frames_or_a_refusal(
    words: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    guest = FakeGuest(os.fspath(tmp_path_factory.mktemp("guest")))
    shows(guest, *words)
    try:
        pfns = read_own_pfns(guest.layout, 0, len(words) * page_size())
    except Unsupported:
        return
    assert len(pfns) == sum(1 for word in words if word & PRESENT)


def test_of_our_own_memory_here_the_pages_that_we_touched_are_found_or_refused() -> None:
    with mmap.mmap(-1, 4 * page_size()) as block:
        block[0] = block[2 * page_size()] = 1
        first = ctypes.c_char.from_buffer(block)
        address = ctypes.addressof(first)
        with suppress(Unsupported):
            assert len(set(read_own_pfns(Layout(), address, 4 * page_size()))) == 2
        del first
