"""What the kernel says now, of a guest made of files."""

from __future__ import annotations

import pytest

from kernelio.errors import KernelioError
from memreact.events import Instant
from memreact.sources.reading import GuestReader
from memreact_schemas.status import SwapAreaReading
from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.kernel_files import shows_stall

_ROLLUP = "Rss: 100 kB\nAnonymous: 60 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\nLocked: 3 kB\n"
_SWAPS = (
    "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    "/dev/zram0                              partition\t1024\t\t512\t\t100\n"
    "/swap\\040file                            file\t\t2048\t\t0\t\t-2\n"
)


def reader_of(guest: FakeGuest, *moments: int) -> GuestReader:
    left = iter(moments or range(1_000))
    return GuestReader(guest.layout, lambda: Instant(next(left)))


@pytest.fixture
def shown(guest: FakeGuest) -> FakeGuest:
    """A guest with memory, stalls, two places to swap to, and us."""
    guest.shows("/proc/meminfo", golden_text("6.12/proc/meminfo"))
    guest.shows("/proc/swaps", _SWAPS)
    guest.shows("/sys/block/zram0/mm_stat", "500 200 300 0 0 0 0 0\n")
    guest.shows("/proc/self/smaps_rollup", _ROLLUP)
    shows_stall(guest, "", 1_500, 700)
    return guest


def test_reads_stalls_swap_and_what_we_cost(shown: FakeGuest) -> None:
    said = reader_of(shown).read()
    assert (said.memory_stall_us, said.io_stall_us) == (1_500, 700)
    assert said.total_bytes > said.available_bytes > 0
    assert said.own is not None
    assert (said.own.rss_bytes, said.own.anon_bytes) == (100 << 10, 60 << 10)
    assert said.own.cpu_us > 0
    assert said.own.wake_ups > 0
    assert said.swap == (
        SwapAreaReading(
            path="/dev/zram0",
            size_bytes=1 << 20,
            used_bytes=512 << 10,
            priority=100,
            zram_taken_bytes=300,
        ),
        SwapAreaReading(path="/swap file", size_bytes=2 << 20, used_bytes=0, priority=-2),
    )


def test_what_this_guest_does_not_show_is_left_open(guest: FakeGuest) -> None:
    guest.shows("/proc/meminfo", golden_text("6.12/proc/meminfo"))
    said = reader_of(guest).read()
    assert (said.memory_stall_us, said.own, said.swap) == (None, None, ())


def test_without_meminfo_nothing_is_told(guest: FakeGuest) -> None:
    with pytest.raises(KernelioError):
        reader_of(guest).read()


def test_own_memory_is_read_at_most_once_a_second(shown: FakeGuest) -> None:
    second = 1_000_000
    reader = reader_of(shown, 0, 0, second // 2, second // 2, second, second)
    anon = []
    for said in ("60", "70", "80"):
        shown.shows("/proc/self/smaps_rollup", _ROLLUP.replace("60", said))
        own = reader.read().own
        assert own is not None
        anon.append(own.anon_bytes >> 10)
    assert anon == [60, 60, 80]
