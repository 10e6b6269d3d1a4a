"""One squeeze as its caller follows it: a row of answers, from its first look to its end.

It lasts as long as the call: whoever asked and goes away ends it. After the last work the kernel
is given the time to tell the host, up to the deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from memreact.actions import Because
from memreact.control.guest import Squeezer
from memreact.control.varlink import Last
from memreact.events import Instant, SqueezeAsked, SqueezeCancelled
from memreact.telemetry.ledger import PASS_US, Ledger, Tally, free_held_bytes, settles_us
from memreact.telemetry.squeezes import (
    Ended,
    Progress,
    squeeze_end,
    wanted_bytes,
)
from memreact_schemas.control import Squeeze, SqueezeEnd, SqueezeItem

__all__ = ["Squeezing"]

_US_PER_SEC = 1_000_000


class Squeezing:
    """A squeeze and its row of answers.

    Args:
        squeezer: The rest of the daemon.
        call: What is wanted.
        path: Of the cgroup that it is for, with those below it.
        by: Who asked.
        over: Told when it is no longer in anybody's way.
    """

    def __init__(
        self, squeezer: Squeezer, call: Squeeze, path: str, by: str, over: Callable[[], None]
    ) -> None:
        self.by = by
        self.deadline = Instant(squeezer.clock() + call.deadline_seconds * _US_PER_SEC)
        self._squeezer = squeezer
        self._call = call
        self._path = path
        self._over = over
        self._progress: Progress | None = None
        self._end: SqueezeEnd | None = None
        self._under_way = False
        self._task: asyncio.Task[None] | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Begin."""
        self._wake = wake
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ended] = loop.create_future()
        self._task = loop.create_task(self._squeeze())

    def take(self) -> SqueezeItem | Last | None:
        """Give the newest progress, if it is new, then the end."""
        progress, self._progress = self._progress, None
        if progress is not None:
            return SqueezeItem(progress=progress.told(self._squeezer.clock()))
        return None if self._end is None else Last(SqueezeItem(end=self._end))

    def close(self) -> None:
        """End it, if it is not over: whoever asked is gone."""
        if self._task is not None:
            self._task.cancel()
        if self._under_way and not self._squeezer.feed.closed:
            self._under_way = False
            self._squeezer.feed.leave()
            self._squeezer.handle(SqueezeCancelled(self.by))
        self._over()

    async def _squeeze(self) -> None:
        squeezer = self._squeezer
        await squeezer.take_stock()
        before = squeezer.ledger()
        wanted = self._wanted_bytes(before)
        why_not = squeezer.why_not(self._path)
        if self._call.held_percent is not None and wanted is None:
            why_not = why_not or Because("reading_failed", {"detail": before.problem or ""})
        if why_not is None:
            ended = await self._until_ended(wanted)
            settled = await self._reported(before, ended)
        else:
            ended, settled = Ended(why_not), True
        self._end = squeeze_end(
            ended,
            before,
            squeezer.ledger(),
            wanted=wanted,
            settled=settled,
            swap=squeezer.swap(),
            held_until=squeezer.held_until() if why_not is None else None,
        )
        self._wake()

    def _wanted_bytes(self, ledger: Ledger) -> int | None:
        if self._call.held_percent is None:
            return self._call.target_bytes
        if ledger.last is None or ledger.problem is not None:
            return None
        return wanted_bytes(ledger.last, self._call.held_percent)

    async def _until_ended(self, wanted: int | None) -> Ended:
        squeezer = self._squeezer
        pages = None if wanted is None else -(-wanted // squeezer.page_bytes)
        squeezer.feed.follow(self._told)
        self._under_way = True
        hold_us = (self._call.hold_seconds or 0) * _US_PER_SEC
        squeezer.handle(SqueezeAsked(pages, self.deadline, self._path, self.by, hold_us))
        return await self._ended

    def _told(self, what: Progress | Ended) -> None:
        if isinstance(what, Progress):
            self._progress = what
            self._wake()
            return
        self._under_way = False
        if not self._ended.done():
            self._ended.set_result(what)

    async def _reported(self, before: Ledger, ended: Ended) -> bool:
        """Read what was reported, after each pass of the kernel's; returns whether that is all."""
        squeezer, over_at = self._squeezer, self._squeezer.clock()
        taken = squeezer.ledger().since_start.minus(before.since_start)
        settles_at = over_at if taken == Tally() else over_at + settles_us(taken)
        evicted_bytes = taken.file_bytes + taken.anon_bytes
        while True:
            await squeezer.take_stock()
            now = squeezer.clock()
            left_us = min(settles_at, self.deadline) - now
            if self._all_told() or left_us <= 0 or ended.because.code == "stopping":
                return now >= settles_at or self._all_told()
            self._progress = Progress("report", evicted_bytes, None, self.deadline)
            self._wake()
            await asyncio.sleep(min(left_us, PASS_US) / _US_PER_SEC)

    def _all_told(self) -> bool:
        """Whether nothing is left that the kernel could tell the host of."""
        ledger = self._squeezer.ledger()
        if ledger.last is None or ledger.last.reported_bytes is None:
            return ledger.problem is not None
        return ledger.problem is not None or "not_told_yet" not in free_held_bytes(ledger.last)
