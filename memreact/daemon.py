"""Puts the parts together and runs them until told to stop; the only file that knows them all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress

from kernelio import cgroup
from kernelio.alarm import Alarm
from kernelio.errors import KernelioError
from kernelio.inotify import Inotify
from kernelio.layout import Layout
from kernelio.psi import Fired, TriggerSet
from kernelio.uevent import open_monitor
from memreact.actions import Action, BreakOff, Compact
from memreact.actuator.worker import Work, Worker
from memreact.bookkeeper import Bookkeeper
from memreact.capabilities import find_capabilities
from memreact.control.audit import Audit
from memreact.control.desk import Desk
from memreact.control.store import SettingsStore
from memreact.disturbances import Disturbances
from memreact.events import (
    CapabilitiesRead,
    ClockDisturbed,
    Event,
    Instant,
    RulesChanged,
    StallSeen,
    Stopping,
    Surveyed,
)
from memreact.garbage import collect_if_due
from memreact.gate import Gate
from memreact.ground import break_ground, capabilities_read, decides, switch_on, would_switch_on
from memreact.hands import Hands
from memreact.harm import HarmWatch
from memreact.mailbox import Mailbox
from memreact.policy.state import Step
from memreact.reactor import Reactor
from memreact.recording import Recording
from memreact.run_dir import RunDir
from memreact.settings.layers import Settings
from memreact.shown import Shown, take_stock
from memreact.sources.config_files import ConfigFiles
from memreact.sources.limits import LimitWatch
from memreact.sources.machine import ClockWatch, DeviceWatch
from memreact.sources.pressure import now_us, read_sample
from memreact.sources.tree import CgroupTree
from memreact.sources.triggers import Triggers
from memreact.sources.waiter import Waiter
from memreact.swaps import SWAPS, Swaps
from memreact.systemd import Notifier, watchdog_us
from memreact.telemetry.decisions import DecisionLog, row_of
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact.telemetry.measures import Measures
from memreact.telemetry.trace import Trace

__all__ = ["Daemon"]

_TURN_OVER = "turn"
_TOLD = {"turn", "pause", "resume", "rules"}
# The work of one turn must move on within this, or the watchdog is no longer fed.
_STUCK_US = 300_000_000
_RESTORED = ClockDisturbed("snapshot_restored")

Mail = Event | tuple[Fired, int]
Source = CgroupTree | LimitWatch | ClockWatch | DeviceWatch


class Daemon:
    """One memreact: its parts, from start to stop, on the running loop.

    Args:
        store: The settings; whoever made it has it call `settle`.
        files: Where they are read from, watched.
        layout: Where the kernel shows its files.
        run_dir: What outlives a restart.
        journal: Where lines go.
        notifier: systemd's ear.
        trace: Where every event is written, if anywhere.
    """

    def __init__(  # noqa: PLR0913  # the parts come from outside, so that a test brings its own
        self,
        store: SettingsStore,
        *,
        files: ConfigFiles,
        layout: Layout,
        run_dir: RunDir,
        journal: Journal,
        notifier: Notifier,
        trace: Trace | None = None,
    ) -> None:
        self._store = store
        self._settings = settings = store.settings
        self._layout = layout
        self._run_dir = run_dir
        self._journal = journal
        self._notifier = notifier
        self._recording = Recording(
            layout, run_dir, settings, clock=now_us, journal=journal, trace=trace
        )
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self.failed = False
        self._alone = run_dir.take_lock()
        self._own_path = _own_path(layout)
        self._phase = run_dir.phase()
        self._feeding: asyncio.TimerHandle | None = None
        self._telling: asyncio.Handle | None = None
        self._decisions = DecisionLog(settings.rules.decisions_kept)
        self._hub = Hub()
        self._reactor = Reactor(self._loop, now_us, settings.rules, self._perform, self._observe)
        self._books = Bookkeeper(
            self._loop, lambda: take_stock(layout, self._reactor), now_us, self._accounted
        )
        self._swaps = self._swaps_here()
        self._measures = Measures()
        self._shown = self._what_shows()
        self._harm = HarmWatch(self._loop, layout, self._own_path, self._reactor.handle)
        self._disturbances = Disturbances(self._loop, self._disturbed)
        self._busy_since: Instant | None = None
        self._idle_because: str | None = None
        self._reporting = True
        self._holes_told = {"cgroups_not_watched": 0, "cgroups_left_out": 0}
        self.stuck = False
        self._open_sources()
        self._begin()
        self._desk = self._desk_of(files)
        self._shown.troubles = lambda: (*self._desk.problems, *self._swaps.problems)
        store.saving_changed = self._say_whether_saved

    def _swaps_here(self) -> Swaps:
        return Swaps(
            self._layout,
            self._own_path,
            self._journal,
            rules=lambda: self._reactor.rules,
            wait_secs=self._device_wait_secs,
            clock=now_us,
            changed=self._swap_changed,
        )

    def _what_shows(self) -> Shown:
        return Shown(
            self._reactor,
            self._store,
            self._decisions,
            self._hub,
            self._layout,
            books=self._books,
            swapper=self._swaps.swapper,
            measures=self._measures,
            recorder=self._recording.recorder,
        )

    def _open_sources(self) -> None:
        self._sources: tuple[Source, ...] = ()
        self._mailbox: Mailbox[Mail] = Mailbox()
        self._waiting = TriggerSet()
        self._gate = Gate()
        self._waiter = Waiter(self._waiting, self._gate, self._fired)
        self._alarm = Alarm()
        self._triggers = Triggers(self._layout, self._waiting, self._alarm)
        self._limits = LimitWatch(self._layout, Inotify())
        self._tree = CgroupTree(self._layout, Inotify())

    def _desk_of(self, files: ConfigFiles) -> Desk:
        return Desk(
            self._run_dir.path,
            store=self._store,
            guest=self._shown.guest(),
            hub=self._hub,
            files=files,
            audit=Audit(self._journal.at("notice"), now_us, self._loop),
            journal=self._journal,
            metrics=self._shown.metrics,
        )

    @property
    def reactor(self) -> Reactor:
        """State and rules, to look at."""
        return self._reactor

    @property
    def decisions(self) -> DecisionLog:
        """The last decisions."""
        return self._decisions

    def stop(self) -> None:
        """Ask for the end; `until_stopped` returns soon after."""
        self._stopped.set()

    def fail(self, error: BaseException | None = None) -> None:
        """Ask for the end after a bug: a fresh start is better than to limp on.

        What was recorded before the first one is left for whoever looks for it.
        """
        if error is not None and not self.failed:
            self._recording.failed(error, self._reactor.at_hand)
        self.failed = True
        self.stop()

    async def until_stopped(self) -> None:
        """Run until asked to stop, then let go of everything within a second."""
        try:
            self._desk.open()
            self._books.open()
            self._say_started()
            # Not sooner: systemd may signal at once, and the caller has set its handlers by now.
            self._say_ready()
            await self._stopped.wait()
            self._notifier.stopping()
            self._reactor.handle(Stopping())
            self._store.save_again()
        finally:
            self._close()

    def _say_ready(self) -> None:
        """Nobody follows yet, and systemd is told the line with it."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._notifier.ready(self._shown.line())

    def reload(self) -> None:
        """Read the settings again; a bad file leaves what is in force."""
        self._notifier.reloading(now_us())
        self._desk.reload()
        self._notifier.ready(self._shown.line())

    def settle(self, fresh: Settings) -> None:
        """Put other settings in force, whole, for work that runs too."""
        before, self._settings = self._settings, fresh
        works_otherwise = not fresh.rules.work_like(before.rules)
        if works_otherwise:
            self._measures.asked_to_stop(now_us())
            self._hands.break_off()
        self._journal.level = fresh.rules.log_level
        self._recording.settle(fresh.config.log)
        self._settle_swap()
        self._decisions.keep(fresh.rules.decisions_kept)
        self._reactor.rules = fresh.rules
        if fresh.config.control != before.config.control:
            self._desk.settle(fresh.config.control)
        if works_otherwise:
            self._rules_changed(before, fresh)

    def _rules_changed(self, before: Settings, fresh: Settings) -> None:
        if decides(before.rules) != decides(fresh.rules):
            self._reactor.handle(self._read_capabilities())
        self._reactor.handle(RulesChanged(fresh.revision))

    def _begin(self) -> None:
        ground, guest = break_ground(self._layout, self._own_path, self._examined())
        self._worker = Worker(
            ground,
            self._gate,
            self._mailbox.post,
            self._tree.names,
            alarm=self._alarm,
            switches=self._run_dir,
        )
        self._hands = Hands(
            layout=self._layout,
            own_path=self._own_path,
            gate=self._gate,
            worker=self._worker,
            triggers=self._triggers,
            limits=self._limits,
            waiter=self._waiter,
            journal=self._journal,
            read_capabilities=self._read_capabilities,
        )
        for thread in (self._worker, self._waiter, self._triggers):
            thread.start()
        self._swaps.watch(self._waiting)
        self._settle_swap()
        self._watch(guest)
        self._feed_watchdog()

    def _watch(self, guest: CapabilitiesRead) -> None:
        self._loop.add_reader(self._mailbox.fileno(), self._mail)
        self._reactor.handle(guest)
        for event in self._tree.scan():
            self._reactor.handle(event)
        self._say_holes()
        self._sources = (self._tree, self._limits, *self._machine())
        for source in self._sources:
            self._loop.add_reader(source.fileno(), self._read, source)

    def _machine(self) -> Iterable[ClockWatch | DeviceWatch]:
        for name, opened in (("clock", ClockWatch), ("devices", self._devices)):
            try:
                yield opened()
            except KernelioError as error:
                self._journal.say("warning", "not_watched", what=name, error=error)

    def _devices(self) -> DeviceWatch:
        return DeviceWatch(open_monitor(self._layout), self._swaps.disk_changed)

    def _read(self, source: Source) -> None:
        try:
            events = source.read()
        except KernelioError as error:
            # It would stay readable for ever.
            self._loop.remove_reader(source.fileno())
            self._journal.say("warning", "not_watched", what=type(source).__name__, error=error)
            return
        for event in events:
            if isinstance(event, ClockDisturbed):
                self._disturbances.tell(event)
            else:
                self._reactor.handle(event)
        if source is self._tree:
            self._say_holes()

    def _disturbed(self, event: ClockDisturbed) -> None:
        if event == _RESTORED:  # the clones of a snapshot would all take their turns together
            self._phase = self._run_dir.phase(draw_again=True)
        self._reactor.handle(event)

    def _swap_changed(self) -> None:
        """What this guest can do may be something else: anonymous memory has a place, or none."""
        self._reactor.handle(self._read_capabilities())

    def _settle_swap(self) -> None:
        if self._alone:
            self._swaps.settle(self._settings.config.swap)

    def _device_wait_secs(self) -> int:
        return self._settings.config.swap.device_wait_secs or 0

    def _say_holes(self) -> None:
        """Tell of memcgs that are not followed, again whenever they are twice as many."""
        tree = self._tree
        holes = {"cgroups_not_watched": tree.unwatched, "cgroups_left_out": tree.left_out}
        for what, number in holes.items():
            if number and number >= 2 * self._holes_told[what]:
                self._holes_told[what] = number
                self._journal.say("warning", what, n=number)

    def _compare(self, survey: Surveyed) -> None:
        """A survey walks the real tree: let it fill the holes that inotify leaves."""
        if survey.failed is None:
            for event in self._tree.check((view.path, view.inode) for view in survey.memcgs):
                self._reactor.handle(event)
            self._say_holes()

    def _fired(self, fired: Fired, stops: int) -> None:
        """On the waiting thread: what was stopped, for the loop to decide on."""
        self._mailbox.post((fired, stops))

    def _mail(self) -> None:
        """Look at what fired first: no answer of the worker begins a write before the totals."""
        mails = tuple(self._mailbox.drain())
        fired = [mail for mail in mails if isinstance(mail, tuple)]
        self._hands.stops_handled = max(
            self._hands.stops_handled, *(stops for _, stops in fired), 0
        )
        if any(each.name == SWAPS for each, _ in fired):
            self._swaps.table_changed()
        for each, stops in fired:
            if stops:
                self._measures.stalled(Instant(each.at_us))
        for name in dict.fromkeys(each.name for each, _ in fired if not each.gone):
            self._reactor.handle(self._stall(name))
        for mail in mails:
            if not isinstance(mail, tuple):
                self._busy_since = None
                if isinstance(mail, Surveyed):
                    self._compare(mail)
                self._reactor.handle(mail)

    def _stall(self, trigger: str) -> StallSeen:
        """The exact totals, of the memcg at work too, whoever's trigger fired."""
        turn = self._reactor.state.turn
        at_work = turn.eviction.candidate.path if turn and turn.eviction else None
        sample = read_sample(self._layout, self._own_path, trigger or at_work)
        return StallSeen(sample, trigger or "guest")

    def _perform(self, action: Action) -> Event | None:
        if isinstance(action, Work):
            self._measures.begins()
        if isinstance(action, Compact):  # as long as it was told to take is not too long
            self._busy_since = Instant(max(now_us(), action.ends_by))
        elif isinstance(action, Work):
            self._busy_since = now_us()
        elif isinstance(action, BreakOff):
            self._measures.asked_to_stop(now_us())
        return self._hands.perform(action)

    def _observe(self, event: Event, made: Step, now: Instant) -> None:
        before = self._books.ledger.since_start
        self._books.observe(event, made.state, now)
        took = self._books.ledger.since_start.minus(before)
        self._measures.observe(event, made.state, made.decisions, took.file_bytes + took.anon_bytes)
        self._shown.observe(event, took.file_bytes + took.anon_bytes)
        self._shown.squeezes.observe(made)
        self._harm.observe(made, now)
        self._recording.observe(event, made, now, self._settings, self._shown.status)
        for decision in made.decisions:
            self._decisions.add(now, decision)
            self._journal.tell(decision)
            if self._hub.wants_decisions:
                self._hub.publish(row_of(self._decisions.made, now, decision))
        if isinstance(event, CapabilitiesRead):
            self._say_if_idle(event)
        told = any(decision.verdict in _TOLD for decision in made.decisions)
        if any(decision.verdict == _TURN_OVER for decision in made.decisions):
            self._store.save_again()
        if told or isinstance(event, CapabilitiesRead | Surveyed):
            self._tell_status()
        if self._busy_since is None:
            collect_if_due()

    def _tell_status(self) -> None:
        """Tell it once for all that is decided in this turn of the loop: it looks at each memcg."""
        if self._telling is None:
            self._telling = self._loop.call_soon(self._tell_status_now)

    def _tell_status_now(self) -> None:
        self._telling = None
        status = self._shown.status() if self._hub.wants_status else None
        self._notifier.status(self._shown.line(None if status is None else status.next_eviction))
        if status is not None:
            self._hub.publish(status)

    def _tell_followers(self) -> None:
        if self._hub.wants_status:
            self._hub.publish(self._shown.status())

    def _say_started(self) -> None:
        rules, guest = self._reactor.rules, self._reactor.state.guest
        files = dict.fromkeys(origin for origin in self._store.settings.origins.values())
        self._journal.say(
            "info",
            "started",
            backend=guest.evicts if guest else "nothing",
            period_secs=rules.base.period_us // 1_000_000,
            revision=rules.revision,
            settings=", ".join(files),
        )
        if self._store.unsaved is not None:
            self._say_whether_saved()

    def _say_whether_saved(self) -> None:
        """Tell that a restart would lose what was pushed last, and that it would no more."""
        if self._store.unsaved is None:
            self._journal.say("notice", "settings_saved")
        else:
            self._journal.say("warning", "settings_not_saved", because=self._store.unsaved)
        self._tell_status()

    def _accounted(self) -> None:
        """Say when evictions begin to lead to nothing that the host was told, and when they end."""
        judged = self._books.verdict()
        if judged.reporting is not None and judged.reporting != self._reporting:
            self._reporting = judged.reporting
            figures = {"evicted_bytes": judged.evicted_bytes}
            if judged.reporting:
                figures["reported_bytes"] = judged.grew_bytes
                self._journal.say("notice", "reporting", **figures)
            else:
                why = judged.because
                self._journal.say("warning", "not_reporting", because=why, **figures)
        self._tell_followers()

    def _say_if_idle(self, guest: CapabilitiesRead) -> None:
        if guest.idle_because == self._idle_because:
            return
        self._idle_because = guest.idle_because
        if guest.idle_because is None:
            self._journal.say("notice", "idle_no_more")
        else:
            self._journal.say("warning", "idle", because=guest.idle_because)

    def _read_capabilities(self) -> CapabilitiesRead:
        ground, guest = break_ground(self._layout, self._own_path, self._examined())
        self._worker.stand_on(ground)
        return guest

    def _examined(self) -> CapabilitiesRead:
        rules, pid = self._reactor.rules, os.getpid()
        can = find_capabilities(self._layout, own_pid=pid)
        if would_switch_on(can, rules, alone=self._alone):
            switch_on(self._layout, self._run_dir, self._journal)
            can = find_capabilities(self._layout, own_pid=pid)
        return capabilities_read(can, rules, self._own_path, self._phase, alone=self._alone)

    def _feed_watchdog(self) -> None:
        every_us = watchdog_us(os.environ, os.getpid())
        if every_us is None:
            return
        if self._busy_since is None or now_us() - self._busy_since <= _STUCK_US:
            self._notifier.alive()
        self._feeding = self._loop.call_later(every_us / 2_000_000, self._feed_watchdog)

    def _close(self) -> None:
        self._reactor.close()
        self._shown.squeezes.close()
        self._shown.close()
        self._disturbances.close()
        self._desk.close()
        self._swaps.close()
        self._books.close()
        self._harm.close()
        for handle in (self._feeding, self._telling):
            if handle is not None:
                handle.cancel()
        self._loop.remove_reader(self._mailbox.fileno())
        for source in self._sources:
            self._loop.remove_reader(source.fileno())
            source.close()
        self.stuck = not self._worker.close()
        self._triggers.close()
        self._waiter.close()
        self._waiting.close()
        self._alarm.close()
        self._mailbox.close()
        self._recording.close()


def _own_path(layout: Layout) -> str:
    with suppress(KernelioError):
        return cgroup.own_path(layout.root)
    return "/"
