"""Free memory by the pieces it lies in, from the files of one moment."""

from __future__ import annotations

from typing import Literal

import pytest

from memreact.events import ZoneView
from memreact.sources.fragmentation import read_fragmentation
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text
from tests.memreact.kernel_files import shows_stall

KERNELS = [file.removesuffix("/proc/pagetypeinfo") for file in golden_files("proc/pagetypeinfo")]
ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"


def shows(guest: FakeGuest, kernel: str = "6.12") -> FakeGuest:
    """Let the guest show what a recorded kernel did."""
    for name in ("buddyinfo", "zoneinfo", "meminfo", "pagetypeinfo"):
        guest.shows(f"/proc/{name}", golden_text(f"{kernel}/proc/{name}"))
    guest.shows(ORDER, "9\n")
    shows_stall(guest, "", 40, 2)
    return guest


@pytest.mark.parametrize("kernel", KERNELS)
def test_reads_the_zones_of_each_recorded_kernel(guest: FakeGuest, kernel: str) -> None:
    seen = read_fragmentation(shows(guest, kernel).layout, "/", "auto", with_movable=True)
    assert seen.failed is None
    assert [(zone.node, zone.zone) for zone in seen.zones] == [(0, "DMA"), (0, "DMA32")]
    assert seen.order == 9
    assert seen.movable_small_pages is not None
    for zone in seen.zones:
        in_blocks = sum(count << order for order, count in enumerate(zone.free_by_order))
        assert in_blocks > 0
        assert zone.headroom_pages == zone.low_pages + 32 * 512
    assert sum(zone.free_pages for zone in seen.zones) * 4096 == pytest.approx(
        seen.memfree_bytes, rel=0.02
    )
    assert seen.pressure.guest.guest_us == 42


def test_page_types_are_looked_at_only_where_they_are_asked_for(guest: FakeGuest) -> None:
    shows(guest).shows(
        "/proc/pagetypeinfo", "Node    0, zone    DMA32, type      Movable >100000 2 1\n"
    )
    layout = guest.layout
    assert read_fragmentation(layout, "/", "auto").movable_small_pages is None
    assert read_fragmentation(layout, "/", 1, with_movable=True).movable_small_pages == 100_000
    assert read_fragmentation(layout, "/", 2, with_movable=True).movable_small_pages == 100_004


@pytest.mark.parametrize("text", [None, "nonsense\n"])
def test_page_types_that_cannot_be_read_leave_the_rest_known(
    guest: FakeGuest, text: str | None
) -> None:
    shows(guest).loses("/proc/pagetypeinfo")
    if text is not None:
        guest.shows("/proc/pagetypeinfo", text)
    seen = read_fragmentation(guest.layout, "/", "auto", with_movable=True)
    assert (seen.movable_small_pages, seen.failed) == (None, None)
    assert len(seen.zones) == 2


@pytest.mark.parametrize(
    ("told", "asked", "counted", "reported_from"),
    [
        ("9\n", "auto", 9, 9),
        ("5\n", "auto", 5, 5),  # arm64 with pages of 64 KiB
        ("5\n", 9, 9, 5),
        ("9\n", 3, 3, 9),
        ("-1\n", "auto", 9, 9),
        ("4294967295\n", 6, 6, 6),
        (None, "auto", 9, 9),
        (None, 4, 4, 4),
    ],
)
def test_the_order_is_what_was_asked_for_and_the_headroom_what_reporting_needs(
    guest: FakeGuest,
    told: str | None,
    asked: int | Literal["auto"],
    counted: int,
    reported_from: int,
) -> None:
    shows(guest).loses(ORDER)
    if told is not None:
        guest.shows(ORDER, told)
    seen = read_fragmentation(guest.layout, "/", asked)
    assert seen.order == counted
    zone = seen.zones[1]
    assert zone.headroom_pages == zone.low_pages + (32 << reported_from)


def test_an_order_that_changes_at_run_time_is_seen_at_the_next_reading(guest: FakeGuest) -> None:
    assert read_fragmentation(shows(guest).layout, "/", "auto").order == 9
    guest.shows(ORDER, "7\n")
    assert read_fragmentation(guest.layout, "/", "auto").order == 7


@pytest.mark.parametrize("name", ["buddyinfo", "zoneinfo", "meminfo"])
@pytest.mark.parametrize("text", [None, "nonsense\n"])
def test_what_cannot_be_read_is_told(guest: FakeGuest, name: str, text: str | None) -> None:
    shows(guest).loses(f"/proc/{name}")
    if text is not None:
        guest.shows(f"/proc/{name}", text)
    seen = read_fragmentation(guest.layout, "/", "auto")
    assert seen.zones == ()
    assert seen.failed is not None
    assert name in seen.failed
    assert seen.pressure.guest.guest_us == 42


def test_an_order_that_is_no_number_is_told(guest: FakeGuest) -> None:
    shows(guest).shows(ORDER, "high\n")
    failed = read_fragmentation(guest.layout, "/", "auto").failed
    assert failed is not None
    assert "high" in failed


def test_pages_of_another_size_are_told_as_such(guest: FakeGuest) -> None:
    seen = read_fragmentation(shows(guest).layout, "/", "auto", page_bytes=65536)
    assert seen.page_bytes == 65536


def test_empty_zones_and_zones_of_one_file_alone_are_left_out(guest: FakeGuest) -> None:
    shows(guest).shows("/proc/buddyinfo", "Node 0, zone    DMA32      9      9      1 \n")
    seen = read_fragmentation(guest.layout, "/", "auto")
    assert [zone.zone for zone in seen.zones] == ["DMA32"]
    assert isinstance(seen.zones[0], ZoneView)
    assert seen.zones[0].free_by_order == (9, 9, 1)
