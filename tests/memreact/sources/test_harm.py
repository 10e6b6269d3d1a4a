"""Who waited for memory between two readings, whoever came and went meanwhile."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import Unsupported, Vanished
from kernelio.process import has_capability
from kernelio.taskstats import TaskDelays
from memreact.events import Instant
from memreact.sources.harm import (
    PROCESSES_MAX,
    TIME_MAX_US,
    Ask,
    Census,
    harm_between,
    open_taskstats,
    take_census,
    waited,
    why_not_counted,
)
from tests.fake_guest import FakeGuest
from tests.memreact.kernel_files import shows_memcg

NONE = TaskDelays(0, 0, 0, None, None, None)


def delays(reclaim_us: int = 0, swap_in_us: int = 0, block_io_us: int = 0) -> TaskDelays:
    return TaskDelays(1, block_io_us, swap_in_us, reclaim_us, 0, 0)


def asked(known: dict[int, TaskDelays]) -> Ask:
    """Answers for these processes; all others have ended."""

    def ask(pid: int) -> TaskDelays:
        if pid not in known:
            raise Vanished(f"/proc/{pid}")
        return known[pid]

    return ask


def procs(*pids: int) -> str:
    return "".join(f"{pid}\n" for pid in pids)


def still() -> Instant:
    return Instant(5)


def test_a_census_asks_about_each_process_and_passes_over_what_ended(guest: FakeGuest) -> None:
    shows_memcg(guest, "/shop", cgroup_procs=procs(1, 2, 3))
    found = take_census(
        guest.layout, ["/shop", "/gone"], asked({1: delays(5), 3: delays(6)}), clock=still
    )
    assert found == Census(Instant(5), {"/shop": {1: delays(5), 3: delays(6)}, "/gone": {}}, 0)


def test_what_has_no_memory_controller_is_charged_to_the_memcg_above_it(guest: FakeGuest) -> None:
    shows_memcg(guest, "/shop", cgroup_procs=procs(1))
    shows_memcg(guest, "/shop/web", cgroup_procs=procs(2))
    guest.shows("/sys/fs/cgroup/shop/plain/cgroup.procs", procs(3))
    all_of_them = asked(dict.fromkeys((1, 2, 3), NONE))
    alone = take_census(guest.layout, ["/shop"], all_of_them)
    assert alone.memcgs["/shop"].keys() == {1, 3}
    whole = take_census(guest.layout, ["/shop"], all_of_them, with_below=True)
    assert whole.memcgs["/shop"].keys() == {1, 2, 3}


def test_a_process_of_another_pid_namespace_is_nobody(guest: FakeGuest) -> None:
    shows_memcg(guest, "/shop", cgroup_procs=procs(0, 1))
    found = take_census(guest.layout, ["/shop"], asked({0: NONE, 1: NONE}))
    assert found.memcgs["/shop"].keys() == {1}


def test_of_too_many_the_first_are_asked_and_the_rest_counted(guest: FakeGuest) -> None:
    pids = range(1, PROCESSES_MAX + 10)
    shows_memcg(guest, "/shop", cgroup_procs=procs(*pids))
    found = take_census(guest.layout, ["/shop"], asked(dict.fromkeys(pids, NONE)))
    assert (len(found.memcgs["/shop"]), found.left_out) == (PROCESSES_MAX, 9)


def test_a_census_that_takes_too_long_ends(guest: FakeGuest) -> None:
    shows_memcg(guest, "/shop", cgroup_procs=procs(1, 2, 3))
    times = iter((0, 10, TIME_MAX_US + 1, TIME_MAX_US + 2))
    found = take_census(
        guest.layout,
        ["/shop"],
        asked(dict.fromkeys((1, 2, 3), NONE)),
        clock=lambda: Instant(next(times)),
    )
    assert (list(found.memcgs["/shop"]), found.left_out) == ([1], 2)


def test_what_processes_waited_is_the_sum_of_what_each_did() -> None:
    before = {1: delays(10, 20), 2: delays(1)}
    after = {1: delays(15, 29), 2: delays(4)}
    assert waited(before, after) == TaskDelays(0, 0, 9, 8, 0, 0)


def test_one_that_began_since_counts_whole_unless_somebody_was_left_out() -> None:
    before, after = {1: delays(10)}, {1: delays(10), 2: delays(7)}
    assert waited(before, after).reclaim_us == 7
    assert waited(before, after, whole=False).reclaim_us == 0


def test_an_id_that_was_given_to_another_process_counts_whole() -> None:
    assert waited({1: delays(100, 5)}, {1: delays(7, 9)}).swap_in_us == 9


def test_what_no_process_is_told_of_is_not_told() -> None:
    assert waited({}, {}) == NONE
    assert waited({}, {1: NONE}) == NONE
    assert waited({1: NONE}, {1: NONE}).reclaim_us is None


FIGURE = st.integers(0, 10**9)
DELAYS = st.builds(TaskDelays, FIGURE, FIGURE, FIGURE, FIGURE, FIGURE, st.none() | FIGURE)
PROCESSES = st.dictionaries(st.integers(1, 6), DELAYS)


@given(before=PROCESSES, after=PROCESSES, whole=st.booleans())
def test_nobody_ever_waited_less_than_nothing(
    before: dict[int, TaskDelays], after: dict[int, TaskDelays], *, whole: bool
) -> None:
    sums = waited(before, after, whole=whole)
    assert all(us is None or us >= 0 for us in sums)
    assert (sums.reclaim_us or 0) <= sum(each.reclaim_us or 0 for each in after.values())


def census(at: int, memcgs: dict[str, dict[int, TaskDelays]], left_out: int = 0) -> Census:
    return Census(Instant(at), memcgs, left_out)


def test_those_who_waited_for_memory_are_told_the_worst_first() -> None:
    before = census(1, {"/a": {1: delays()}, "/b": {2: delays()}, "/c": {3: delays()}})
    after = census(
        9,
        {
            "/a": {1: delays(2_000)},
            "/b": {2: delays(1_000, 3_000)},
            "/c": {3: delays(block_io_us=10**6)},
        },
        left_out=4,
    )
    harm = harm_between(before, after)
    assert harm is not None
    assert [each.path for each in harm.memcgs] == ["/b", "/a"]  # a disk alone is no harm of ours
    assert (harm.since, harm.at, harm.left_out) == (1, 9, 4)


def test_less_than_a_millisecond_is_nobodys_harm() -> None:
    before = census(1, {"/a": {1: delays()}})
    assert harm_between(before, census(2, {"/a": {1: delays(999)}})) is None


def test_a_process_that_moved_to_another_memcg_brings_no_past() -> None:
    before = census(1, {"/a": {1: delays(10**6)}})
    after = census(2, {"/a": {}, "/b": {1: delays(10**6 + 5_000)}})
    harm = harm_between(before, after)
    assert harm is not None
    ((path, reclaim_us),) = ((each.path, each.reclaim_us) for each in harm.memcgs)
    assert (path, reclaim_us) == ("/b", 5_000)


def test_where_some_were_left_out_those_that_were_not_known_count_for_nothing() -> None:
    before = census(1, {"/a": {1: delays()}}, left_out=1)
    assert harm_between(before, census(2, {"/a": {1: delays(), 2: delays(10**6)}})) is None


@pytest.mark.parametrize(
    ("switch", "words", "told"),
    [
        (None, "ro", "CONFIG_TASK_DELAY_ACCT"),
        ("0\n", "ro", "sysctl kernel.task_delayacct=1 (or boot with delayacct)"),
        ("1\n", "ro", "boot with delayacct"),
        ("1\n", "ro delayacct", None),
    ],
)
def test_where_delays_are_not_counted_it_says_what_would_count_them(
    guest: FakeGuest, switch: str | None, words: str, told: str | None
) -> None:
    guest.shows("/proc/sys/kernel/osrelease", "6.12.0\n")
    guest.shows("/proc/cmdline", f"{words}\n")
    if switch is not None:
        guest.shows("/proc/sys/kernel/task_delayacct", switch)
    why = why_not_counted(guest.layout)
    assert why is None if told is None else told in (why or "")


@pytest.mark.skipif(
    not has_capability("CAP_NET_ADMIN"), reason="only CAP_NET_ADMIN may ask for taskstats"
)
def test_the_kernel_itself_is_asked(guest: FakeGuest) -> None:
    shows_memcg(guest, "/shop", cgroup_procs=procs(os.getpid(), 4_194_305))
    ask, close = open_taskstats()
    found = take_census(guest.layout, ["/shop"], ask)
    close()
    assert found.memcgs["/shop"].keys() == {os.getpid()}


def test_a_kernel_that_does_not_answer_ends_the_census(guest: FakeGuest) -> None:
    def refuses(pid: int) -> TaskDelays:
        raise Unsupported("netlink:TASKSTATS", f"no answer for {pid}")

    shows_memcg(guest, "/shop", cgroup_procs=procs(1))
    with pytest.raises(Unsupported):
        take_census(guest.layout, ["/shop"], refuses)
