"""memory.events that grow while work runs, told by real inotify."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from kernelio.inotify import IN_Q_OVERFLOW, Inotify, Watched
from memreact.events import LimitHit
from memreact.sources.limits import LimitWatch
from tests.fake_guest import FakeGuest
from tests.memreact.kernel_files import memory_events


class ForgetfulInotify(Inotify):
    """A queue that overflows when told to: all that was in it is lost."""

    overflows = False

    def read(self) -> list[Watched]:
        """What is in the queue, or that it was too long."""
        events = super().read()
        return [Watched(-1, IN_Q_OVERFLOW, "")] if self.overflows else events


@pytest.fixture
def inotify() -> ForgetfulInotify:
    return ForgetfulInotify()


@pytest.fixture
def limits(guest: FakeGuest, inotify: Inotify) -> Iterator[LimitWatch]:
    for path in ("/a", "/a/b", "/c"):
        grows(guest, path)
    made = LimitWatch(guest.layout, inotify)
    yield made
    made.close()


def grows(guest: FakeGuest, path: str, **counts: int) -> None:
    """Let the counters of a cgroup be these; a kernel file is changed in place."""
    file = f"/sys/fs/cgroup{path}/memory.events"
    if not os.path.exists(guest.path(file)):
        guest.shows(file, memory_events(**counts))
        return
    with open(guest.path(file), "r+b") as events:
        events.write(memory_events(**counts).encode())


def readable(limits: LimitWatch) -> bool:
    return bool(select.select([limits], [], [], 0)[0])


def test_says_how_much_each_counter_grew(guest: FakeGuest, limits: LimitWatch) -> None:
    grows(guest, "/a/b", high=3, max=1)
    limits.arm("/a/b")
    grows(guest, "/a/b", high=5, max=2, oom=1, oom_kill=1)
    assert readable(limits)
    assert limits.read() == [LimitHit("/a/b", high=2, max=1, oom=2)]
    assert limits.read() == []


def test_nothing_is_watched_before_it_is_armed_or_after(
    guest: FakeGuest, limits: LimitWatch
) -> None:
    grows(guest, "/a", oom=1)
    assert not readable(limits)
    limits.arm("/a")
    limits.disarm("/a")
    grows(guest, "/a", oom=2)
    assert limits.read() == []


def test_the_top_level_tells_of_oom_kills_alone(guest: FakeGuest, limits: LimitWatch) -> None:
    limits.arm("")
    grows(guest, "/c", high=9, max=9)
    assert limits.read() == []
    grows(guest, "/c", high=9, max=9, oom_kill=1)
    assert limits.read() == [LimitHit("/c", oom=1)]


@pytest.mark.parametrize("order", [("", "/a"), ("/a", "")])
def test_one_at_work_on_the_top_level_tells_of_its_limits_too(
    guest: FakeGuest, limits: LimitWatch, order: tuple[str, str]
) -> None:
    for key in order:
        limits.arm(key)
    grows(guest, "/a", high=1)
    assert limits.read() == [LimitHit("/a", high=1)]


def test_arming_the_memcg_at_work_loses_no_oom_that_was_not_read_yet(
    guest: FakeGuest, limits: LimitWatch
) -> None:
    limits.arm("")
    grows(guest, "/a", oom=1)
    limits.arm("/a")
    assert limits.read() == [LimitHit("/a", oom=1)]


def test_disarming_one_leaves_what_the_other_watches(guest: FakeGuest, limits: LimitWatch) -> None:
    limits.arm("")
    limits.arm("/a")
    limits.disarm("/a")
    grows(guest, "/a", high=4, oom=1)
    assert limits.read() == [LimitHit("/a", oom=1)]


def test_one_made_again_under_its_name_counts_from_its_own_beginning(
    guest: FakeGuest, limits: LimitWatch
) -> None:
    grows(guest, "/a", oom=5)
    limits.arm("")
    guest.loses("/sys/fs/cgroup/a")
    grows(guest, "/a", oom=0)
    limits.arm("/a")
    grows(guest, "/a", oom=1)
    assert limits.read() == [LimitHit("/a", oom=1)]


def test_one_that_vanished_says_nothing(guest: FakeGuest, limits: LimitWatch) -> None:
    limits.arm("/a/b")
    grows(guest, "/a/b", oom=1)
    guest.loses("/sys/fs/cgroup/a/b")
    assert limits.read() == []
    limits.disarm("/a/b")
    limits.arm("/a/b")
    assert limits.read() == []


def test_one_whose_counters_cannot_be_understood_says_nothing(
    guest: FakeGuest, limits: LimitWatch
) -> None:
    limits.arm("/a")
    guest.shows("/sys/fs/cgroup/a/memory.events", "oom lots\n")
    assert limits.read() == []


def test_after_an_overflow_all_that_is_armed_is_compared(
    guest: FakeGuest, limits: LimitWatch, inotify: ForgetfulInotify
) -> None:
    limits.arm("")
    limits.arm("/a/b")
    grows(guest, "/c", oom=1)
    grows(guest, "/a/b", high=1)
    inotify.overflows = True
    assert sorted(limits.read(), key=lambda hit: hit.path) == [
        LimitHit("/a/b", high=1),
        LimitHit("/c", oom=1),
    ]


def test_one_that_is_made_while_work_runs_is_heard_of_too(
    guest: FakeGuest, limits: LimitWatch
) -> None:
    limits.arm("")
    grows(guest, "/new")
    assert limits.read() == []
    grows(guest, "/new", oom_kill=1)
    assert limits.read() == [LimitHit("/new", oom=1)]


def test_one_that_ran_out_of_memory_before_it_was_met_is_heard_of(
    guest: FakeGuest, limits: LimitWatch
) -> None:
    limits.arm("")
    limits.arm("/a")
    grows(guest, "/new", oom=2)
    assert limits.read() == [LimitHit("/new", oom=2)]
    limits.disarm("")
    grows(guest, "/newer", oom=1)
    grows(guest, "/new", oom=3)
    assert limits.read() == []


def test_one_that_was_made_in_an_overflow_is_met(
    guest: FakeGuest, limits: LimitWatch, inotify: ForgetfulInotify
) -> None:
    grows(guest, "/c", oom=7)
    limits.arm("")
    grows(guest, "/new", oom=1)
    inotify.overflows = True
    assert limits.read() == [LimitHit("/new", oom=1)]


def test_a_guest_without_cgroups_has_nothing_to_watch(guest: FakeGuest) -> None:
    limits = LimitWatch(guest.layout, Inotify())
    limits.arm("")
    limits.arm("/a")
    assert limits.read() == []
    limits.close()
