"""Harm is read when a turn begins and after a stop, on a thread, and only where it is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from kernelio.errors import Unsupported
from kernelio.taskstats import TaskDelays
from memreact.actions import Because, Decision
from memreact.events import Generation, HarmSeen, Instant, MemcgView, NodeView
from memreact.harm import HarmWatch
from memreact.policy.state import Memcg, State, Step, Turn
from memreact.sources.harm import Ask
from tests.fake_guest import FakeGuest
from tests.memreact.kernel_files import shows_memcg
from tests.memreact.sources.test_harm import procs

OWN = "/memreact.slice/memreact.service"
STOP = Decision("end", Because("stall_over_limit"), "/shop", 0)
MINUTE = 60_000_000


class Kernel:
    """Processes whose delays grow by what a test says, and who asked."""

    def __init__(self) -> None:
        self.reclaim_us = 0
        self.asked: list[int] = []
        self.threads: set[int] = set()
        self.opened = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.refuses = False

    def open(self) -> tuple[Ask, Callable[[], None]]:
        """Count."""
        self.opened += 1
        if self.refuses:
            raise Unsupported("netlink:TASKSTATS", "not permitted")
        return self.ask, lambda: None

    def ask(self, pid: int) -> TaskDelays:
        """Answer, when it may."""
        assert self.may_answer.wait(20)
        self.asked.append(pid)
        self.threads.add(threading.get_ident())
        return TaskDelays(0, 0, 0, self.reclaim_us, 0, 0)


@pytest.fixture
def counting(guest: FakeGuest) -> FakeGuest:
    """A guest that counts delays, with a workload and memreact in it."""
    guest.shows("/proc/sys/kernel/task_delayacct", "1\n")
    shows_memcg(guest, "/shop", cgroup_procs=procs(11))
    shows_memcg(guest, "/big", cgroup_procs=procs(12))
    shows_memcg(guest, OWN, cgroup_procs=procs(13))
    return guest


def watch(guest: FakeGuest, kernel: Kernel, told: list[HarmSeen]) -> HarmWatch:
    loop = asyncio.get_running_loop()
    return HarmWatch(loop, guest.layout, OWN, told.append, open_=kernel.open, settle_s=0.0)


def memcg(path: str, pages: int, *, populated: bool = True) -> Memcg:
    view = MemcgView(path, 1, 1, 0, 0, (NodeView(0, (Generation(1, 0, 0, pages),)),))
    return Memcg(path, 1, view=view, populated=populated)


def during(began: int, *decisions: Decision) -> Step:
    """A step in a turn that began then."""
    living = (memcg("/", 9), memcg("/shop", 5), memcg("/big", 7), memcg(OWN, 6))
    memcgs = {each.path: each for each in (*living, memcg("/empty", 8, populated=False))}
    return Step(State(memcgs=memcgs, turn=Turn(Instant(began), frozenset())), (), decisions)


async def until(so: Callable[[], bool]) -> None:
    """Give the loop turns until it is so."""
    async with asyncio.timeout(20):
        while not so():  # noqa: ASYNC110  # threads end when they end
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_what_was_waited_from_the_turns_begin_until_after_the_stop_is_told(
    counting: FakeGuest,
) -> None:
    kernel, told = Kernel(), list[HarmSeen]()
    harm = watch(counting, kernel, told)
    harm.observe(during(1), Instant(1))
    await until(lambda: kernel.asked == [12, 11])  # the largest first, and never memreact itself
    await until(lambda: not harm.reading)
    kernel.reclaim_us = 30_000
    harm.observe(during(1, STOP), Instant(2))
    await until(lambda: bool(told))
    assert [each.path for each in told[0].memcgs] == ["/big", "/shop"]
    assert told[0].memcgs[0].reclaim_us == 30_000
    assert threading.get_ident() not in kernel.threads
    harm.close()


@pytest.mark.asyncio
async def test_a_turn_that_hurts_nobody_is_read_once(counting: FakeGuest) -> None:
    kernel, told = Kernel(), list[HarmSeen]()
    harm = watch(counting, kernel, told)
    for _ in range(3):
        harm.observe(during(1, Decision("end", Because("cold_gone"), "/shop", 0)), Instant(2))
    await until(lambda: not harm.reading)
    assert kernel.opened == 1
    harm.close()
    assert told == []


@pytest.mark.asyncio
async def test_the_next_turn_is_compared_with_its_own_begin(counting: FakeGuest) -> None:
    kernel, told = Kernel(), list[HarmSeen]()
    harm = watch(counting, kernel, told)
    harm.observe(during(1), Instant(1))
    await until(lambda: not harm.reading)
    kernel.reclaim_us = 50_000  # between the turns: nobody's harm of ours
    began = 1 << 62
    harm.observe(during(began), Instant(began))
    await until(lambda: kernel.opened == 2 and not harm.reading)
    kernel.reclaim_us = 52_000
    harm.observe(during(began, STOP), Instant(began))
    await until(lambda: bool(told))
    assert told[0].memcgs[0].reclaim_us == 2_000
    harm.close()


@pytest.mark.asyncio
async def test_a_stop_while_the_begin_is_still_read_is_looked_at_after_it(
    counting: FakeGuest,
) -> None:
    kernel, told = Kernel(), list[HarmSeen]()
    harm = watch(counting, kernel, told)
    kernel.may_answer.clear()
    harm.observe(during(1, STOP), Instant(1))
    await until(lambda: kernel.opened == 1)
    kernel.may_answer.set()
    await until(lambda: kernel.opened == 2 and not harm.reading)
    harm.close()


@pytest.mark.parametrize(
    "stop",
    [
        Decision("pause", Because("guest_stall_over_limit")),
        Decision("pause", Because("oom", {"path": "/shop"})),
        Decision("end", Because("limit_hit"), "/shop", 0),
    ],
)
@pytest.mark.asyncio
async def test_whatever_hurt_somebody_is_looked_at(counting: FakeGuest, stop: Decision) -> None:
    kernel = Kernel()
    harm = watch(counting, kernel, [])
    harm.observe(during(1), Instant(1))
    await until(lambda: not harm.reading)
    harm.observe(during(1, stop), Instant(2))
    await until(lambda: kernel.opened == 2)
    harm.close()


@pytest.mark.asyncio
async def test_an_operators_pause_hurt_nobody(counting: FakeGuest) -> None:
    kernel = Kernel()
    harm = watch(counting, kernel, [])
    harm.observe(during(1, Decision("pause", Because("asked"))), Instant(2))
    assert not harm.waiting
    await until(lambda: not harm.reading)
    assert kernel.opened == 1
    harm.close()


@pytest.mark.parametrize("switch", ["0\n", None])
@pytest.mark.asyncio
async def test_where_nothing_is_counted_nothing_is_read(
    counting: FakeGuest, switch: str | None
) -> None:
    kernel = Kernel()
    if switch is None:
        counting.loses("/proc/sys/kernel/task_delayacct")
    else:
        counting.shows("/proc/sys/kernel/task_delayacct", switch)
    harm = watch(counting, kernel, [])
    harm.observe(during(1, STOP), Instant(1))
    await until(lambda: not harm.reading)
    harm.close()
    assert kernel.opened == 0


@pytest.mark.asyncio
async def test_a_kernel_that_refuses_is_no_failure(counting: FakeGuest) -> None:
    kernel, told = Kernel(), list[HarmSeen]()
    kernel.refuses = True
    harm = watch(counting, kernel, told)
    harm.observe(during(1, STOP), Instant(1))
    await until(lambda: kernel.opened >= 1 and not harm.reading)
    harm.close()
    assert told == []


@pytest.mark.asyncio
async def test_when_it_is_closed_nothing_more_is_read_or_told(counting: FakeGuest) -> None:
    kernel, told = Kernel(), list[HarmSeen]()
    harm = watch(counting, kernel, told)
    harm.observe(during(1), Instant(1))
    await until(lambda: not harm.reading)
    kernel.reclaim_us = 10**6
    harm.observe(during(1, STOP), Instant(2))
    harm.close()
    harm.observe(during(MINUTE * 9, STOP), Instant(MINUTE * 9))
    assert not harm.reading
    assert (kernel.opened, told) == (1, [])
