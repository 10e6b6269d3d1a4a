"""zram as sysfs shows it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernelio.errors import MalformedReading, Unsupported, Vanished
from kernelio.zram import (
    add_zram,
    read_algorithm,
    read_zram_size,
    remove_zram,
    size_zram,
    zram_names,
)
from tests.fake_guest import FakeGuest

ZRAM = "/sys/block/zram1"


@pytest.fixture
def zram(guest: FakeGuest) -> FakeGuest:
    """A guest in which the kernel gives out zram1."""
    guest.shows("/sys/class/zram-control/hot_add", "1\n")
    guest.shows("/sys/class/zram-control/hot_remove", "")
    guest.shows(f"{ZRAM}/disksize", "0\n")
    # As 6.12 prints it before anything is chosen.
    guest.shows(f"{ZRAM}/comp_algorithm", "lzo [lzo-rle] lz4 lz4hc zstd deflate 842 \n")
    return guest


def test_a_device_is_made_sized_and_taken_away(zram: FakeGuest) -> None:
    assert add_zram(zram.layout) == "zram1"
    assert read_zram_size(zram.layout, "zram1") == 0
    assert read_algorithm(zram.layout, "zram1") == "lzo-rle"
    size_zram(zram.layout, "zram1", 8 << 20, "zstd")
    assert zram.received(f"{ZRAM}/disksize") == b"8388608"
    assert zram.received(f"{ZRAM}/comp_algorithm").startswith(b"zstd")
    remove_zram(zram.layout, "zram1")
    assert zram.received("/sys/class/zram-control/hot_remove") == b"1"


def test_the_kernels_own_choice_is_left_alone(zram: FakeGuest) -> None:
    before = zram.received(f"{ZRAM}/comp_algorithm")
    size_zram(zram.layout, "zram1", 8 << 20, "")
    assert zram.received(f"{ZRAM}/comp_algorithm") == before


def test_other_disks_are_none(zram: FakeGuest) -> None:
    for name in ("vda", "zram0p1", "zramx", "loop0"):
        zram.shows(f"/sys/block/{name}/disksize", "0\n")
    assert zram_names(zram.layout) == ["zram1"]


def test_a_kernel_without_it_says_so(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported, match="not in this kernel"):
        add_zram(guest.layout)
    with pytest.raises(Unsupported, match="not in this kernel"):
        remove_zram(guest.layout, "zram1")


def test_a_device_that_went_is_gone(guest: FakeGuest) -> None:
    with pytest.raises(Vanished):
        read_zram_size(guest.layout, "zram7")
    with pytest.raises(Vanished):
        size_zram(guest.layout, "zram7", 1, "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_any_text_is_a_number_or_malformed(guest: FakeGuest, text: str) -> None:
    guest.shows(f"{ZRAM}/disksize", text)
    try:
        size = read_zram_size(guest.layout, "zram1")
    except MalformedReading:
        assert not text[:-1].isdecimal() or text[-1] != "\n" or not text.isascii() or len(text) > 21
    else:
        assert text == f"{text[:-1]}\n"
        assert size == int(text)


@pytest.mark.parametrize("text", ["", "lzo zstd\n", "[]\n"])
def test_a_list_without_a_choice_is_malformed(guest: FakeGuest, text: str) -> None:
    guest.shows(f"{ZRAM}/comp_algorithm", text)
    with pytest.raises(MalformedReading, match="the chosen one in brackets"):
        read_algorithm(guest.layout, "zram1")
