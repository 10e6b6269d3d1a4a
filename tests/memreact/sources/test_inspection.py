"""One memcg read closely."""

from __future__ import annotations

import pytest

from kernelio.errors import MalformedReading, Vanished
from memreact.events import Guard
from memreact.sources.inspection import Folios, inspect
from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.kernel_files import events_text, memory_events, pressure, shows_memcg, stat

FOLIOS = Folios(file_bytes=4096, anon_bytes=8192, huge_bytes=2 << 20)
MIB = 1 << 20
ZRAM = "/dev/zram0                              partition\t1048572\t\t0\t\t100\n"
DISK = "/dev/vdb                                partition\t1048572\t\t0\t\t-2\n"
HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.fixture
def swapping(guest: FakeGuest) -> FakeGuest:
    """A guest with 1000 MiB of swap left."""
    meminfo = golden_text("6.12/proc/meminfo").decode().splitlines(keepends=True)
    lines = [line for line in meminfo if not line.startswith("SwapFree")]
    guest.shows("/proc/meminfo", "".join([*lines, f"SwapFree: {1000 * 1024} kB\n"]))
    return guest


def test_adds_up_what_the_files_say(swapping: FakeGuest) -> None:
    shows_memcg(
        swapping,
        "/a",
        memory_stat=stat(
            anon=10,
            file=20,
            file_dirty=3,
            file_writeback=4,
            unevictable=5,
            pgsteal=6,
            workingset_refault_anon=7,
            workingset_refault_file=8,
        ),
        memory_events=memory_events(high=1, max=2, oom=3, oom_kill=4),
        memory_max="1073741824\n",
        memory_pressure=pressure(9),
    )
    saw = inspect(swapping.layout, "/", "/a", FOLIOS)
    assert (saw.anon_bytes, saw.file_bytes, saw.dirty_bytes) == (10, 20, 7)
    assert saw.unevictable_bytes == 5
    assert (saw.evicted_total_pages, saw.refault_total_pages) == (6, 15)
    assert (saw.throttled_total, saw.oom_total) == (3, 7)
    assert saw.limit_bytes == 1 << 30
    assert (saw.pressure.memcg, saw.pressure.memcg_us) == ("/a", 9)
    assert not saw.frozen


def test_each_cgroup_up_to_the_top_guards_what_it_must_keep(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/s", memory_current="1000\n", memory_low="700\n", memory_min="0\n")
    shows_memcg(swapping, "/s/m", memory_current="900\n", memory_low="0\n", memory_min="0\n")
    shows_memcg(swapping, "/s/m/l", memory_current="800\n", memory_low="10\n", memory_min="20\n")
    saw = inspect(swapping.layout, "/", "/s/m/l", FOLIOS)
    assert saw.guards == (
        Guard("/s/m/l", 800, 20),
        Guard("/s/m", 900, 0),
        Guard("/s", 1000, 700),
    )


def test_a_protection_of_max_keeps_everything(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/a", memory_current="1000\n", memory_low="max\n")
    (guard,) = inspect(swapping.layout, "/", "/a", FOLIOS).guards
    assert guard.protected_bytes > guard.current_bytes


def test_swap_is_what_the_guest_has_within_each_limit_on_the_way_up(swapping: FakeGuest) -> None:
    limit, used = f"{600 * MIB}\n", f"{500 * MIB}\n"
    shows_memcg(swapping, "/s", memory_swap_max=limit, memory_swap_current=used)
    shows_memcg(swapping, "/s/a", memory_swap_max=f"{800 * MIB}\n")
    shows_memcg(swapping, "/b", memory_swap_max="0\n", memory_swap_current="4096\n")
    shows_memcg(swapping, "/c")
    free = {
        path: inspect(swapping.layout, "/", path, FOLIOS).swap_free_bytes
        for path in ("/s/a", "/b", "/c")
    }
    assert free == {"/s/a": 100 * MIB, "/b": 0, "/c": 1000 * MIB}


def test_a_limit_that_leaves_less_than_the_guest_has_is_named(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/s", memory_swap_max=f"{100 * MIB}\n")
    shows_memcg(swapping, "/s/a", memory_swap_high=f"{80 * MIB}\n", memory_swap_current="4096\n")
    shows_memcg(swapping, "/s/b", memory_swap_max=f"{2000 * MIB}\n")
    shows_memcg(swapping, "/c", memory_swap_max=f"{2000 * MIB}\n")
    saw = {path: inspect(swapping.layout, "/", path, FOLIOS) for path in ("/s/a", "/s/b", "/c")}
    assert {path: each.swap_limit_path for path, each in saw.items()} == {
        "/s/a": "/s/a",
        "/s/b": "/s",
        "/c": None,
    }
    assert saw["/s/a"].swap_free_bytes == 80 * MIB - 4096


def test_zram_counts_where_the_next_page_goes_to_it(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/a")
    swapping.shows("/sys/block/zram0/mm_stat", "4096000 1000 2000000 0 0 0 0 0 0\n")
    swapping.shows("/proc/swaps", HEADER + ZRAM)
    saw = inspect(swapping.layout, "/", "/a", FOLIOS)
    assert (saw.zram_stored_bytes, saw.zram_used_bytes) == (4_096_000, 2_000_000)
    swapping.shows("/proc/swaps", HEADER + DISK + ZRAM)
    saw = inspect(swapping.layout, "/", "/a", FOLIOS)
    assert (saw.zram_stored_bytes, saw.zram_used_bytes) == (4_096_000, 2_000_000)


def test_zram_counts_no_more_where_the_next_page_goes_elsewhere(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/a")
    swapping.shows("/sys/block/zram0/mm_stat", "4096000 1000 2000000 0 0 0 0 0 0\n")
    full = ZRAM.replace("\t\t0\t\t", "\t\t1048572\t\t")
    for first in (full, ZRAM.replace("100", "-3"), ZRAM.replace("100", "-2")):
        swapping.shows("/proc/swaps", HEADER + first + DISK)
        saw = inspect(swapping.layout, "/", "/a", FOLIOS)
        assert (saw.zram_stored_bytes, saw.zram_used_bytes) == (0, 0)


def test_what_zram_may_still_take_is_known_where_it_is_limited(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/a")
    swapping.shows("/proc/swaps", HEADER + ZRAM)
    left = []
    for limit in (3_000_000, 1_500_000, 0):
        swapping.shows("/sys/block/zram0/mm_stat", f"4096000 1000 2000000 {limit} 0 0 0 0 0\n")
        left.append(inspect(swapping.layout, "/", "/a", FOLIOS).zram_left_bytes)
    assert left == [1_000_000, 0, None]


def test_shared_memory_is_told_apart(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/a", memory_stat=stat(anon=10, file=20) + "shmem 15\n")
    saw = inspect(swapping.layout, "/", "/a", FOLIOS)
    assert (saw.swappable_bytes, saw.droppable_bytes) == (25, 5)


def test_the_largest_folio_is_a_huge_one_only_where_there_are_some(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/a", memory_stat=stat())
    shows_memcg(swapping, "/b", memory_stat=stat(anon_thp=2 << 20))
    shows_memcg(swapping, "/c", memory_stat=stat(file_thp=2 << 20))
    found = [inspect(swapping.layout, "/", path, FOLIOS) for path in ("/a", "/b", "/c")]
    assert [saw.folio_bytes for saw in found] == [FOLIOS.file_bytes, 2 << 20, 2 << 20]
    small = FOLIOS.anon_bytes
    assert [saw.anon_folio_bytes for saw in found] == [small, 2 << 20, small]


def test_the_root_has_no_limits_no_events_and_no_guard(swapping: FakeGuest) -> None:
    swapping.has_memcg("/", memory_stat=stat(file=4096))
    saw = inspect(swapping.layout, "/", "/", FOLIOS)
    assert saw.guards == ()
    assert saw.limit_bytes is None
    assert (saw.file_bytes, saw.throttled_total, saw.oom_total) == (4096, 0, 0)


def test_a_frozen_one_is_known(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/a", cgroup_events=events_text(frozen=True))
    assert inspect(swapping.layout, "/", "/a", FOLIOS).frozen


def test_one_that_is_gone_has_vanished(swapping: FakeGuest) -> None:
    with pytest.raises(Vanished):
        inspect(swapping.layout, "/", "/a", FOLIOS)


def test_a_parent_that_is_gone_has_vanished_too(swapping: FakeGuest) -> None:
    shows_memcg(swapping, "/s/a")
    swapping.has_memcg("/s")
    shows_memcg(swapping, "/s", memory_current="lots\n")
    with pytest.raises(MalformedReading):
        inspect(swapping.layout, "/", "/s/a", FOLIOS)
