from __future__ import annotations

import os
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.buddy import read_buddyinfo
from kernelio.errors import MalformedReading, Unsupported
from kernelio.layout import Layout
from kernelio.meminfo import page_size, read_meminfo
from kernelio.page_reporting import (
    Balloon,
    Zone,
    balloons,
    headroom_pages,
    parse_zoneinfo,
    read_order,
    read_zoneinfo,
    reported_bytes,
    reported_bytes_of,
)
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

_ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"
_PAGES = st.integers(0, 2**52)
_ZONE = st.builds(
    Zone,
    node=st.integers(0, 1023),
    name=st.sampled_from(["DMA", "DMA32", "Normal", "Movable"]),
    free_pages=_PAGES,
    min_pages=_PAGES,
    low_pages=_PAGES,
    high_pages=_PAGES,
    spanned_pages=_PAGES,
    managed_pages=_PAGES,
    start_pfn=_PAGES,
)
_WITH, _WITHOUT = "0" * 5 + "1" + "0" * 58, "1" * 5 + "0" + "1" * 58
_RESERVED, _HEAD, _INSIDE = 1 << 32, 1 << 10 | 1 << 3, 1 << 10


def _printed(zone: Zone) -> str:
    """As mm/vmstat.c, zoneinfo_show_print(), of 6.12."""
    return (
        f"Node {zone.node}, zone {zone.name:>8}\n"
        "  per-node stats\n"
        "      nr_inactive_anon 12508\n"
        f"  pages free     {zone.free_pages}\n"
        "        boost    0\n"
        f"        min      {zone.min_pages}\n"
        f"        low      {zone.low_pages}\n"
        f"        high     {zone.high_pages}\n"
        f"        spanned  {zone.spanned_pages}\n"
        "        present  3998\n"
        f"        managed  {zone.managed_pages}\n"
        "        cma      0\n"
        "        protection: (0, 2970, 24085, 24085, 24085)\n"
        "      nr_free_pages 3840\n"
        "  pagesets\n"
        "    cpu: 0\n"
        "              count:    0\n"
        "              high:     14\n"
        "              high_min: 14\n"
        "  node_unreclaimable:  0\n"
        f"  start_pfn:           {zone.start_pfn}\n"
    )


def _zone(low: int = 0, start: int = 0, spanned: int = 0, managed: int = 1) -> Zone:
    return Zone(0, "Normal", 0, 0, low, 0, spanned, managed, start)


@pytest.mark.parametrize("file", golden_files("proc/zoneinfo"))
def test_reads_what_each_recorded_kernel_printed(file: str) -> None:
    zones = parse_zoneinfo(os.fsdecode(golden_text(file)), file)
    populated = [zone for zone in zones if zone.managed_pages]
    assert populated
    for zone in populated:
        assert zone.min_pages <= zone.low_pages <= zone.high_pages
        assert zone.managed_pages <= zone.spanned_pages
        assert zone.start_pfn > 0


@given(st.lists(_ZONE, min_size=1, max_size=4))
def test_reads_back_every_table_the_kernel_can_print(zones: list[Zone]) -> None:
    assert list(parse_zoneinfo("".join(map(_printed, zones)), "x")) == zones


@given(st.text() | st.binary().map(os.fsdecode) | st.text().map(_printed(_zone()).__add__))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        assert all(isinstance(zone, Zone) for zone in parse_zoneinfo(text, "x"))


def test_a_zone_without_its_low_watermark_is_malformed() -> None:
    text = "".join(
        line for line in _printed(_zone()).splitlines(keepends=True) if " low " not in line
    )
    with pytest.raises(MalformedReading, match="low"):
        parse_zoneinfo(text, "x")


def test_a_zone_reports_above_its_low_watermark_and_32_blocks() -> None:
    assert headroom_pages(_zone(low=1000), 9) == 1000 + 32 * 512
    assert headroom_pages(_zone(low=7), 0) == 7 + 32


@pytest.mark.parametrize(
    ("text", "order"), [("9\n", 9), ("0\n", 0), ("-1\n", -1), ("4294967295\n", -1)]
)
def test_reads_the_order_and_that_none_is_set(guest: FakeGuest, text: str, order: int) -> None:
    guest.shows(_ORDER, text)
    assert read_order(guest.layout) == order


def test_a_kernel_that_reports_nothing_has_no_order(guest: FakeGuest) -> None:
    assert read_order(guest.layout) is None


@pytest.mark.parametrize("text", ["", "high\n", "9 9\n", "٩\n"])
def test_an_order_that_is_no_number_is_malformed(guest: FakeGuest, text: str) -> None:
    guest.shows(_ORDER, text)
    with pytest.raises(MalformedReading):
        read_order(guest.layout)


def _has_device(guest: FakeGuest, name: str, device: str, features: str) -> None:
    guest.shows(f"/sys/bus/virtio/devices/{name}/device", f"{device}\n")
    guest.shows(f"/sys/bus/virtio/devices/{name}/features", f"{features}\n")


def test_a_guest_without_virtio_has_no_balloon(guest: FakeGuest) -> None:
    assert balloons(guest.layout) == ()


def test_finds_the_balloons_among_the_devices_and_their_fifth_feature(guest: FakeGuest) -> None:
    _has_device(guest, "virtio0", "0x0002", _WITH)
    _has_device(guest, "virtio1", "0x0005", _WITH)
    _has_device(guest, "virtio2", "0x0005", _WITHOUT)
    os.symlink("../drivers/virtio_balloon", guest.path("/sys/bus/virtio/devices/virtio1/driver"))
    assert balloons(guest.layout) == (
        Balloon("virtio1", reporting=True, features=_WITH, driver="virtio_balloon"),
        Balloon("virtio2", reporting=False, features=_WITHOUT, driver=None),
    )


def test_a_balloon_unplugged_while_we_look_is_not_there(guest: FakeGuest) -> None:
    guest.shows("/sys/bus/virtio/devices/virtio1/device", "0x0005\n")
    assert balloons(guest.layout) == ()


def _flags(guest: FakeGuest, words: list[int]) -> None:
    guest.shows("/proc/kpageflags", b"".join(word.to_bytes(8, sys.byteorder) for word in words))


def test_counts_the_blocks_whose_head_is_flagged_as_reported(guest: FakeGuest) -> None:
    reported, free, taken = [_HEAD, *[_INSIDE] * 3], [_INSIDE] * 4, [_RESERVED] * 4
    _flags(guest, [*taken, *reported, *free, *reported, *taken])
    zone = _zone(start=4, spanned=16)
    assert reported_bytes(guest.layout, [zone], 2, 10) == 8 * page_size()


def test_a_reported_block_of_twice_the_order_counts_twice(guest: FakeGuest) -> None:
    big, taken = [_HEAD, *[_INSIDE] * 7], [_RESERVED] * 8
    _flags(guest, [*taken, *big, *taken])
    zone = _zone(start=8, spanned=16)
    assert reported_bytes(guest.layout, [zone], 2, 10) == 8 * page_size()
    assert reported_bytes(guest.layout, [zone], 2, 2) == 4 * page_size()


def test_two_reported_neighbours_are_two_blocks(guest: FakeGuest) -> None:
    one = [_HEAD, *[_INSIDE] * 3]
    _flags(guest, [*one, *one])
    zone = _zone(spanned=8)
    assert reported_bytes(guest.layout, [zone], 2, 10) == 8 * page_size()


def test_of_some_page_frames_those_count_that_lie_in_reported_blocks(guest: FakeGuest) -> None:
    reported, free, taken = [_HEAD, *[_INSIDE] * 3], [_INSIDE] * 4, [_RESERVED] * 4
    _flags(guest, [*taken, *reported, *free, *taken, *reported])
    pfns = [0, 5, 6, 9, 13, 16, 17, 18, 19]
    assert reported_bytes_of(guest.layout, pfns, 2, 10) == 6 * page_size()


def test_a_page_frame_in_the_upper_half_of_a_large_reported_block_counts(guest: FakeGuest) -> None:
    big, taken = [_HEAD, *[_INSIDE] * 15], [_RESERVED] * 16
    _flags(guest, [*taken, *big, *taken])
    assert reported_bytes_of(guest.layout, range(48), 2, 10) == 16 * page_size()
    assert reported_bytes_of(guest.layout, range(48), 2, 3) == 8 * page_size()


def test_free_pages_beside_a_reported_block_were_not_told(guest: FakeGuest) -> None:
    one = [_HEAD, *[_INSIDE] * 3]
    _flags(guest, [*one, _INSIDE, _RESERVED, _INSIDE, _INSIDE])
    assert reported_bytes_of(guest.layout, range(8), 2, 10) == 4 * page_size()


def test_an_unaligned_zone_is_looked_at_from_its_first_block(guest: FakeGuest) -> None:
    _flags(guest, [_HEAD] * 12)
    zone = _zone(start=3, spanned=9)
    assert reported_bytes(guest.layout, [zone], 2, 2) == 8 * page_size()


def test_an_empty_zone_has_reported_nothing(guest: FakeGuest) -> None:
    _flags(guest, [_HEAD] * 4)
    zone = _zone(spanned=4, managed=0)
    assert reported_bytes(guest.layout, [zone], 2, 2) == 0


def test_a_kernel_without_page_flags_cannot_say(guest: FakeGuest) -> None:
    guest.shows("/proc/zoneinfo", _printed(_zone()))
    with pytest.raises(Unsupported):
        reported_bytes(guest.layout, read_zoneinfo(guest.layout), 9, 10)


@pytest.mark.skipif(not os.access("/proc/kpageflags", os.R_OK), reason="page flags are root's")
def test_no_more_is_reported_here_than_is_free_or_was_a_moment_ago() -> None:
    layout = Layout()
    largest = len(read_buddyinfo(layout)[0].counts) - 1
    reported = reported_bytes(layout, read_zoneinfo(layout), 9, largest)
    assert 0 <= reported <= read_meminfo(layout).total_bytes
