from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading
from kernelio.pinned import read_pinned_pages
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text


@pytest.mark.parametrize("file", golden_files("proc/vmstat"))
def test_a_recorded_guest_without_devices_pins_nothing(file: str, guest: FakeGuest) -> None:
    guest.shows("/proc/vmstat", golden_text(file))
    assert read_pinned_pages(guest.layout) == 0


@given(taken=st.integers(0, 2**64 - 1), given_back=st.integers(0, 2**64 - 1))
def test_what_was_taken_and_not_given_back_is_pinned(
    taken: int, given_back: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    guest = FakeGuest(os.fspath(tmp_path_factory.mktemp("guest")))
    text = f"nr_free_pages 7\nnr_foll_pin_acquired {taken}\nnr_foll_pin_released {given_back}\n"
    guest.shows("/proc/vmstat", text)
    assert read_pinned_pages(guest.layout) == max(0, taken - given_back)


def test_a_kernel_that_does_not_count_them_pins_nothing(guest: FakeGuest) -> None:
    guest.shows("/proc/vmstat", "nr_free_pages 7\n")
    assert read_pinned_pages(guest.layout) == 0


@given(text=st.binary())
def test_any_text_is_a_number_or_malformed(
    text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    guest = FakeGuest(os.fspath(tmp_path_factory.mktemp("guest")))
    guest.shows("/proc/vmstat", text)
    with suppress(MalformedReading):
        assert read_pinned_pages(guest.layout) >= 0
