"""Free pages that CPUs keep at hand: counted, limited, and let go."""

from __future__ import annotations

import os
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading, Unsupported
from kernelio.inotify import Inotify
from kernelio.percpu_lists import (
    SHORTEST,
    count_pages,
    limit_path,
    read_limit,
    shorten,
    write_limit,
)
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

LIMIT = "/proc/sys/vm/percpu_pagelist_high_fraction"
REFRESH = "/proc/sys/vm/stat_refresh"
_IN_CLOSE_NOWRITE, _IN_OPEN = 0x10, 0x20


def test_what_a_guest_of_one_gib_had_in_its_lists_is_72_mib(guest: FakeGuest) -> None:
    guest.shows("/proc/zoneinfo", golden_text("6.12/proc/zoneinfo"))
    assert count_pages(guest.layout) == 9_523 + 8_827


@pytest.mark.parametrize("file", golden_files("proc/zoneinfo"))
def test_each_recorded_kernel_prints_a_count_for_each_cpu(guest: FakeGuest, file: str) -> None:
    guest.shows("/proc/zoneinfo", golden_text(file))
    assert count_pages(guest.layout) > 0


@given(counts=st.lists(st.integers(0, 2**40), max_size=9))
def test_the_counts_of_all_zones_and_cpus_are_added(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int]
) -> None:
    guest = FakeGuest(str(tmp_path_factory.mktemp("g")))
    # As mm/vmstat.c, zoneinfo_show_print()
    cpus = "".join(
        f"\n    cpu: {cpu}\n              count: {count}\n              high:  {2**40}\n"
        for cpu, count in enumerate(counts)
    )
    guest.shows("/proc/zoneinfo", f"Node 0, zone   Normal\n  pagesets{cpus}")
    assert count_pages(guest.layout) == sum(counts)


@pytest.mark.parametrize("text", ["0\n", "8\n", "2147483647\n"])
def test_a_limit_is_read_as_it_can_be_written_back(guest: FakeGuest, text: str) -> None:
    guest.shows(LIMIT, text)
    assert read_limit(guest.layout) == text.strip()


@given(text=st.binary(max_size=20))
def test_any_text_is_a_limit_or_malformed(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    guest = FakeGuest(str(tmp_path_factory.mktemp("g")))
    guest.shows(LIMIT, text)
    with suppress(MalformedReading):
        assert read_limit(guest.layout).isdecimal()


def test_a_kernel_without_a_limit_says_so(guest: FakeGuest) -> None:
    for use in (
        read_limit,
        lambda layout: shorten(layout, lambda: True),
        lambda layout: write_limit(layout, SHORTEST),
    ):
        with pytest.raises(Unsupported):
            use(guest.layout)


def test_the_shortest_is_a_number_that_the_kernel_takes_for_an_int(guest: FakeGuest) -> None:
    guest.shows(LIMIT, "0\n")
    write_limit(guest.layout, SHORTEST)
    assert int(guest.received(LIMIT)) < 2**31
    assert limit_path(guest.layout) == guest.path(LIMIT)


def test_lists_are_shortened_by_so_many_passes_that_a_16th_of_memory_is_a_mib(
    guest: FakeGuest,
) -> None:
    watch = Inotify()
    with closing(watch):
        watch.add(guest.shows(REFRESH, ""), _IN_OPEN | _IN_CLOSE_NOWRITE)
        shorten(guest.layout, lambda: True)
        passes = sum(bool(event.mask & _IN_OPEN) for event in watch.read())
    limit_pages = (64 << 30) / 16 / os.sysconf("SC_PAGE_SIZE")
    assert limit_pages * (7 / 8) ** passes < limit_pages / 200
