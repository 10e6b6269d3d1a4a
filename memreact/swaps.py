"""Swap of this guest: disks that are taken into use and given back, and what becomes of them.

Nothing is remembered across a restart: what is in use the kernel tells, and what an area is the
signature on it and the name of its disk.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct

from kernelio.errors import KernelioError, Unsupported
from kernelio.layout import Layout
from kernelio.psi import TriggerSet
from kernelio.swap import SwapDevice, open_swaps, read_swaps
from kernelio.uevent import Uevent
from memreact.control.guest import Swapper
from memreact.events import Instant
from memreact.rules import Rules
from memreact.swap_trouble import SwapTrouble
from memreact.telemetry.journal import Journal
from memreact.zram_tier import ZramTier
from memreact_schemas import config
from memreact_schemas.swap import (
    SWAPOFF_SECONDS,
    AddSwap,
    RemoveSwap,
    SwapAdded,
    SwapAreas,
    SwapRemoved,
)

__all__ = ["SWAPS", "Swaps"]

SWAPS = "swaps"
"""The name in the set of triggers, where no memcg is called so."""

_US_PER_SEC = 1_000_000
_ERRANDS_MAX = 8
_PATIENCE_S = 0.4
_Done = TypeVar("_Done", bound=Struct)


class _Errand(NamedTuple):
    """A call under way: what calls it back, and the thread that it runs on."""

    errand: Any  # an actuator.swap.Errand: that is imported when somebody asks
    thread: threading.Thread


class Swaps:
    """Knows what is in use, and has it changed.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own cgroup.
        journal: Told what became swap, what ceased to be, and what was lost.
        rules: Those in force.
        wait_secs: How long a disk is waited for by the settings.
        clock: Reads the moment.
        changed: Told that something became swap, or ceased to be.
    """

    def __init__(  # noqa: PLR0913  # the parts come from outside, so that a test brings its own
        self,
        layout: Layout,
        own_path: str,
        journal: Journal,
        *,
        rules: Callable[[], Rules],
        wait_secs: Callable[[], int],
        clock: Callable[[], Instant],
        changed: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._layout = layout
        self._own_path = own_path
        self._journal = journal
        self._rules = rules
        self._wait_secs = wait_secs
        self._clock = clock
        self._changed = changed
        self._areas: tuple[SwapDevice, ...] = ()
        self._told_lost: AbstractSet[str] = frozenset()
        self._table: int | None = None
        self._waiting: TriggerSet | None = None
        self._errands: set[_Errand] = set()
        self._removing = False
        self._untold = False
        self._listing: asyncio.Task[SwapAreas] | None = None
        self._zram = ZramTier(layout, own_path, journal, limits=self._stall_limits, send=self._send)

    @property
    def swapper(self) -> Swapper:
        """What callers may ask for."""
        return Swapper(self.areas, self.add, self.remove, self.add_at, self.add_path)

    @property
    def problems(self) -> tuple[str, ...]:
        """Areas whose device is gone, and why zram is not as asked for, for a status."""
        lost = tuple(
            f"swap {area.path}: its device is gone, and {area.used_bytes} bytes lie there"
            for area in self._areas
            if area.deleted
        )
        return lost if self._zram.problem is None else (*lost, self._zram.problem)

    def settle(self, swap: config.Swap) -> None:
        """Have the zram that the settings ask for."""
        self._zram.settle(swap)

    def _stall_limits(self) -> tuple[int, int]:
        rules = self._rules()
        return rules.system_limit_ppm, rules.window_us

    def watch(self, waiting: TriggerSet) -> None:
        """Be told of each change of the table from now on; `table_changed` is to be called then.

        Args:
            waiting: The set that the waiting thread polls; it says `SWAPS`.
        """
        try:
            self._table, self._waiting = open_swaps(self._layout), waiting
            waiting.add(self._table, SWAPS)
        except Unsupported as error:
            if self._table is None:  # a kernel without swap
                return
            self._journal.say("warning", "not_watched", what=SWAPS, error=error)
        self._look(first=True)

    def table_changed(self) -> None:
        """The table is not what it was; what it is is read after it is watched again."""
        if self._waiting is not None and self._table is not None:
            with suppress(KernelioError):
                self._waiting.add(self._table, SWAPS)
        self._look()

    def disk_changed(self, event: Uevent) -> None:
        """Tell those who wait for a disk, and see whether one went that is in use."""
        for each in self._errands:
            each.errand.tell()
        if self._areas and event.action in {"remove", "lost"}:
            self._look()

    def close(self) -> None:
        """Call back what is under way, and give it a moment."""
        self._untold = False  # nobody is left to tell
        self._zram.close()
        if self._listing is not None:
            self._listing.cancel()
        for each in self._errands:
            each.errand.call_back(stopping=True)
        for each in tuple(self._errands):
            each.thread.join(_PATIENCE_S)
        if self._table is not None and self._waiting is not None:
            self._waiting.discard(self._table)
            os.close(self._table)
            self._table = None

    async def areas(self) -> SwapAreas:
        """List what is in use; those who ask meanwhile are given the same answer.

        Whoever may only read may ask: it takes no place of those who change something.

        Raises:
            SwapTrouble: It cannot be read.
        """
        from memreact.actuator.swap_off import areas_and_room  # noqa: PLC0415  # only when asked

        if self._listing is None:
            listing = self._on_thread(lambda _: areas_and_room(self._layout), set())
            self._listing = self._loop.create_task(listing)
            self._listing.add_done_callback(self._listed)
        return await asyncio.shield(self._listing)

    def _listed(self, listing: asyncio.Task[SwapAreas]) -> None:
        if self._listing is listing:
            self._listing = None

    async def add(self, call: AddSwap) -> SwapAdded:
        """Take a disk into use."""
        from memreact.actuator.swap import Adding  # noqa: PLC0415  # only when asked
        from memreact.actuator.swap_disks import wanted_by  # noqa: PLC0415

        wait_us = self._usual_wait_us if call.wait_ms is None else call.wait_ms * 1000
        adding = Adding(
            wanted=wanted_by(call),
            make=bool(call.make),
            priority=call.priority,
            discard=call.discard or "both",
            wait_us=wait_us,
        )
        return await self._add(lambda: adding)

    async def add_at(self, pci_path: str) -> SwapAdded:
        """Take whatever disk with a signature is plugged in there: Kata's own has no other name."""
        from memreact.actuator.swap import Adding  # noqa: PLC0415  # only when asked
        from memreact.actuator.swap_disks import Wanted  # noqa: PLC0415

        wanted = Wanted(pci_path=pci_path)
        adding = Adding(wanted, wait_us=self._usual_wait_us, by_place=True)
        return await self._add(lambda: adding)

    async def add_path(self, path: str) -> SwapAdded:
        """Take the disk that a path leads to, if its name is one of ours."""
        from memreact.actuator.swap import Adding, wanted_by_path  # noqa: PLC0415  # when asked

        return await self._add(lambda: Adding(wanted_by_path(self._layout, path)))

    async def _add(self, adding: Callable[[], Any]) -> SwapAdded:
        from memreact.actuator.swap import add_swap  # noqa: PLC0415  # only when asked

        began = self._clock()
        return await self._send(lambda errand: add_swap(self._layout, adding(), errand, began))

    async def remove(self, call: RemoveSwap) -> SwapRemoved:
        """Give a disk back."""
        from memreact.actuator.swap_disks import wanted_by  # noqa: PLC0415  # only when asked
        from memreact.actuator.swap_off import Guest, Removing, remove_swap  # noqa: PLC0415

        if self._removing:
            raise _not_possible("another swap area is being removed")
        limit_ppm, window_us = self._stall_limits()
        removing = Removing(
            wanted=wanted_by(call),
            deadline_us=(call.deadline_seconds or SWAPOFF_SECONDS) * _US_PER_SEC,
            limit_ppm=limit_ppm,
            window_us=window_us,
        )
        guest = Guest(self._layout, self._own_path)
        self._removing = True
        return await self._send(
            lambda errand: remove_swap(guest, removing, errand), over=self._removed
        )

    def _removed(self) -> None:
        self._removing = False

    @property
    def _usual_wait_us(self) -> int:
        return self._wait_secs() * _US_PER_SEC

    async def _send(
        self, work: Callable[[Any], _Done], over: Callable[[], None] = lambda: None
    ) -> _Done:
        """Have something changed, where not too much is being changed already.

        Args:
            work: Given the errand by which it is called back.
            over: Told when the thread is done with it, which may be after whoever asked is gone.
        """
        if len(self._errands) >= _ERRANDS_MAX:
            over()
            raise _not_possible(f"{_ERRANDS_MAX} calls about swap are under way already")

        def changed() -> None:
            self._listing = None  # one that began before may not tell of it
            over()

        return await self._on_thread(work, self._errands, changed)

    async def _on_thread(
        self,
        work: Callable[[Any], _Done],
        among: set[_Errand],
        over: Callable[[], None] = lambda: None,
    ) -> _Done:
        """Have something done on a thread of its own, which ends with it.

        Args:
            work: As for `_send`.
            among: Holds it while it is under way.
            over: As for `_send`.
        """
        from memreact.actuator.swap import Errand  # noqa: PLC0415  # only when asked

        errand = Errand()
        answer: asyncio.Future[_Done] = self._loop.create_future()

        def settle(done: _Done | BaseException) -> None:
            among.discard(sent)
            over()
            _give(answer, done)
            self._loop.call_soon(self._tell_what_changed)  # whoever asked is answered first

        def run() -> None:
            try:
                done: _Done | BaseException = work(errand)
            except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
                done = error
            with suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(settle, done)

        sent = _Errand(errand, threading.Thread(target=run, name="memreact-swap", daemon=True))
        among.add(sent)
        sent.thread.start()
        try:
            return await answer
        except asyncio.CancelledError:
            errand.call_back()
            raise

    def _look(self, *, first: bool = False) -> None:
        """Read the table, and tell how it differs from what it was."""
        try:
            areas = read_swaps(self._layout)
        except KernelioError as error:
            if not isinstance(error, Unsupported):
                self._journal.say("warning", "swaps_unreadable", error=error)
            return
        before = {area.path for area in self._areas}
        now = {area.path for area in areas}
        self._areas = areas
        if not first:
            self._tell_changes(before, now)
        self._tell_lost()
        if before != now and not first:
            self._untold = True
            self._tell_what_changed()

    def _tell_what_changed(self) -> None:
        """Finding out what the guest can do now takes longer than a disk takes to become swap."""
        if self._untold and not any(each.errand.taking for each in self._errands):
            self._untold = False
            self._changed()

    def _tell_changes(self, before: set[str], now: set[str]) -> None:
        for area in self._areas:
            if area.path not in before:
                figures = {"size_bytes": area.size_bytes, "priority": area.priority}
                self._journal.say("notice", "swap_added", path=area.path, **figures)
        for path in sorted(before - now):
            self._journal.say("notice", "swap_removed", path=path)

    def _tell_lost(self) -> None:
        """Tell of each device that is gone while it is in use, once."""
        lost = {area.path: area.used_bytes for area in self._areas if area.deleted}
        for path in lost.keys() - self._told_lost:
            self._journal.say("warning", "swap_lost", path=path, used_bytes=lost[path])
        self._told_lost = lost.keys()


def _give(answer: asyncio.Future[_Done], done: _Done | BaseException) -> None:
    """Give whoever still waits what came of it."""
    from memreact.actuator.swap import CalledBack  # noqa: PLC0415  # only when asked

    if answer.done():
        return
    if isinstance(done, CalledBack):
        answer.cancel()
    elif isinstance(done, BaseException):
        answer.set_exception(done)
    else:
        answer.set_result(done)


def _not_possible(why: str) -> SwapTrouble:
    from memreact_schemas.control import NotPossible  # noqa: PLC0415  # callers' words, for callers

    return SwapTrouble(NotPossible(why=why), why)
