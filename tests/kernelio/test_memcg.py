from __future__ import annotations

import errno
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import Interrupted, MalformedReading, Refused, Unsupported, Vanished
from kernelio.interruptible import install_kick_handler
from kernelio.memcg import (
    UNLIMITED,
    Limits,
    MemoryEvents,
    MemoryStat,
    Protection,
    SwapUse,
    _ask,
    parse_amount,
    parse_memory_events,
    parse_memory_stat,
    read_amount,
    read_current,
    read_limits,
    read_memory_events,
    read_memory_stat,
    read_protection,
    read_swap,
    reclaim,
)
from tests.fake_guest import FakeGuest
from tests.goldens import GOLDEN, golden_files, golden_text
from tests.stuck import fill, full_fifo, kicked_until_done

AMOUNT_FILES = [
    path
    for name in ("min", "low", "high", "max", "current", "swap.max", "swap.current")
    for path in golden_files(f"memory.{name}")
]
# The cgroup that was squeezed by memory.high before it was recorded.
SQUEEZED = [os.path.dirname(path) for path in golden_files("a b/memory.high")]
ROOTS = [os.path.dirname(path) for path in golden_files("sys/fs/cgroup/memory.stat")]


def pairs(text: bytes) -> dict[str, int]:
    """Read a flat keyed file in the plainest way."""
    words = text.decode().split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


# --- amounts


@pytest.mark.parametrize("path", AMOUNT_FILES)
def test_reads_back_the_amounts_of_real_kernels(path: str) -> None:
    amount = parse_amount(golden_text(path), path)
    assert golden_text(path) == (b"max\n" if amount is None else b"%d\n" % amount)


@given(st.integers(0, 2**64 - 1))
def test_reads_back_every_amount(amount: int) -> None:
    assert parse_amount(b"%d\n" % amount, "x") == amount


@given(st.binary() | st.text("max0123456789\n -").map(str.encode))
def test_any_amount_parses_or_is_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        amount = parse_amount(text, "x")
        assert amount is None or amount >= 0


@pytest.mark.parametrize("text", ["", "\n", "maximum\n", "-1\n", "1 2\n", "1_0\n", "0x10\n"])
def test_what_is_no_amount_is_malformed(guest: FakeGuest, text: str) -> None:
    directory = guest.has_memcg("/shop", memory_low=text)
    with pytest.raises(MalformedReading) as caught:
        read_amount(f"{directory}/memory.low")
    assert caught.value.line == text


def test_the_current_amount_is_always_a_number(guest: FakeGuest) -> None:
    assert read_current(guest.has_memcg("/shop", memory_current="4096\n")) == 4096
    with pytest.raises(MalformedReading):
        read_current(guest.has_memcg("/odd", memory_current="max\n"))


def test_protection_of_max_is_unlimited(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", memory_min="0\n", memory_low="max\n")
    assert read_protection(directory) == Protection(0, UNLIMITED)
    directory = guest.has_memcg("/db", memory_min="max\n", memory_low="8192\n")
    assert read_protection(directory) == Protection(UNLIMITED, 8192)


def test_limits_of_max_are_none(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", memory_high="max\n", memory_max="1073741824\n")
    assert read_limits(directory) == Limits(None, 1 << 30)


def test_swap_use_and_its_limit(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", memory_swap_current="4096\n", memory_swap_max="0\n")
    assert read_swap(directory) == SwapUse(4096, 0)


def test_swap_is_left_up_to_the_nearer_of_two_limits() -> None:
    assert SwapUse(4096, None).left_bytes is None
    assert SwapUse(4096, 8192).left_bytes == 4096
    assert SwapUse(4096, 8192, 6144).left_bytes == 2048
    assert SwapUse(4096, 2048, 8192).left_bytes == 0


def test_a_high_limit_of_swap_is_read_too(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", memory_swap_current="0\n", memory_swap_high="4096\n")
    assert read_swap(directory) == SwapUse(0, None, 4096)


def test_what_came_back_from_swap_is_what_the_better_counter_saw() -> None:
    assert MemoryStat(workingset_refault_anon=7).promoted_pages == 7
    assert MemoryStat(workingset_refault_anon=7, pswpin=5, zswpin=4).promoted_pages == 9


@pytest.mark.parametrize("root", ROOTS)
def test_the_root_group_is_unprotected_and_unlimited(root: str) -> None:
    directory = os.path.join(GOLDEN, root)
    assert read_protection(directory) == Protection(0, 0)
    assert read_limits(directory) == Limits(None, None)
    assert read_swap(directory) == SwapUse(0, None)
    with pytest.raises(Unsupported):
        read_current(directory)
    with pytest.raises(Unsupported):
        read_memory_events(directory)


@pytest.mark.parametrize("directory", SQUEEZED)
def test_a_squeezed_cgroup_shows_its_protection_limits_swap_and_throttling(directory: str) -> None:
    directory = os.path.join(GOLDEN, directory)
    protection, limits, swap = (
        read_protection(directory),
        read_limits(directory),
        read_swap(directory),
    )
    assert 0 < protection.low_bytes < read_current(directory)
    assert limits.high_bytes is not None
    assert limits.max_bytes is None
    assert swap.max_bytes is not None
    assert 0 < swap.current_bytes <= swap.max_bytes
    assert read_memory_events(directory).high > 0
    assert read_memory_stat(directory).workingset_refault_anon > 0


def test_every_reading_of_a_removed_cgroup_is_vanished(guest: FakeGuest) -> None:
    directory = guest.layout.memcg_dir("/gone")
    for read in (
        read_current,
        read_protection,
        read_limits,
        read_swap,
        read_memory_events,
        read_memory_stat,
    ):
        with pytest.raises(Vanished):
            read(directory)


# --- events


@pytest.mark.parametrize(
    "path", golden_files("memory.events") + golden_files("memory.events.local")
)
def test_reads_the_events_of_real_kernels(path: str) -> None:
    events = parse_memory_events(golden_text(path), path)
    values = pairs(golden_text(path))
    assert values.items() >= events._asdict().items()


@given(st.builds(MemoryEvents, *[st.integers(0, 2**63)] * 6))
def test_reads_back_every_count_of_events(events: MemoryEvents) -> None:
    text = "".join(f"{key} {value}\n" for key, value in events._asdict().items())
    assert parse_memory_events(text.encode(), "memory.events") == events


def test_events_that_a_kernel_lacks_never_happened_and_unknown_ones_are_passed_over() -> None:
    text = b"low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\nsock_throttled 6\n"
    assert parse_memory_events(text, "x") == MemoryEvents(1, 2, 3, 4, 5, 0)


def test_local_events_are_of_the_cgroup_alone(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop")
    guest.shows("/sys/fs/cgroup/shop/memory.events", "high 9\n")
    guest.shows("/sys/fs/cgroup/shop/memory.events.local", "high 2\n")
    assert read_memory_events(directory).high == 9
    assert read_memory_events(directory, local=True).high == 2


@given(st.binary() | st.text("high omax0123456789\n").map(str.encode))
def test_any_events_parse_or_are_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        assert min(parse_memory_events(text, "x")) >= 0


# --- statistics


@pytest.mark.parametrize("path", golden_files("memory.stat"))
def test_reads_the_statistics_of_real_kernels(path: str) -> None:
    stat = parse_memory_stat(golden_text(path), path)
    values = pairs(golden_text(path))
    for field, value in stat._asdict().items():
        assert value == values.get(field.removesuffix("_bytes"), 0), field
    never_printed = {key for key in stat._fields if key.removesuffix("_bytes") not in values}
    assert never_printed <= {"zswapped_bytes", "pswpin", "zswpin"}


@given(st.builds(MemoryStat, *[st.integers(0, 2**63)] * len(MemoryStat._fields)))
def test_reads_back_every_statistic(stat: MemoryStat) -> None:
    values = stat._asdict().items()
    text = "".join(f"{field.removesuffix('_bytes')} {value}\n" for field, value in values)
    assert parse_memory_stat(text.encode(), "memory.stat") == stat


@given(st.binary() | st.text("anonfile 0123456789\n").map(str.encode))
def test_any_statistics_parse_or_are_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        assert min(parse_memory_stat(text, "x")) >= 0


def test_a_malformed_statistic_is_named(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", memory_stat="anon 4096\nfile\nshmem 0\n")
    with pytest.raises(MalformedReading) as caught:
        read_memory_stat(directory)
    assert caught.value.line == "file"
    assert caught.value.path == f"{directory}/memory.stat"


# --- memory.reclaim


def test_a_request_is_spelled_in_bytes(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", memory_reclaim="")
    assert reclaim(directory, bytes_=16 << 20) is True
    assert guest.received("/sys/fs/cgroup/shop/memory.reclaim") == b"16777216"


def test_a_request_may_name_its_swappiness(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", memory_reclaim="")
    assert reclaim(directory, bytes_=4096, swappiness=0) is True
    assert guest.received("/sys/fs/cgroup/shop/memory.reclaim") == b"4096 swappiness=0"


def test_without_memory_reclaim_it_is_unsupported(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        reclaim(guest.has_memcg("/shop"), bytes_=4096)


def test_of_a_removed_cgroup_nothing_is_reclaimed(guest: FakeGuest) -> None:
    with pytest.raises(Vanished):
        reclaim(guest.layout.memcg_dir("/gone"), bytes_=4096)


def test_less_found_than_asked_for_is_false() -> None:
    # A full pipe that does not block answers EAGAIN, as memory.reclaim does.
    read, write = os.pipe2(os.O_NONBLOCK)
    fill(write)
    assert _ask(write, "memory.reclaim", b"4096") is False
    os.close(read)
    os.close(write)


def test_a_swappiness_that_the_kernel_does_not_take_is_refused(guest: FakeGuest) -> None:
    # oom_score_adj answers words that are no number with EINVAL, as memory.reclaim does.
    directory = guest.has_memcg("/shop")
    os.symlink("/proc/self/oom_score_adj", f"{directory}/memory.reclaim")
    with pytest.raises(Refused) as caught:
        reclaim(directory, bytes_=4096, swappiness=201)
    assert caught.value.errno == errno.EINVAL
    assert "`4096 swappiness=201`" in str(caught.value)


def test_a_kicked_request_is_interrupted(guest: FakeGuest) -> None:
    install_kick_handler()
    directory = guest.has_memcg("/shop")
    with full_fifo(f"{directory}/memory.reclaim"):
        ended = kicked_until_done(lambda: reclaim(directory, bytes_=4096))
    assert isinstance(ended, Interrupted)
