"""Swap of one daemon: asked for on its loop, done on threads, and told when it changes."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kernelio.errors import Refused
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from kernelio.psi import TriggerSet
from kernelio.swap_header import make_swap_header
from kernelio.uevent import LOST, Uevent
from memreact.actuator import swap_off
from memreact.rules import rules_from
from memreact.sources.pressure import now_us
from memreact.swap_trouble import SwapTrouble
from memreact.swaps import SWAPS, Swaps
from memreact.telemetry.journal import Journal
from memreact_schemas import control, swap
from memreact_schemas.config import Config
from memreact_schemas.swap import AddSwap, RemoveSwap
from tests.disk_files import SwapGuest
from tests.fake_guest import FakeGuest
from tests.memreact.actuator.test_swap_off import DONE, FOR_EVER
from tests.memreact.kernel_files import shows_stall

SIGNED = make_swap_header(1 << 20, page_size())
PATIENCE_S = 40  # bounds a failure; nothing waits for it when all is well
OURS = AddSwap(serial="memreact-swap0", wait_ms=0)
REMOVE = RemoveSwap(serial="memreact-swap0")


@pytest.fixture
def there(guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> SwapGuest:
    """A guest without disks."""
    shows_stall(guest, "", 0)
    return SwapGuest(guest, monkeypatch)


class Told:
    """What the rest of a daemon is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.changes = 0

    def changed(self) -> None:
        """Something became swap, or ceased to be."""
        self.changes += 1


@asynccontextmanager
async def swaps_of(
    there: SwapGuest, told: Told | None = None, *, wait_secs: int = 0
) -> AsyncIterator[Swaps]:
    """Swap of a daemon that ends with the block."""
    told = told or Told()
    made = Swaps(
        there.layout,
        "/",
        Journal(write=told.lines.append),
        rules=lambda: rules_from(Config()),
        wait_secs=lambda: wait_secs,
        clock=now_us,
        changed=told.changed,
    )
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)


def uevent(action: str, name: str = "vdc") -> Uevent:
    return Uevent(action, "block", name, f"/sys/block/{name}", {})


async def until(met: Callable[[], object]) -> None:
    """Give the loop turns until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not met():  # noqa: ASYNC110  # threads end when they end
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_a_disk_is_added_listed_and_removed(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (DONE,))
    there.has_disk()
    async with swaps_of(there) as swaps:
        added = await swaps.add(
            AddSwap(serial="memreact-swap0", make=True, priority=3, discard="no", wait_ms=0)
        )
        assert there.switched_on == [("/dev/vdc", 3, "no")]
        assert (await swaps.areas()).areas == (added.area,)
        assert (await swaps.remove(REMOVE)).area.path == "/dev/vdc"


@pytest.mark.asyncio
async def test_why_not_is_told_to_whoever_asked(there: SwapGuest) -> None:
    async with swaps_of(there) as swaps:
        with pytest.raises(SwapTrouble, match="no virtio disk with serial memreact-swap0"):
            await swaps.add(OURS)
        with pytest.raises(SwapTrouble, match="no swap in use has serial memreact-swap0"):
            await swaps.remove(REMOVE)


@pytest.mark.asyncio
async def test_an_event_of_a_disk_ends_the_wait_for_it(there: SwapGuest) -> None:
    async with swaps_of(there, wait_secs=PATIENCE_S) as swaps:
        waiting = asyncio.create_task(swaps.add(AddSwap(serial="memreact-swap0")))
        await until(lambda: swaps._errands)
        there.has_disk(content=SIGNED)
        swaps.disk_changed(uevent("add"))
        added = await waiting
    assert added.waited_us < PATIENCE_S * 1_000_000


@pytest.mark.asyncio
async def test_who_goes_away_waits_no_more(there: SwapGuest) -> None:
    before = set(threading.enumerate())  # one of another test's may end meanwhile
    async with swaps_of(there, wait_secs=PATIENCE_S) as swaps:
        waiting = asyncio.create_task(swaps.add(AddSwap(serial="memreact-swap0")))
        await until(lambda: swaps._errands)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: not swaps._errands)
        await until(lambda: before.issuperset(threading.enumerate()))
    assert there.switched_on == []


@pytest.mark.asyncio
async def test_who_asks_and_goes_before_anything_began_leaves_nothing(there: SwapGuest) -> None:
    async with swaps_of(there) as swaps:
        asyncio.create_task(swaps.add(OURS)).cancel()
        await asyncio.sleep(0)
        assert not swaps._errands


@pytest.mark.asyncio
async def test_only_one_area_is_removed_at_a_time_and_so_many_calls_are_under_way(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (FOR_EVER,))
    there.has_disk(content=SIGNED)
    there.uses("/dev/vdc")
    async with swaps_of(there, wait_secs=PATIENCE_S) as swaps:
        first = asyncio.create_task(swaps.remove(REMOVE))
        await until(lambda: swaps._errands)
        with pytest.raises(SwapTrouble, match="another swap area is being removed"):
            await swaps.remove(REMOVE)
        others = [asyncio.create_task(swaps.add(AddSwap(serial=f"memreact-{n}"))) for n in range(7)]
        await until(lambda: len(swaps._errands) == 8)
        with pytest.raises(SwapTrouble, match="8 calls about swap are under way") as trouble:
            await swaps.add(OURS)
        assert isinstance(trouble.value.answer, control.NotPossible)
        for task in (first, *others):
            task.cancel()
        await until(lambda: not swaps._errands)
        monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (DONE,))
        assert await swaps.remove(REMOVE)


class Listing:
    """Lists swap when it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.may_end = threading.Event()
        self._list = swap_off.areas_and_room
        monkeypatch.setattr(swap_off, "areas_and_room", self._areas)

    def _areas(self, layout: Layout) -> swap.SwapAreas:
        self.begun += 1
        found = self._list(layout)
        assert self.may_end.wait(PATIENCE_S)
        return found


@pytest.mark.asyncio
async def test_however_many_list_swap_a_disk_can_be_added(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.has_disk(content=SIGNED)
    listing = Listing(monkeypatch)
    async with swaps_of(there) as swaps:
        readers = [asyncio.create_task(swaps.areas()) for _ in range(32)]
        await until(lambda: listing.begun)
        readers.pop().cancel()  # who leaves takes the answer from nobody
        added = await swaps.add(OURS)
        listing.may_end.set()
        told = await asyncio.gather(*readers)
        assert added.area.path == "/dev/vdc"
        assert all(each is told[0] for each in told)
        assert listing.begun == 1


@pytest.mark.asyncio
async def test_whoever_lists_swap_after_a_change_is_told_of_it(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.has_disk(content=SIGNED)
    listing = Listing(monkeypatch)
    async with swaps_of(there) as swaps:
        before = asyncio.create_task(swaps.areas())
        await until(lambda: listing.begun)
        added = await swaps.add(OURS)
        after = asyncio.create_task(swaps.areas())
        await until(lambda: listing.begun == 2)
        listing.may_end.set()
        assert (await before).areas == ()
        assert (await after).areas == (added.area,)
        await until(lambda: swaps._listing is None)


@pytest.mark.asyncio
async def test_the_daemons_end_calls_back_what_is_under_way(
    there: SwapGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (FOR_EVER,))
    there.has_disk(content=SIGNED)
    there.uses("/dev/vdc")
    async with swaps_of(there, wait_secs=PATIENCE_S) as swaps:
        removing = asyncio.create_task(swaps.remove(REMOVE))
        adding = asyncio.create_task(swaps.add(AddSwap(serial="memreact-swap1")))
        await until(lambda: len(swaps._errands) == 2)
        slow = Listing(monkeypatch)
        listing = asyncio.create_task(swaps.areas())
        await until(lambda: slow.begun)
        swaps.close()
        slow.may_end.set()
        with pytest.raises(SwapTrouble) as ended:
            await removing
        assert isinstance(ended.value.answer, swap.SwapoffEnded)
        assert ended.value.answer.because == "stopping"
        for each in (adding, listing):
            with pytest.raises(asyncio.CancelledError):
                await each


@pytest.mark.asyncio
async def test_what_becomes_swap_and_ceases_to_be_is_told_once(there: SwapGuest) -> None:
    there.uses("/dev/zram0", priority=100)
    told, waiting = Told(), TriggerSet()
    async with swaps_of(there, told) as swaps:
        swaps.watch(waiting)  # a file is nothing to wait for: the kernel's own is
        assert [line.split()[:2] for line in told.lines] == [["not_watched", "what=swaps"]]
        del told.lines[:]
        swaps.table_changed()
        assert (told.lines, told.changes) == ([], 0)
        there.uses("/dev/vdc", priority=5)
        swaps.table_changed()
        swaps.table_changed()
        there.uses_no_more("/dev/zram0")
        swaps.table_changed()
    waiting.close()
    assert told.lines == [
        f"swap_added path=/dev/vdc size_bytes={1020 << 10} priority=5\n",
        "swap_removed path=/dev/zram0\n",
    ]
    assert told.changes == 2


def hears_of_it(
    there: SwapGuest, swaps: Swaps, told: Told, then: Callable[[], object] = lambda: None
) -> list[int]:
    """Have another area come while a disk is taken; returns what others were told by then.

    What is to be done then is done before the disk becomes swap.
    """
    loop, changes = asyncio.get_running_loop(), []

    async def look() -> None:
        there.uses("/dev/zram0", priority=100)
        swaps.table_changed()
        changes.append(told.changes)
        then()

    there.before_swapon = lambda: asyncio.run_coroutine_threadsafe(look(), loop).result()
    return changes


@pytest.mark.asyncio
async def test_whoever_asked_for_swap_is_answered_before_others_are_told(there: SwapGuest) -> None:
    there.has_disk(content=SIGNED)
    told, waiting = Told(), TriggerSet()
    async with swaps_of(there, told, wait_secs=PATIENCE_S) as swaps:
        swaps.watch(waiting)
        other = asyncio.create_task(swaps.add(AddSwap(serial="memreact-swap7")))
        await until(lambda: swaps._errands)  # one that waits for its disk keeps nobody
        changes = hears_of_it(there, swaps, told)
        await swaps.add(OURS)
        assert (changes, told.changes) == ([0], 0)
        await until(lambda: told.changes)
        other.cancel()
    waiting.close()
    assert told.changes == 1


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.asyncio
async def test_others_are_told_too_where_whoever_asked_is_gone_but_not_where_all_is_over(
    there: SwapGuest,
    ends: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    there.has_disk(content=SIGNED)
    told, waiting = Told(), TriggerSet()
    async with swaps_of(there, told) as swaps:
        swaps.watch(waiting)

        def leaves() -> None:
            asking.cancel()
            if ends:
                swaps.close()

        changes = hears_of_it(there, swaps, told, leaves)
        asking = asyncio.create_task(swaps.add(OURS))
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: not swaps._errands)
        await asyncio.sleep(0)
        assert changes == [0]
    waiting.close()
    assert told.changes == (0 if ends else 1)


@pytest.mark.parametrize("event", [uevent("remove"), LOST])
@pytest.mark.asyncio
async def test_a_device_that_goes_while_it_is_in_use_is_told_once_and_shown(
    there: SwapGuest, event: Uevent
) -> None:
    there.uses("/dev/vdc", used_kb=8)
    told, waiting = Told(), TriggerSet()
    async with swaps_of(there, told) as swaps:
        swaps.watch(waiting)
        del told.lines[:]
        swaps.disk_changed(uevent("add", "vdd"))
        assert not swaps.problems
        there.uses_no_more("/dev/vdc")
        there.uses("/dev/vdc\\040(deleted)", used_kb=8)
        swaps.disk_changed(event)
        swaps.disk_changed(event)
        assert told.lines == ["swap_lost path=/dev/vdc used_bytes=8192\n"]
        assert swaps.problems == ("swap /dev/vdc: its device is gone, and 8192 bytes lie there",)
    waiting.close()


@pytest.mark.asyncio
async def test_a_kernel_without_swap_is_not_watched_and_says_nothing(
    there: SwapGuest, guest: FakeGuest
) -> None:
    guest.loses("/proc/swaps")
    told, waiting = Told(), TriggerSet()
    async with swaps_of(there, told) as swaps:
        swaps.watch(waiting)
        swaps.table_changed()
        assert told.lines == []
        guest.shows("/proc/swaps", "nonsense")
        swaps.table_changed()
    waiting.close()
    assert told.lines[0].startswith("swaps_unreadable ")


@pytest.mark.asyncio
async def test_the_kernels_own_table_is_watched_and_let_go() -> None:
    waiting, told = TriggerSet(), Told()
    swaps = Swaps(
        FakeGuest("").layout,
        "/",
        Journal(write=told.lines.append),
        rules=lambda: rules_from(Config()),
        wait_secs=lambda: 0,
        clock=now_us,
        changed=told.changed,
    )
    before = os.listdir("/proc/self/fd")
    swaps.watch(waiting)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert list(waiting._names.values()) == [(swaps._table, SWAPS)]
    swaps.table_changed()
    swaps.close()
    waiting.close()
    assert told.lines == []


@pytest.mark.asyncio
async def test_katas_calls_take_what_is_at_a_place_and_nothing_by_a_mere_path(
    there: SwapGuest,
) -> None:
    there.has_disk(serial="", content=SIGNED)
    async with swaps_of(there) as swaps:
        assert (await swaps.add_at("01/00")).area.path == "/dev/vdc"
        with pytest.raises(SwapTrouble, match="there is no disk /dev/nowhere"):
            await swaps.add_path("/dev/nowhere")
        there.refuses = Refused("/dev/vdc", errno.EBUSY, "Device or resource busy")
        with pytest.raises(SwapTrouble, match="in use as swap already"):
            await swaps.add_at("01/00")
