from __future__ import annotations

import array

import pytest

from kernelio.page_reporting import parse_zoneinfo
from lab.errors import LabError
from lab.free_frames import free_and_there, mapping_address, never_told
from tests.goldens import golden_text

BUDDY, LRU = 1 << 10, 1 << 5
OWN, ZEROS, SWAPPED = 1 << 63 | 1 << 56, 1 << 63, 1 << 62

SMAPS = """\
7f0000000000-7f0040000000 rw-p 00000000 00:00 0
Size:            1048576 kB
Rss:              700000 kB
7f0050000000-7f0050001000 rw-p 00000000 00:00 0
Size:                  4 kB
"""


def test_a_frame_counts_where_the_guest_calls_it_free_and_the_host_has_it() -> None:
    flags = array.array("Q", [BUDDY, BUDDY, LRU, BUDDY, BUDDY])
    pages = array.array("Q", [OWN, 0, OWN, SWAPPED, ZEROS])
    assert free_and_there(flags, pages) == 2


def test_the_guests_memory_is_the_one_mapping_of_its_size() -> None:
    assert mapping_address(SMAPS, 1 << 30) == 0x7F0000000000


@pytest.mark.parametrize("smaps", ["", SMAPS + SMAPS])
def test_without_exactly_one_such_mapping_nothing_is_said(smaps: str) -> None:
    with pytest.raises(LabError, match="mappings of 1048576 KiB"):
        mapping_address(smaps, 1 << 30)


@pytest.mark.parametrize(("order", "never"), [(9, [(0, 4096)]), (6, []), (5, [])])
def test_the_zone_for_old_devices_is_never_told_of_but_at_a_low_order(
    order: int, never: list[tuple[int, int]]
) -> None:
    zones = parse_zoneinfo(golden_text("6.12/proc/zoneinfo").decode(), "zoneinfo")
    assert never_told(tuple(zones), order) == never
