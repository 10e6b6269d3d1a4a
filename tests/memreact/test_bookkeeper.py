"""The ledger on a loop: when the memory is read, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from kernelio.errors import Vanished
from memreact.account import Account, ZoneAccount
from memreact.bookkeeper import Bookkeeper
from memreact.events import BatchEnded, Inspected, Instant, TimerFired
from memreact.rules import rules_from
from memreact_schemas.config import DEFAULTS
from memreact_schemas.status import LedgerStatus
from tests.memreact.telemetry.test_ledger import AT_WORK, IDLE, MIB, PAGE, saw

RULES = rules_from(DEFAULTS)


class Memory:
    """A guest's memory, and who reads it."""

    def __init__(self) -> None:
        self.reads = 0
        self.threads: set[int] = set()
        self.may_end = threading.Event()
        self.may_end.set()
        self.trouble = False
        self.now = Instant(0)
        self.changes = 0

    def read(self) -> tuple[Account, int]:
        """Read what is free, more each time."""
        assert self.may_end.wait(20)
        self.reads += 1
        self.threads.add(threading.get_ident())
        if self.trouble:
            raise Vanished("/proc/zoneinfo")
        free = (0, 0, self.reads * MIB)
        zone = ZoneAccount(free, self.reads * MIB, enough_free=True)
        return Account(self.now, 1 << 30, True, 2, 2, (zone,)), 5  # noqa: FBT003  # positional

    def clock(self) -> Instant:
        """The moment, which a test sets."""
        return self.now

    def changed(self) -> None:
        """Count."""
        self.changes += 1

    def keeper(self) -> Bookkeeper:
        """One on the running loop."""
        return Bookkeeper(asyncio.get_running_loop(), self.read, self.clock, self.changed)


async def until(so: Callable[[], bool]) -> None:
    """Give the loop turns until it is so."""
    async with asyncio.timeout(20):
        while not so():  # noqa: ASYNC110  # threads end when they end
            await asyncio.sleep(0.001)


def evict(keeper: Bookkeeper, now: Instant) -> None:
    """Let a run take 10 MiB and end."""
    before = saw(file_bytes=10 * MIB)
    keeper.observe(Inspected("/shop", before), AT_WORK, now)
    after = saw(evicted_total_pages=10 * MIB // PAGE)
    keeper.observe(BatchEnded("/shop", 0, 1 << 20, "done", after), AT_WORK, now)
    keeper.observe(TimerFired(), IDLE, now)


@pytest.mark.asyncio
async def test_those_who_ask_meanwhile_wait_for_the_same_reading() -> None:
    memory = Memory()
    keeper = memory.keeper()
    memory.may_end.clear()
    asked = [asyncio.ensure_future(keeper.take_stock()) for _ in range(5)]
    await asyncio.sleep(0)
    memory.may_end.set()
    await asyncio.gather(*asked)
    assert memory.reads == memory.changes == 1
    assert threading.get_ident() not in memory.threads
    await keeper.take_stock()
    assert keeper.status(RULES).free_bytes == 2 * MIB
    keeper.close()


@pytest.mark.asyncio
async def test_who_goes_away_while_it_is_read_takes_it_from_nobody() -> None:
    memory = Memory()
    keeper = memory.keeper()
    memory.may_end.clear()
    one, other = (asyncio.ensure_future(keeper.take_stock()) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    memory.may_end.set()
    await other
    assert keeper.status(RULES).free_bytes == MIB
    keeper.close()


@pytest.mark.asyncio
async def test_the_memory_is_read_at_first_and_once_after_a_run() -> None:
    memory = Memory()
    keeper = memory.keeper()
    keeper.open()
    await until(lambda: memory.changes == 1)
    evict(keeper, Instant(0))
    # The kernel's time passes at once: the clock is ahead of the moment at which it is due.
    memory.now = Instant(60_000_000)
    assert keeper._waiting is not None
    keeper._waiting.cancel()
    keeper._due()
    await until(lambda: memory.changes == 2)
    assert keeper._waiting is None
    run = keeper.status(RULES).run
    assert run is not None
    assert run.reported_grew_bytes == MIB
    keeper.close()


@pytest.mark.asyncio
async def test_a_run_that_ended_long_ago_is_read_for_at_once() -> None:
    memory = Memory()
    keeper = memory.keeper()
    memory.now = Instant(60_000_000)
    evict(keeper, Instant(0))
    await until(lambda: memory.changes == 1)
    assert memory.reads == 1
    keeper.close()


@pytest.mark.asyncio
async def test_what_cannot_be_read_is_told_and_tried_again_after_the_next_run() -> None:
    memory = Memory()
    memory.trouble = True
    memory.now = Instant(60_000_000)
    keeper = memory.keeper()
    evict(keeper, Instant(0))
    await until(lambda: memory.changes == 1)
    status = keeper.status(RULES)
    assert (status.problem, status.read_at_us) == ("/proc/zoneinfo: gone", None)
    keeper.observe(TimerFired(), IDLE, memory.now)
    assert keeper._waiting is None
    memory.trouble = False
    evict(keeper, Instant(1))
    await until(lambda: memory.changes == 2)
    assert keeper.status(RULES).problem is None
    keeper.close()


@pytest.mark.asyncio
async def test_what_the_host_says_is_told() -> None:
    memory = Memory()
    keeper = memory.keeper()
    keeper.host_holds(9 * MIB)
    memory.now = Instant(7)
    keeper.host_holds(4 * MIB)
    status = keeper.status(RULES)
    assert isinstance(status, LedgerStatus)
    assert (status.host_holds_bytes, status.returned_bytes) == (4 * MIB, 5 * MIB)
    assert memory.changes == 2
    keeper.close()


@pytest.mark.asyncio
async def test_a_reading_that_ends_after_the_daemon_is_for_nobody() -> None:
    memory = Memory()
    keeper = memory.keeper()
    memory.may_end.clear()
    asked = asyncio.ensure_future(keeper.take_stock())
    await asyncio.sleep(0)
    memory.may_end.set()
    keeper.close()
    with pytest.raises(asyncio.CancelledError):
        await asked
    evict(keeper, Instant(0))
    assert (memory.changes, keeper._waiting) == (0, None)
