"""zram is set up as asked, found again, and taken away; another's is never touched."""

from __future__ import annotations

import errno

import pytest

from kernelio import zram
from kernelio.errors import Refused
from kernelio.meminfo import page_size
from kernelio.swap_header import parse_swap_header
from memreact.actuator import swap_off
from memreact.actuator.swap import CalledBack, Errand
from memreact.actuator.swap_disks import Wanted
from memreact.actuator.swap_off import Guest, Removing
from memreact.actuator.zram import (
    PRIORITY,
    OurZram,
    WantedZram,
    our_zrams,
    settle_zram,
    take_down,
)
from memreact.swap_trouble import SwapTrouble
from tests.disk_files import SwapGuest
from tests.fake_guest import FakeGuest
from tests.memreact.actuator.test_swap_off import FOR_EVER
from tests.memreact.zram_guest import REMOVED, zram_guest

HALF = WantedZram(50)
REMOVING = Removing(Wanted(), deadline_us=60_000_000, limit_ppm=1_000_000, window_us=1_000_000)


@pytest.fixture
def there(guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> SwapGuest:
    """A guest without swap."""
    return zram_guest(guest, monkeypatch)


def settle(there: SwapGuest, wanted: WantedZram, errand: Errand | None = None) -> OurZram | None:
    """As the daemon does."""
    guest, errand = Guest(there.layout, "/"), errand or Errand()
    return settle_zram(there.layout, wanted, lambda ours: take_down(guest, ours, REMOVING, errand))


def test_it_is_made_of_a_share_of_memory_and_used_before_all_other_swap(there: SwapGuest) -> None:
    path = there.has_zram()
    assert settle(there, HALF) == OurZram("zram1", WantedZram(50, "lzo-rle"), in_use=True)
    assert there.switched_on == [(path, PRIORITY, "no")]
    # Of a million kB, in whole pages.
    assert there.guest.received("/sys/block/zram1/disksize") == b"512000000"
    header = parse_swap_header(there.guest.received(path), path)
    assert header is not None
    assert (header.label, header.page_bytes) == ("memreact-zram50", page_size())


def test_an_algorithm_is_chosen_before_the_size(there: SwapGuest) -> None:
    there.has_zram()
    settle(there, WantedZram(50, "zstd"))
    assert there.guest.received("/sys/block/zram1/comp_algorithm").startswith(b"zstd")


@pytest.mark.parametrize("algorithm", ["", "lzo-rle"])
def test_what_is_there_as_asked_stays_after_a_restart(there: SwapGuest, algorithm: str) -> None:
    path = there.has_zram(label="memreact-zram50")
    there.uses(path, priority=PRIORITY)
    assert settle(there, WantedZram(50, algorithm)) is None
    assert there.switched_on == []
    assert there.guest.received(REMOVED) == b""


@pytest.mark.parametrize("wanted", [WantedZram(0), WantedZram(25), WantedZram(50, "zstd")])
def test_what_is_not_as_asked_is_taken_away_first(there: SwapGuest, wanted: WantedZram) -> None:
    path = there.has_zram(label="memreact-zram50")
    there.uses(path, used_kb=8)
    with pytest.raises(SwapTrouble, match="zram1 is swap already"):  # a double swaps nothing off
        settle(there, wanted._replace(percent=wanted.percent or 1))
    assert there.guest.received(REMOVED) == b"1"
    there.guest.shows(REMOVED, "")
    if not wanted.percent:
        assert settle(there, wanted) is None
        assert there.guest.received(REMOVED) == b"1"


def test_what_a_killed_one_left_is_taken_away(there: SwapGuest) -> None:
    there.has_zram(label="memreact-zram50")
    assert [each.in_use for each in our_zrams(there.layout)] == [False]
    settle(there, WantedZram(0))
    assert there.guest.received(REMOVED) == b"1"


@pytest.mark.parametrize("label", ["", "somebody", "memreact-zramX", None])
def test_another_is_not_ours_and_ours_is_not_set_up_beside_it(
    there: SwapGuest, label: str | None
) -> None:
    there.uses(there.has_zram(label=label))
    assert our_zrams(there.layout) == []
    with pytest.raises(SwapTrouble, match=r"zram1 is swap already, and is not memreact's"):
        settle(there, HALF)
    assert settle(there, WantedZram(0)) is None
    assert there.guest.received(REMOVED) == b""


def test_a_kernel_without_zram_says_so(there: SwapGuest) -> None:
    with pytest.raises(SwapTrouble, match="hot_add: setting up zram: not in this kernel"):
        settle(there, HALF)


def test_what_cannot_be_used_is_taken_away_again(there: SwapGuest) -> None:
    path = there.has_zram()
    there.refuses = Refused(path, errno.ENOMEM, "no memory")
    with pytest.raises(SwapTrouble, match="no memory"):
        settle(there, HALF)
    assert there.guest.received(REMOVED) == b"1"


def test_so_little_memory_that_no_swap_fits_says_so(there: SwapGuest) -> None:
    there.has_zram()
    there.guest.shows("/sys/devices/../virtual/block/zram1/size", "8\n")
    there.guest.shows("/sys/block/zram1/size", "8\n")
    with pytest.raises(SwapTrouble, match="less than 10 pages"):
        settle(there, HALF)
    assert there.guest.received(REMOVED) == b"1"


def test_what_memory_does_not_hold_stays_in_use(there: SwapGuest) -> None:
    path = there.has_zram(label="memreact-zram50")
    there.uses(path, used_kb=900_000)
    with pytest.raises(SwapTrouble, match="have to stay"):
        settle(there, WantedZram(0))
    assert there.guest.received(REMOVED) == b""


def test_whoever_looks_at_it_for_a_moment_is_waited_for(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = there.has_zram(label="memreact-zram50")
    tried: list[str] = []

    def busy(layout: object, name: str) -> None:
        tried.append(name)
        if len(tried) < 3:
            raise Refused(path, errno.EBUSY, "busy")

    monkeypatch.setattr(zram, "remove_zram", busy)
    errand = Errand()
    errand.tell()
    errand.tell()
    settle(there, WantedZram(0), errand)
    assert tried == ["zram1"] * 3


def test_whoever_keeps_it_is_told_of(there: SwapGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    path = there.has_zram(label="memreact-zram50")
    errand = Errand()
    for _ in range(60):
        errand.tell()

    def busy(layout: object, name: str) -> None:
        raise Refused(path, errno.EBUSY, "busy")

    monkeypatch.setattr(zram, "remove_zram", busy)
    with pytest.raises(SwapTrouble, match="removing it"):
        settle(there, WantedZram(0), errand)


def test_the_daemons_end_leaves_it_as_it_is(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (FOR_EVER,))
    there.uses(there.has_zram(label="memreact-zram50"))
    errand = Errand()
    errand.call_back(stopping=True)
    with pytest.raises(SwapTrouble, match="stopping"):
        settle(there, WantedZram(0), errand)
    there.uses_no_more("/dev/zram1")
    monkeypatch.setattr(zram, "remove_zram", refuse)
    with pytest.raises(CalledBack):
        settle(there, WantedZram(0), errand)


def refuse(layout: object, name: str) -> None:
    """Somebody has it open."""
    raise Refused(name, errno.EBUSY, "busy")
