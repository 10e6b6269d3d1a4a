from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.compaction import (
    Counters,
    open_trigger,
    parse_counters,
    read_counters,
    trigger_path,
)
from kernelio.errors import MalformedReading, Unsupported, Vanished
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

_NUMBER = st.integers(0, 2**64 - 1)


def _printed(counters: Counters) -> str:
    """As a part of /proc/vmstat."""
    migrate_scanned, free_scanned, isolated, migrated = counters
    return (
        f"nr_free_pages 12\npgmigrate_success {migrated}\npgmigrate_fail 3\n"
        f"compact_migrate_scanned {migrate_scanned}\ncompact_free_scanned {free_scanned}\n"
        f"compact_isolated {isolated}\ncompact_stall 9\n"
        "compact_daemon_migrate_scanned 77\ncompact_daemon_free_scanned 78\n"
    )


@pytest.mark.parametrize("file", golden_files("proc/vmstat"))
def test_finds_the_counters_of_each_recorded_kernel(file: str) -> None:
    assert parse_counters(os.fsdecode(golden_text(file)), file) == Counters(0, 0, 0, 0)


@given(st.builds(Counters, _NUMBER, _NUMBER, _NUMBER, _NUMBER))
def test_reads_back_every_count_the_kernel_can_print(counters: Counters) -> None:
    assert parse_counters(_printed(counters), "x") == counters


@given(st.text() | st.binary().map(os.fsdecode) | st.from_regex(r"compact_isolated \d+\n"))
def test_any_text_parses_or_is_an_error_of_ours(text: str) -> None:
    with suppress(MalformedReading, Unsupported):
        assert parse_counters(text, "x").isolated_total_pages >= 0


def test_a_kernel_that_moves_pages_but_does_not_compact_lacks_compaction(
    guest: FakeGuest,
) -> None:
    guest.shows("/proc/vmstat", "nr_free_pages 12\npgmigrate_success 5\n")
    with pytest.raises(Unsupported, match="not built"):
        read_counters(guest.layout)


def test_half_of_the_counters_is_malformed() -> None:
    text = _printed(Counters(1, 2, 3, 4)).replace("pgmigrate_success 4\n", "")
    with pytest.raises(MalformedReading, match="pgmigrate_success"):
        parse_counters(text, "x")


def test_a_node_is_compacted_through_its_own_file(guest: FakeGuest) -> None:
    path = guest.shows("/sys/devices/system/node/node1/compact", "")
    guest.shows("/proc/sys/vm/compact_memory", "")
    assert trigger_path(guest.layout, 1) == path
    fd = open_trigger(guest.layout, 1)
    assert not os.get_inheritable(fd)
    os.write(fd, b"1\n")
    os.close(fd)
    assert guest.received("/sys/devices/system/node/node1/compact") == b"1\n"


def test_a_kernel_without_nodes_is_compacted_as_a_whole(guest: FakeGuest) -> None:
    path = guest.shows("/proc/sys/vm/compact_memory", "")
    assert trigger_path(guest.layout, 0) == path


def test_a_node_that_is_gone_does_not_have_all_others_compacted(guest: FakeGuest) -> None:
    guest.shows("/sys/devices/system/node/online", "0\n")
    guest.shows("/proc/sys/vm/compact_memory", "")
    with pytest.raises(Vanished):
        open_trigger(guest.layout, 1)


def test_a_kernel_without_compaction_is_told_from_a_node_that_is_gone(guest: FakeGuest) -> None:
    guest.shows("/sys/devices/system/node/node0/meminfo", "")
    with pytest.raises(Unsupported):
        open_trigger(guest.layout, 0)
