from __future__ import annotations

import errno
import os
import select
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading, Refused, Unsupported, Vanished
from kernelio.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
    Watched,
    parse_events,
)
from tests.fake_guest import FakeGuest
from tests.few_fds import no_fds_left

EVENTS = "/sys/fs/cgroup/shop/memory.events"

# One event of a directory's watch, as read(2) gave it on 6.18: `mkdir child`.
MKDIR_CHILD = bytes.fromhex("01000000000100400000000010000000") + b"child".ljust(16, b"\0")


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    one = Inotify()
    yield one
    one.close()


def printed(event: Watched) -> bytes:
    """Put an event together as the kernel does."""
    name = os.fsencode(event.name)
    length = (len(name) // 16 + 1) * 16 if name else 0
    return struct.pack("iIII", event.wd, event.mask, 0, length) + name.ljust(length, b"\0")


# --- parsing


def test_reads_what_the_kernel_gave() -> None:
    assert parse_events(MKDIR_CHILD) == [Watched(1, IN_CREATE | IN_ISDIR, "child")]


NAMES = st.binary(max_size=255).map(
    lambda name: os.fsdecode(name.replace(b"\0", b"0").replace(b"/", b"_"))
)
WATCHED = st.builds(Watched, st.integers(-1, 2**31 - 1), st.integers(0, 2**32 - 1), NAMES)


@given(st.lists(WATCHED, max_size=5))
def test_reads_back_every_event(events: list[Watched]) -> None:
    assert parse_events(b"".join(map(printed, events))) == events


@given(st.binary())
def test_any_bytes_parse_or_are_a_malformed_reading(data: bytes) -> None:
    with suppress(MalformedReading):
        assert len(parse_events(data)) * 16 <= len(data)


@given(st.lists(WATCHED, min_size=1, max_size=3), st.data())
def test_an_event_that_is_cut_off_is_malformed(events: list[Watched], data: st.DataObject) -> None:
    last = printed(events[-1])
    cut = data.draw(st.integers(1, len(last) - 1))
    with pytest.raises(MalformedReading) as caught:
        parse_events(b"".join(map(printed, events[:-1])) + last[:cut])
    assert caught.value.line == last[:cut].hex()


# --- the kernel's


def test_nothing_happened_is_no_event(inotify: Inotify) -> None:
    assert inotify.read() == []


def test_a_changed_file_is_told_without_a_name(inotify: Inotify, guest: FakeGuest) -> None:
    wd = inotify.add(guest.shows(EVENTS, "high 0\n"), IN_MODIFY)
    guest.shows(EVENTS, "high 1\n")
    assert Watched(wd, IN_MODIFY, "") in inotify.read()
    assert inotify.read() == []


def test_the_fd_is_readable_once_something_happened(inotify: Inotify, guest: FakeGuest) -> None:
    inotify.add(guest.shows(EVENTS, ""), IN_MODIFY)
    poll = select.poll()
    poll.register(inotify.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    guest.shows(EVENTS, "high 1\n")
    assert poll.poll(5000) == [(inotify.fileno(), select.POLLIN)]


def test_children_that_come_and_go_are_told_by_name(inotify: Inotify, guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop")
    wd = inotify.add(directory, IN_CREATE | IN_DELETE | IN_ONLYDIR)
    os.mkdir(f"{directory}/a b")
    os.rmdir(f"{directory}/a b")
    assert inotify.read() == [
        Watched(wd, IN_CREATE | IN_ISDIR, "a b"),
        Watched(wd, IN_DELETE | IN_ISDIR, "a b"),
    ]


def test_a_file_put_in_place_is_told_as_written_and_moved(
    inotify: Inotify, guest: FakeGuest
) -> None:
    directory = os.path.dirname(guest.shows("/etc/memreact/config.toml", ""))
    wd = inotify.add(directory, IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO)
    new = guest.shows("/etc/memreact/new", "x")
    os.rename(new, f"{directory}/config.toml")
    assert inotify.read() == [
        Watched(wd, IN_CLOSE_WRITE, "new"),
        Watched(wd, IN_MOVED_FROM, "new"),
        Watched(wd, IN_MOVED_TO, "config.toml"),
    ]


def test_a_watch_of_a_path_already_watched_keeps_its_number(
    inotify: Inotify, guest: FakeGuest
) -> None:
    path = guest.shows(EVENTS, "")
    assert inotify.add(path, IN_MODIFY) == inotify.add(path, IN_CLOSE_WRITE)


def test_a_path_that_is_gone_is_vanished_though_its_directory_lives(
    inotify: Inotify, guest: FakeGuest
) -> None:
    guest.has_memcg("/shop")
    with pytest.raises(Vanished):
        inotify.add(guest.layout.memcg_dir("/shop/gone"), IN_CREATE)


def test_a_file_where_a_directory_is_asked_for_is_unsupported(
    inotify: Inotify, guest: FakeGuest
) -> None:
    with pytest.raises(Unsupported):
        inotify.add(guest.shows(EVENTS, ""), IN_CREATE | IN_ONLYDIR)


def test_a_removed_watch_tells_nothing_but_its_end(inotify: Inotify, guest: FakeGuest) -> None:
    wd = inotify.add(guest.shows(EVENTS, ""), IN_MODIFY)
    inotify.remove(wd)
    guest.shows(EVENTS, "high 1\n")
    assert inotify.read() == [Watched(wd, IN_IGNORED, "")]


def test_a_watch_that_ended_by_itself_can_be_removed(inotify: Inotify, guest: FakeGuest) -> None:
    wd = inotify.add(guest.shows(EVENTS, ""), IN_MODIFY)
    guest.loses(EVENTS)
    assert Watched(wd, IN_IGNORED, "") in inotify.read()
    inotify.remove(wd)
    inotify.remove(wd)


def test_a_storm_is_read_in_pieces_and_its_overflow_told(
    inotify: Inotify, guest: FakeGuest
) -> None:
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as limit:
        queue = int(limit.read())
    files = [os.open(guest.shows(f"/shop/{name}", ""), os.O_WRONLY) for name in "ab"]
    inotify.add(guest.path("/shop"), IN_MODIFY)
    # In turn: an event like the one before it is not queued.
    for _ in range(queue // 2 + 1):
        for fd in files:
            os.pwrite(fd, b"x", 0)
    for fd in files:
        os.close(fd)
    pieces = list(iter(inotify.read, []))
    events = [event for piece in pieces for event in piece]
    assert events[-1] == Watched(-1, IN_Q_OVERFLOW, "")
    assert len(events) == queue + 1
    assert max(map(len, pieces)) < 1000


def test_closing_gives_the_fd_back(guest: FakeGuest) -> None:
    inotify = Inotify()
    inotify.close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        os.fstat(inotify.fileno())
    assert caught.value.errno == errno.EBADF


def test_a_queue_too_many_says_what_to_raise() -> None:
    with no_fds_left(), pytest.raises(Refused) as caught:
        Inotify()
    assert caught.value.errno == errno.EMFILE
    assert "fs.inotify.max_user_instances" in str(caught.value)


def test_a_closed_queue_is_refused_and_not_an_oserror(guest: FakeGuest) -> None:
    inotify = Inotify()
    inotify.close()
    with pytest.raises(Refused):
        inotify.read()
    with pytest.raises(Refused):
        inotify.remove(1)
