"""What is shown of a running daemon: to callers, to those who follow, and to systemd."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from kernelio.layout import Layout
from kernelio.meminfo import page_size
from memreact import __version__
from memreact.account import Account
from memreact.bookkeeper import Bookkeeper
from memreact.control.guest import Foreseen, Guest, Squeezer, Swapper
from memreact.control.store import SettingsStore
from memreact.events import BatchEnded, Event, Instant, Surveyed
from memreact.policy.asked import why_not_run
from memreact.policy.squeeze import why_not_squeeze
from memreact.reactor import Reactor
from memreact.settings.layers import Settings
from memreact.sources.account import read_account
from memreact.sources.pressure import now_us
from memreact.sources.protection import read_protection
from memreact.telemetry.cgroup_rows import CgroupRows
from memreact.telemetry.decisions import DecisionLog, as_text
from memreact.telemetry.hub import Hub
from memreact.telemetry.measures import Measures
from memreact.telemetry.possible import all_cold_bytes
from memreact.telemetry.recorder import Recorder
from memreact.telemetry.squeezes import SqueezeFeed
from memreact.telemetry.status import Surroundings, cgroups_of, status_line, status_of
from memreact_schemas.doctor import Report
from memreact_schemas.explanation import Explanation
from memreact_schemas.status import (
    CgroupStatus,
    CgroupUse,
    GuestReading,
    NextEviction,
    Status,
)

if TYPE_CHECKING:
    from memreact.close_look import CloseLook
    from memreact.sources.close_look import Looks
    from memreact.sources.reading import GuestReader
    from memreact.sources.uses import Uses
    from memreact.telemetry.metrics import Exporter

_DECISIONS_TOLD = 40

__all__ = ["Shown", "clock_time", "take_stock"]

_USES_AT_ONCE = 16
_ROWS_AT_ONCE = 64
_LOOK_AGAIN_SECS = 1.0


class Shown:
    """Looks at the parts of the daemon, and changes none.

    Args:
        reactor: State and rules.
        store: Settings.
        decisions: The last ones.
        hub: Who follows.
        layout: Where the kernel shows its files.
        books: Where the memory is.
        swapper: Takes disks into use as swap.
        measures: What was counted for metrics.
        recorder: Who records.
    """

    def __init__(  # noqa: PLR0913  # it looks at many
        self,
        reactor: Reactor,
        store: SettingsStore,
        decisions: DecisionLog,
        hub: Hub,
        layout: Layout,
        *,
        books: Bookkeeper,
        measures: Measures,
        recorder: Recorder,
        swapper: Swapper | None = None,
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._decisions = decisions
        self._hub = hub
        self._layout = layout
        self._books = books
        self._swapper = swapper
        self._measures = measures
        self._exporter: Exporter | None = None
        self._recorder = recorder
        self._started_at = now_us()
        self._evicted_bytes = self._evicting_us = 0
        self._looks: Looks | None = None
        self._readers: tuple[GuestReader, Uses] | None = None
        self._looked: asyncio.TimerHandle | None = None
        self._rows = CgroupRows()
        hub.deserted = self._rows.forget
        self.squeezes = SqueezeFeed()
        self.troubles: Callable[[], tuple[str, ...]] = tuple
        """What cannot be listened on, as soon as somebody listens."""

    def guest(self) -> Guest:
        """What callers may ask of this daemon."""
        return Guest(
            status=self.status,
            whole_status=self.whole_status,
            cgroups=self.cgroups,
            cgroups_total=lambda: len(self._reactor.state.memcgs),
            doctor=self.examine,
            handle=self._reactor.handle,
            why_not_run=lambda path: why_not_run(self._reactor.state, path),
            clock=now_us,
            take_stock=self._books.take_stock,
            host_holds=self._books.host_holds,
            explain=self.explain,
            squeezer=self._squeezer(),
            swapper=self._swapper,
            look=self.look,
            kept=self._decisions.rows,
            recorder=self._recorder,
            foresee=self.foresee,
        )

    def _squeezer(self) -> Squeezer:
        return Squeezer(
            why_not=lambda path: why_not_squeeze(self._reactor.state, path),
            handle=self._reactor.handle,
            feed=self.squeezes,
            ledger=lambda: self._books.ledger,
            take_stock=self._books.take_stock,
            swap=lambda: self._reactor.rules.base.swap,
            clock=now_us,
            page_bytes=page_size(),
            held_until=self._held_until,
        )

    def _held_until(self) -> Instant | None:
        keep = self._reactor.state.keep
        return None if keep is None else keep.until

    def status(self, cgroups: tuple[CgroupStatus, ...] = ()) -> Status:
        """All that is known, with these cgroups."""
        state, rules = self._reactor.state, self._reactor.rules
        return status_of(state, rules, now_us(), self._around(), cgroups)

    async def whole_status(self) -> Status:
        """All that is known, with all cgroups, which are written already.

        Some are told of at a time: between them a stall is heard of.
        """
        keep, state, rules = self._hub.wants_status, self._reactor.state, self._reactor.rules
        telling = self._rows.tell(state, rules, now_us(), keep=keep)
        for _ in telling.pieces(_ROWS_AT_ONCE):
            await asyncio.sleep(0)
        state, rules = self._reactor.state, self._reactor.rules
        brief = status_of(
            state, rules, now_us(), self._around(), next_eviction=telling.next_eviction
        )
        return telling.within(brief)

    def cgroups(self, path: str | None) -> Iterator[CgroupStatus]:
        """One cgroup after the other: all, or one and those below it."""
        limits = None if path is None else read_protection(self._layout, path)
        return cgroups_of(self._reactor.state, self._reactor.rules, now_us(), path, limits)

    def observe(self, event: Event, taken_bytes: int) -> None:
        """Learn how fast evictions are, and keep no rows that a survey has made old."""
        if isinstance(event, Surveyed):
            self._rows.forget()
        if isinstance(event, BatchEnded) and taken_bytes:
            self._evicted_bytes += taken_bytes
            self._evicting_us += event.took_us

    async def foresee(self, fresh: Settings) -> Foreseen:
        """Tell what a turn would come to by other settings; a dry run, on a thread of its own."""
        from memreact.control.what_if import foreseen  # noqa: PLC0415  # if asked for
        from memreact.prospects import PAGES_PER_MS, prospects  # noqa: PLC0415  # as above

        size = page_size()
        per_ms = self._evicted_bytes // size * 1000 // max(1, self._evicting_us)
        look = partial(
            prospects,
            self._layout,
            self._reactor.state,
            self._reactor.rules,
            fresh.rules,
            now_us,
            pages_per_ms=per_ms or PAGES_PER_MS,
        )
        told = await asyncio.get_running_loop().run_in_executor(None, look)
        return foreseen(told, size, rate_measured=per_ms > 0)

    async def look(self, paths: Sequence[str]) -> GuestReading:
        """Read what the kernel says now, of these cgroups some at a time.

        Raises:
            KernelioError: /proc/meminfo cannot be read.
        """
        if self._readers is None:
            self._readers = self._readers_here()
        guest, uses_of = self._readers
        self._look_again()
        memcgs = self._reactor.state.memcgs
        names = _names_of(memcgs, paths)
        uses: list[CgroupUse] = []
        for at, path in enumerate(paths, 1):
            use = uses_of.read(names[path]) if path in names else None
            if use is not None:
                uses.append(use if use.path == path else replace(use, path=path))
            if at % _USES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return replace(
            guest.read(),
            decisions=self._decisions.made,
            cgroups_total=len(memcgs),
            cgroups=tuple(uses),
        )

    def _readers_here(self) -> tuple[GuestReader, Uses]:
        from memreact.sources.reading import GuestReader  # noqa: PLC0415  # for lookers
        from memreact.sources.uses import Uses  # noqa: PLC0415  # as above

        return GuestReader(self._layout, now_us), Uses(self._layout, now_us)

    def _look_again(self) -> None:
        """Somebody looks: what is kept for the next look is let go of when none comes."""
        if self._looked is None:
            loop = asyncio.get_running_loop()
            self._looked = loop.call_later(_LOOK_AGAIN_SECS, self._forget_old)

    def _forget_old(self) -> None:
        self._looked = None
        if self._readers is not None:
            uses = self._readers[1]
            uses.forget_old()
            if uses:
                self._look_again()

    def close(self) -> None:
        """Let go of what is kept for those who look."""
        if self._looked is not None:
            self._looked.cancel()
        if self._readers is not None:
            self._readers[1].close()

    async def explain(self, path: str) -> Explanation | None:
        """Explain one cgroup; None where there is none. One at a time: it remembers its looks."""
        from memreact.telemetry.explaining import explanation_of  # noqa: PLC0415  # if asked for

        name = next((each for each in self._reactor.state.memcgs if as_text(each) == path), None)
        if name is None:
            return None
        loop = asyncio.get_running_loop()
        look = await loop.run_in_executor(None, self._look_at, name)
        state = self._reactor.state
        if name not in state.memcgs:
            return None
        decisions = self._decisions.rows_on(name, _DECISIONS_TOLD)
        return explanation_of(
            state, self._store.settings, name, look, decisions=decisions, now=now_us()
        )

    def _look_at(self, name: str) -> CloseLook:
        """Read all of it, on a thread: it asks about each process."""
        from memreact.ground import read_folios  # noqa: PLC0415  # see above
        from memreact.sources.close_look import Looks, look_closely  # noqa: PLC0415

        if self._looks is None:
            self._looks = Looks()
        guest, size = self._reactor.state.guest, page_size()
        own_path, folios = guest.own_path if guest else "/", read_folios(self._layout, size)
        return look_closely(self._layout, own_path, name, folios, self._looks)

    def metrics(self) -> Iterator[str]:
        """All of it as numbers, in parts."""
        from memreact.own_cost import read_own_cost  # noqa: PLC0415  # only where somebody asks
        from memreact.telemetry.metrics import Exporter, Seen  # noqa: PLC0415

        if self._exporter is None:
            self._exporter = Exporter()
        state, control = self._reactor.state, self._store.settings.config.control
        return self._exporter.tell(
            Seen(
                state=state,
                rules=self._reactor.rules,
                now=now_us(),
                around=self._around(),
                measures=self._measures,
                cost=read_own_cost(self._layout),
                cgroups_max=control.metrics_cgroups or 0,
            )
        )

    def line(self, first: NextEviction | None = None) -> str:
        """One line for systemctl status: it stands for long, so its times are the clock's.

        Args:
            first: The soonest eviction of all, where somebody has found it already.
        """
        state, rules = self._reactor.state, self._reactor.rules
        now = now_us()
        line = status_line(state, rules, now, lambda at: clock_time(at, now), first)
        problem, unsaved = self._store.problem, self._store.unsaved
        if unsaved is not None:
            line = f"settings hold until a restart ({unsaved}); {line}"
        return line if problem is None else f"settings refused ({problem}); {line}"

    def examine(self) -> Report:
        """What this guest can do; on a thread of its own, for it reads many files."""
        from memreact.doctor import examine  # noqa: PLC0415  # only where somebody asks

        return examine(self._layout, own_pid=os.getpid())

    def _around(self) -> Surroundings:
        problem, settings = self._store.problem, self._store.settings
        return Surroundings(
            version=__version__,
            started_at=self._started_at,
            problem=None if problem is None else str(problem),
            unsaved=self._store.unsaved,
            warnings=(*settings.warnings, *self.troubles()),
            decisions=self._decisions.made,
            subscribers=self._hub.subscribers,
            dropped=self._hub.dropped,
            ledger=self._books.status(self._reactor.rules),
        )


def _names_of(memcgs: Mapping[str, object], paths: Sequence[str]) -> dict[str, str]:
    """The kernel's names of those that exist, by how they are told."""
    names = {path: path for path in paths if path in memcgs and path.isascii()}
    if len(names) < len(paths):
        names |= {as_text(path): path for path in memcgs if not path.isascii()}
    return names


def take_stock(layout: Layout, reactor: Reactor) -> tuple[Account, int]:
    """Read where the memory is and what is cold of it; on a thread of its own, for it takes long.

    Raises:
        KernelioError: It cannot be read.
    """
    return read_account(layout), all_cold_bytes(reactor.state, reactor.rules, now_us())


def clock_time(at: Instant, now: Instant) -> str:
    """A moment as this machine's clock tells it; with the day where it is not today."""
    wall = time.time()
    then = time.localtime(wall + (at - now) / 1e6)
    today = time.strftime("%F", then) == time.strftime("%F", time.localtime(wall))
    return time.strftime("%T" if today else "%F %T", then)
