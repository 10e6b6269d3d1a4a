"""zram of one daemon: what the settings in force ask for, whatever comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from memreact.actuator import swap_off
from memreact.actuator.swap import CalledBack, Errand
from memreact.telemetry.journal import Journal
from memreact.zram_tier import ZramTier
from memreact_schemas.config import Swap
from tests.disk_files import SwapGuest
from tests.fake_guest import FakeGuest
from tests.memreact.actuator.test_swap_off import DONE, program
from tests.memreact.kernel_files import shows_stall

REMOVED = "/sys/class/zram-control/hot_remove"
HALF = Swap(zram_percent=50)


@pytest.fixture
def there(guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> SwapGuest:
    """A guest without swap."""
    shows_stall(guest, "", 0)
    monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (DONE,))
    return SwapGuest(guest, monkeypatch)


class Sent:
    """Has errands done at once, in a thread, when it is let."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.count = 0

    async def __call__(self, work: Callable[[Any], Any]) -> Any:  # noqa: ANN401, D102  # whatever it is
        self.count += 1
        await self.may.wait()
        return await asyncio.to_thread(work, Errand())


@asynccontextmanager
async def tier_of(there: SwapGuest, sent: Sent, lines: list[str]) -> AsyncIterator[ZramTier]:
    """A tier that ends with the block."""
    made = ZramTier(
        there.layout,
        "/",
        Journal(write=lines.append),
        limits=lambda: (1_000_000, 1_000_000),
        send=sent,
    )
    try:
        yield made
    finally:
        made.close()


async def settled(tier: ZramTier) -> None:
    """Until nothing is under way."""
    if tier._settling is not None:
        await tier._settling


@pytest.mark.asyncio
async def test_it_is_set_up_and_told_once(there: SwapGuest) -> None:
    path, sent, lines = there.has_zram(), Sent(), list[str]()
    async with tier_of(there, sent, lines) as tier:
        tier.settle(HALF)
        await settled(tier)
        tier.settle(HALF)
        await settled(tier)
    assert [name for name, _, _ in there.switched_on] == [path]
    assert sent.count == 1
    assert lines == [f"zram_set_up path={path} percent=50 algorithm=lzo-rle\n"]
    assert tier.problem is None


@pytest.mark.asyncio
async def test_where_none_is_asked_for_and_none_is_there_nothing_is_looked_at(
    there: SwapGuest,
) -> None:
    there.has_zram()  # somebody's, not used yet
    sent = Sent()
    async with tier_of(there, sent, []) as tier:
        tier.settle(Swap(zram_percent=0, zram_algorithm="zstd"))
        await settled(tier)
    assert sent.count == 0


@pytest.mark.asyncio
async def test_what_an_earlier_one_left_goes_where_none_is_asked_for(there: SwapGuest) -> None:
    there.has_zram(label="memreact-zram50")
    async with tier_of(there, Sent(), []) as tier:
        tier.settle(Swap(zram_percent=0))
        await settled(tier)
    assert there.guest.received(REMOVED) == b"1"


@pytest.mark.asyncio
async def test_of_changes_that_come_meanwhile_the_last_one_counts(there: SwapGuest) -> None:
    there.has_zram()
    sent = Sent()
    sent.may.clear()
    async with tier_of(there, sent, []) as tier:
        tier.settle(HALF)
        await asyncio.sleep(0)
        for percent in (10, 20, 0):
            tier.settle(Swap(zram_percent=percent))
        sent.may.set()
        await settled(tier)
    assert sent.count == 2
    assert there.guest.received(REMOVED) == b""  # the double has a header, and no size of its own


@pytest.mark.asyncio
async def test_why_it_is_not_so_stands_in_the_status_until_it_is(there: SwapGuest) -> None:
    lines: list[str] = []
    async with tier_of(there, Sent(), lines) as tier:
        tier.settle(HALF)
        await settled(tier)
        assert tier.problem is not None
        assert "hot_add" in tier.problem
        assert lines[0].startswith('zram_not_settled because="')
        there.has_zram()
        tier.settle(HALF)  # it is asked for as before: the module is loaded by now
        await settled(tier)
        assert tier.problem is None


@pytest.mark.asyncio
async def test_a_swapoff_that_is_broken_off_is_told_and_the_area_stays_in_use(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = program("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (killed,))
    path = there.has_zram(label="memreact-zram50")
    there.uses(path, used_kb=400)
    lines: list[str] = []
    async with tier_of(there, Sent(), lines) as tier:
        tier.settle(Swap(zram_percent=0))
        await settled(tier)
        assert tier.problem == f"swapoff of {path} was broken off: killed"
    (line,) = lines
    assert line.startswith(f'zram_not_settled because="swapoff of {path} was broken off: killed" ')
    assert "used_bytes=409600" in line
    assert there.guest.received(REMOVED) == b""


@pytest.mark.asyncio
async def test_the_daemons_end_is_no_trouble(there: SwapGuest) -> None:
    there.has_zram()
    lines: list[str] = []

    async def ends(work: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # whatever it is
        await asyncio.sleep(0)
        raise asyncio.CancelledError from CalledBack()

    made = ZramTier(
        there.layout, "/", Journal(write=lines.append), limits=lambda: (1, 1), send=ends
    )
    made.settle(HALF)
    with pytest.raises(asyncio.CancelledError):
        await settled(made)
    assert (lines, made.problem) == ([], None)
