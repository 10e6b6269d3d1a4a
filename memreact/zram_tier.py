"""zram as the settings ask for it: settled at the start and after each change, off the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import asdict

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.zram import read_zram_size, zram_names
from memreact.swap_trouble import SwapTrouble
from memreact.telemetry.journal import Journal
from memreact_schemas.config import Swap
from memreact_schemas.swap import SWAPOFF_SECONDS

__all__ = ["ZramTier"]

_US_PER_SEC = 1_000_000
# Of an answer, what its words say already.
_IN_WORDS = frozenset({"path", "why", "because"})
# Has something done on a thread of its own, given the errand by which it is called back.
Send = Callable[[Callable[[Any], Any]], Awaitable[Any]]


class ZramTier:
    """Keeps the guest's zram what the settings in force ask for.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own cgroup.
        journal: Told what was set up, and why it was not.
        limits: Reads the stall over which a swapoff is broken off, ppm, and the window of it, us.
        send: Has it done.
    """

    def __init__(
        self,
        layout: Layout,
        own_path: str,
        journal: Journal,
        *,
        limits: Callable[[], tuple[int, int]],
        send: Send,
    ) -> None:
        self._layout = layout
        self._own_path = own_path
        self._journal = journal
        self._limits = limits
        self._send = send
        self._asked: tuple[int, str] | None = None
        self._settling: asyncio.Task[None] | None = None
        self.problem: str | None = None
        """Why it is not as the settings ask for, for a status."""

    def settle(self, swap: Swap) -> None:
        """Have what the settings ask for; of changes that come meanwhile the last one counts.

        What could not be had is tried again with whatever change of settings comes next.
        """
        asked = (swap.zram_percent or 0, swap.zram_algorithm or "")
        if asked == self._asked and self.problem is None:
            return
        self._asked = asked
        if self._settling is None and (asked[0] or self._may_be_ours()):
            self._settling = asyncio.get_running_loop().create_task(self._until_settled())

    def close(self) -> None:
        """Go on no more; what is set up stays."""
        if self._settling is not None:
            self._settling.cancel()

    def _may_be_ours(self) -> bool:
        """Whether any zram has a size; where none has, nothing more need be loaded to look."""
        try:
            return any(read_zram_size(self._layout, each) for each in zram_names(self._layout))
        except KernelioError:
            return False

    async def _until_settled(self) -> None:
        settled: tuple[int, str] | None = None
        try:
            while self._asked is not None and settled != self._asked:
                settled = self._asked
                await self._settle(*settled)
        finally:
            self._settling = None

    async def _settle(self, percent: int, algorithm: str) -> None:
        from memreact.actuator.swap_disks import Wanted  # noqa: PLC0415  # only when asked for
        from memreact.actuator.swap_off import Guest, Removing  # noqa: PLC0415
        from memreact.actuator.zram import WantedZram, settle_zram, take_down  # noqa: PLC0415

        limit_ppm, window_us = self._limits()
        removing = Removing(Wanted(), SWAPOFF_SECONDS * _US_PER_SEC, limit_ppm, window_us)
        guest, wanted = Guest(self._layout, self._own_path), WantedZram(percent, algorithm)
        try:
            made = await self._send(
                lambda errand: settle_zram(
                    self._layout, wanted, lambda ours: take_down(guest, ours, removing, errand)
                )
            )
        except SwapTrouble as trouble:
            self.problem = str(trouble)
            said = asdict(trouble.answer).items()
            figures = {key: value for key, value in said if key not in _IN_WORDS}
            self._journal.say("warning", "zram_not_settled", because=self.problem, **figures)
            return
        self.problem = None
        if made is not None:
            got = made.wanted
            figures = {"path": made.path, "percent": got.percent, "algorithm": got.algorithm}
            self._journal.say("notice", "zram_set_up", **figures)
