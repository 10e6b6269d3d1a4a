"""Where the memory is, read from the files of a guest."""

from __future__ import annotations

import os
import sys

import pytest

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from kernelio.page_reporting import read_zoneinfo
from memreact.sources.account import read_account
from tests.fake_guest import FakeGuest
from tests.goldens import GOLDEN, golden_text
from tests.memreact.kernel_files import shows_memcg

PAGE = page_size()
ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"
HUGE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
BALLOON = "/sys/bus/virtio/devices/virtio3"
HEAD, INSIDE = 1 << 10 | 1 << 3, 1 << 10


def zone(free: int, low: int, *, name: str = "Normal", managed: int = 4096) -> str:
    return (
        f"Node 0, zone {name:>8}\n  pages free     {free}\n        min      0\n"
        f"        low      {low}\n        high     0\n        spanned  {managed}\n"
        f"        managed  {managed}\n  start_pfn:           0\n"
    )


@pytest.fixture
def small(guest: FakeGuest) -> FakeGuest:
    """A guest that reports from order 2: 3 single pages and 40 blocks of 8 are free."""
    guest.shows("/proc/meminfo", golden_text("6.12/proc/meminfo"))
    guest.shows("/proc/vmstat", "nr_foll_pin_acquired 9\nnr_foll_pin_released 4\n")
    guest.shows("/proc/buddyinfo", "Node 0, zone   Normal      3      0      0     40 \n")
    guest.shows("/proc/zoneinfo", zone(323, 100) + zone(0, 0, name="Movable", managed=0))
    guest.shows(ORDER, "2\n")
    guest.shows(HUGE, f"{PAGE << 3}\n")
    guest.shows(f"{BALLOON}/device", "0x0005\n")
    guest.shows(f"{BALLOON}/features", "01100" + "1" + "0" * 58 + "\n")
    os.makedirs(guest.layout.cgroup_root)
    return guest


def flags(guest: FakeGuest, words: list[int]) -> None:
    guest.shows("/proc/kpageflags", b"".join(word.to_bytes(8, sys.byteorder) for word in words))


def test_what_is_free_is_told_by_the_size_of_its_blocks(small: FakeGuest) -> None:
    account = read_account(small.layout)
    (only,) = account.zones
    assert only.free_by_order == (3 * PAGE, 0, 0, 320 * PAGE)
    assert (account.free_bytes, account.total_bytes) == (323 * PAGE, 4096 * PAGE)
    assert (account.order, account.usual_order, account.negotiated) == (2, 3, True)


@pytest.mark.parametrize(("low", "enough"), [(323 - 128, True), (323 - 127, False)])
def test_a_zone_reports_above_its_low_watermark_and_32_blocks(
    small: FakeGuest, low: int, *, enough: bool
) -> None:
    small.shows("/proc/zoneinfo", zone(323, low))
    (only,) = read_account(small.layout).zones
    assert only.enough_free is enough


def test_what_is_reported_is_read_from_the_flags(small: FakeGuest) -> None:
    flags(small, [HEAD, *[INSIDE] * 7, *[0] * 8, HEAD, *[INSIDE] * 3, *[0] * 4])
    assert read_account(small.layout).reported_bytes == 12 * PAGE


def test_no_more_is_reported_than_is_free_in_such_blocks(small: FakeGuest) -> None:
    flags(small, [HEAD, *[INSIDE] * 3] * 100)
    assert read_account(small.layout).reported_bytes == 320 * PAGE


def test_who_may_not_read_the_flags_does_not_know(small: FakeGuest) -> None:
    assert read_account(small.layout).reported_bytes is None


@pytest.mark.parametrize("order", ["-1\n", "4\n", None])
def test_without_an_order_that_has_blocks_nothing_is_reported(
    small: FakeGuest, order: str | None
) -> None:
    if order is None:
        small.loses(ORDER)
    else:
        small.shows(ORDER, order)
    assert read_account(small.layout).reported_bytes == 0


def test_a_kernel_without_huge_pages_does_not_tell_its_usual_order(small: FakeGuest) -> None:
    small.loses(HUGE)
    assert read_account(small.layout).usual_order is None


def test_what_is_in_use_is_told_by_its_kind(small: FakeGuest) -> None:
    shows_memcg(small, "/shop", memory_current="500\n", memory_low="300\n", memory_min="200\n")
    shows_memcg(small, "/db", memory_current="500\n", memory_low="max\n")
    shows_memcg(small, "/free", memory_current="500\n")
    shows_memcg(small, "/shop/below", memory_current="100\n", memory_low="100\n")
    account = read_account(small.layout)
    assert account.protected_bytes == 300 + 500
    assert account.pinned_bytes == 5 * PAGE
    assert account.anon_bytes == 30328 << 10
    assert account.cached_bytes == (85332 + 28) << 10
    assert account.dirty_bytes == 372 << 10
    assert account.reclaimable_slab_bytes == 5888 << 10


@pytest.mark.parametrize("path", ["/proc/vmstat", "/sys/fs/cgroup"])
def test_what_only_explains_may_be_missing(small: FakeGuest, path: str) -> None:
    small.loses(path)
    account = read_account(small.layout)
    assert account.free_bytes == 323 * PAGE
    assert 0 in (account.pinned_bytes, account.protected_bytes)


def test_what_only_explains_may_be_malformed(small: FakeGuest) -> None:
    shows_memcg(small, "/shop", memory_current="500\n", memory_low="much\n")
    small.shows("/proc/vmstat", "many\n")
    small.shows(HUGE, "large\n")
    account = read_account(small.layout)
    assert (account.pinned_bytes, account.protected_bytes, account.usual_order) == (0, 0, None)


@pytest.mark.parametrize("path", ["/proc/meminfo", "/proc/buddyinfo", "/proc/zoneinfo"])
def test_what_every_kernel_has_may_not(small: FakeGuest, path: str) -> None:
    small.loses(path)
    with pytest.raises(KernelioError):
        read_account(small.layout)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.x"])
def test_a_recorded_guest_is_accounted_for(kernel: str) -> None:
    layout = Layout(root=f"{GOLDEN}/{kernel}")
    account = read_account(layout)
    zones = [zone for zone in read_zoneinfo(layout) if zone.managed_pages]
    assert len(account.zones) == len(zones)
    assert (account.order, account.usual_order, account.negotiated) == (9, 9, True)
    assert 0 < account.free_bytes < account.total_bytes
