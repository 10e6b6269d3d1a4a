"""io.memreact: what operators and their programs ask for, over the settings and the policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from kernelio.errors import KernelioError
from memreact.actions import Because
from memreact.control.audit import Audit, as_json
from memreact.control.guest import Guest, Squeezer, Swapper
from memreact.control.peer import Peer
from memreact.control.squeezing import Squeezing
from memreact.control.store import (
    Change,
    NoSuchRule,
    RevisionConflict,
    RuleExists,
    SettingsStore,
)
from memreact.control.swapping import answered
from memreact.control.varlink import (
    Answer,
    Encoded,
    Lasting,
    Stream,
    VarlinkError,
    invalid_parameter,
)
from memreact.events import (
    HoldAsked,
    Instant,
    ReleaseAsked,
    RunAsked,
    SqueezeReleased,
)
from memreact.settings.errors import SettingsError
from memreact.settings.layers import Settings
from memreact.settings.tables import config_from
from memreact.swap_trouble import SwapTrouble
from memreact.telemetry.flight import Flight
from memreact.telemetry.hub import Hub, Subscription
from memreact_schemas import control, doctor, varlink
from memreact_schemas.config import CgroupEntry, Config, Log, normal_path
from memreact_schemas.control import INTERFACE, METHODS, tables_from_wire, tables_to_wire
from memreact_schemas.status import CgroupStatus, DecisionRow
from memreact_schemas.swap import (
    AddSwap,
    ListSwap,
    RemoveSwap,
    SwapAreas,
)

__all__ = ["MemreactService", "not_possible"]

WATCHERS_MAX = 16
_KEPT_FOR_WRITERS = 4  # of these: who may only read cannot keep the others out
# Decisions that one of them has not read yet: a turn makes one of each cgroup at once. A row takes
# half a KiB, and the queues share theirs: 4 MiB at the most, and only of thousands of cgroups.
_WAITING_LEAST, _WAITING_MOST, _WAITING_TURNS = 256, 8192, 2
_CGROUPS_AT_ONCE = 64
_US_PER_SEC = 1_000_000
_STATUS_SECS = 10
FOLLOWERS_MAX = 4  # who record at the same time: each may let some megabytes wait
_KEPT_TO_RECORD = 1  # of these, for those who may write


_Done = TypeVar("_Done")


class _Told(NamedTuple):
    """What an answer of GetSettings was made of."""

    settings: Settings
    problem: SettingsError | None
    unsaved: str | None

    def is_of(self, other: _Told) -> bool:
        """Whether it was made of the very same: settings are too many to compare."""
        same = self.settings is other.settings and self.problem is other.problem
        return same and self.unsaved == other.unsaved


class MemreactService:
    """Answers the calls of io.memreact; who may make them was looked at before.

    Args:
        store: The settings.
        guest: The rest of the daemon.
        hub: Where decisions and status are followed.
        audit: Told of each change and each refusal.
    """

    name = INTERFACE
    methods = METHODS

    def __init__(self, store: SettingsStore, guest: Guest, hub: Hub, audit: Audit) -> None:
        self._store = store
        self._guest = guest
        self._hub = hub
        self._audit = audit
        self._settings_told: tuple[_Told, Encoded] | None = None
        self._telling = asyncio.Lock()
        self._explaining = asyncio.Lock()
        self._explaining_to_readers = asyncio.Lock()
        self._foreseeing = asyncio.Lock()
        self._foreseeing_to_reader: asyncio.Task[control.WhatIfAnswer] | None = None
        self._examining: asyncio.Future[doctor.Report] | None = None
        self._squeezing: Squeezing | None = None
        self._answers: Mapping[str, Callable[[Any, Peer], Answer]] = {
            "GetSettings": self._get_settings,
            "PatchSettings": self._patch_settings,
            "AddRule": self._add_rule,
            "SetRule": self._set_rule,
            "DeleteRule": self._delete_rule,
            "DropPushed": self._drop_pushed,
            "GetStatus": self._get_status,
            "Look": self._look,
            "Explain": self._explain,
            "GetDoctor": self._get_doctor,
            "Pause": self._pause,
            "Resume": self._resume,
            "RunNow": self._run_now,
            "Squeeze": self._squeeze,
            "ReleaseSqueeze": self._release_squeeze,
            "HostHolds": self._host_holds,
            "SetLogLevel": self._set_log_level,
            "Record": self._record,
            "WhatIf": self._what_if,
            "ListSwap": self._list_swap,
            "AddSwap": self._add_swap,
            "RemoveSwap": self._remove_swap,
            "Watch": self._watch,
        }

    def answer(self, method: str, call: Struct, peer: Peer) -> Answer:
        """Answer a call.

        Raises:
            VarlinkError: The answer is an error; nothing was changed.
        """
        try:
            with _refusals_in_words():
                return self._answers[method](call, peer)
        except VarlinkError as error:
            if METHODS[method].writes:
                self._audit.refused(peer, method, _in_words(error))
            raise

    def _get_settings(self, call: control.GetSettings, peer: Peer) -> Encoded:
        """Tell of the settings in the same bytes until they change: they may be very many."""
        del call, peer
        store = self._store
        of = _Told(store.settings, store.problem, store.unsaved)
        told = self._settings_told
        if told is None or not told[0].is_of(of):
            self._settings_told = None  # not two of them at a time
            told = self._settings_told = (of, _in_force(of))
        return told[1]

    def _patch_settings(self, call: control.PatchSettings, peer: Peer) -> control.Changed:
        patch = _config_of(call.patch, peer)
        how = _how(call, peer)
        change = self._store.patch(patch, **how, over_vsock=peer.over_vsock)
        return self._changed("PatchSettings", call, peer, change)

    def _add_rule(self, call: control.AddRule, peer: Peer) -> control.Changed:
        entry = _entry_of(call.rule, peer)
        return self._changed("AddRule", call, peer, self._store.add_rule(entry, **_how(call, peer)))

    def _set_rule(self, call: control.SetRule, peer: Peer) -> control.Changed:
        entry = _entry_of(call.rule, peer)
        return self._changed("SetRule", call, peer, self._store.set_rule(entry, **_how(call, peer)))

    def _delete_rule(self, call: control.DeleteRule, peer: Peer) -> control.Changed:
        change = self._store.delete_rule(call.path, call.numa or (), **_how(call, peer))
        return self._changed("DeleteRule", call, peer, change)

    def _drop_pushed(self, call: control.DropPushed, peer: Peer) -> control.Changed:
        how = _how(call, peer)
        change = self._store.drop(call.keys or (), **how, over_vsock=peer.over_vsock)
        return self._changed("DropPushed", call, peer, change)

    def _set_log_level(self, call: control.SetLogLevel, peer: Peer) -> control.Changed:
        patch = Config(log=Log(level=call.level))
        return self._changed(
            "SetLogLevel", call, peer, self._store.patch(patch, **_how(call, peer))
        )

    def _changed(
        self, verb: str, call: control.Change, peer: Peer, change: Change
    ) -> control.Changed:
        if not call.dry_run:
            self._audit.changed(peer, verb, change)
        keys = _changed_keys(change)
        return control.Changed(revision=change.revision, changed=keys, notes=change.notes)

    def _get_status(self, call: control.GetStatus, peer: Peer) -> Answer:
        path = None if call.path is None else _normal(call.path)
        if call.ledger:
            return self._tell_afresh(call, path, peer)
        if call.cgroups is False:
            return control.StatusAnswer(status=self._guest.status(()))
        return self._tell_in_turn(path, peer)

    async def _tell_afresh(
        self, call: control.GetStatus, path: str | None, peer: Peer
    ) -> control.StatusAnswer | Encoded:
        await self._guest.take_stock()
        if call.cgroups is False:
            return control.StatusAnswer(status=self._guest.status(()))
        return await self._tell_in_turn(path, peer)

    async def _tell_in_turn(self, path: str | None, peer: Peer) -> Encoded:
        """Tell those who may only read one after the other: it takes memory, and the loop."""
        if peer.may_write:
            return await self._tell(path)
        async with self._telling:
            return await self._tell(path)

    async def _tell(self, path: str | None) -> Encoded:
        if path is None:
            return Encoded(control.StatusAnswer(status=await self._guest.whole_status()))
        told = await self._told_within(path, self._guest.cgroups(path))
        return Encoded(control.StatusAnswer(status=self._guest.status(told)))

    async def _told_within(
        self, path: str, cgroups: Iterator[CgroupStatus]
    ) -> tuple[CgroupStatus, ...]:
        """Tell of some cgroups at a time: between them a stall is heard of."""
        told: list[CgroupStatus] = []
        while some := tuple(islice(cgroups, _CGROUPS_AT_ONCE)):
            told += some
            await asyncio.sleep(0)
        if not told:
            raise not_possible(f"there is no cgroup {path}")
        return tuple(told)

    async def _look(self, call: control.Look, peer: Peer) -> control.Looked:
        del peer
        paths = dict.fromkeys(_normal(path, "paths") for path in call.paths or ())
        try:
            return control.Looked(reading=await self._guest.look(tuple(paths)))
        except KernelioError as error:
            raise not_possible(str(error)) from error

    def _explain(self, call: control.Explain, peer: Peer) -> Coroutine[Any, Any, control.Explained]:
        return self._explained_to(peer, _normal(call.path))

    async def _explained_to(self, peer: Peer, path: str) -> control.Explained:
        """Explain to one after the other; whoever may write waits for one reader at the most."""
        if peer.may_write:
            return await self._explained(path)
        async with self._explaining_to_readers:
            return await self._explained(path)

    async def _explained(self, path: str) -> control.Explained:
        """One look at a time: each asks about many processes."""
        async with self._explaining:
            explanation = await self._guest.explain(path)
        if explanation is None:
            raise not_possible(f"no_such_cgroup: {path}")
        return control.Explained(explanation=explanation)

    def _what_if(
        self, call: control.WhatIf, peer: Peer
    ) -> Coroutine[Any, Any, control.WhatIfAnswer]:
        """Foresee; whoever waits holds whole settings, so of readers nobody does."""
        if not peer.may_write and self._foreseeing_to_reader is not None:
            raise not_possible("another what-if is being answered")
        patch = _config_of(call.patch, peer)
        change = self._store.patch(patch, by=peer.name, dry_run=True, over_vsock=peer.over_vsock)
        foreseen = self._foreseen(change, self._store.foresee(patch, by=peer.name))
        return foreseen if peer.may_write else self._foreseen_to_reader(foreseen)

    def _foreseen_to_reader(
        self, foreseen: Coroutine[Any, Any, control.WhatIfAnswer]
    ) -> Coroutine[Any, Any, control.WhatIfAnswer]:
        """Go on where the reader leaves: the thread does, and with it what it holds."""
        self._foreseeing_to_reader = asyncio.get_running_loop().create_task(foreseen)
        self._foreseeing_to_reader.add_done_callback(self._reader_foreseen)
        return _whoever_leaves(self._foreseeing_to_reader)

    def _reader_foreseen(self, _: object) -> None:
        self._foreseeing_to_reader = None

    async def _foreseen(self, change: Change, fresh: Settings) -> control.WhatIfAnswer:
        """Foresee for one after the other: each reads many files."""
        async with self._foreseeing:
            seen = await self._guest.foresee(fresh)
        return control.WhatIfAnswer(
            changed=_changed_keys(change),
            notes=change.notes,
            now=seen.now,
            then=seen.then,
            cgroups=seen.cgroups,
            left_out=seen.left_out,
            held_up=seen.held_up,
            rate_measured=seen.rate_measured,
        )

    def _get_doctor(
        self, call: control.GetDoctor, peer: Peer
    ) -> Coroutine[Any, Any, control.Doctor]:
        del call, peer
        return self._examine()

    async def _examine(self) -> control.Doctor:
        """Look at the guest on a thread; those who ask meanwhile are given the same answer."""
        if self._examining is None:
            loop = asyncio.get_running_loop()
            self._examining = loop.run_in_executor(None, self._guest.doctor)
            self._examining.add_done_callback(self._examined)
        return control.Doctor(report=await asyncio.shield(self._examining))

    def _examined(self, _: object) -> None:
        self._examining = None

    def _pause(self, call: control.Pause, peer: Peer) -> control.Paused:
        until = Instant(self._guest.clock() + call.seconds * _US_PER_SEC)
        self._audit.asked(peer, "Pause", seconds=call.seconds, reason=call.reason or "")
        self._guest.handle(HoldAsked(until, peer.name, call.reason or ""))
        return control.Paused(until_us=until)

    def _resume(self, call: control.Resume, peer: Peer) -> control.Nothing:
        del call
        self._audit.asked(peer, "Resume")
        self._guest.handle(ReleaseAsked(peer.name))
        return control.Nothing()

    def _run_now(self, call: control.RunNow, peer: Peer) -> control.Nothing:
        path = None if call.path is None else _normal(call.path)
        why = self._guest.why_not_run(path)
        if why is not None:
            raise not_possible(_why_not_in_words(why))
        self._audit.asked(peer, "RunNow", path=path or "")
        self._guest.handle(RunAsked(path, peer.name))
        return control.Nothing()

    def _squeeze(self, call: control.Squeeze, peer: Peer) -> Squeezing:
        path = "/" if call.scope is None else _normal(call.scope, "scope")
        targets = (call.target_bytes, call.held_percent, call.cold or None)
        if sum(target is not None for target in targets) != 1:
            raise VarlinkError(varlink.InvalidParameter("target_bytes"))
        if (call.then == "hold") != (call.hold_seconds is not None) or (
            call.then == "hold" and call.cold
        ):
            raise VarlinkError(varlink.InvalidParameter("hold_seconds"))
        squeezer = self._squeezer_for(path)
        asked = {key: value for key, value in asdict(call).items() if value is not None}
        self._audit.asked(peer, "Squeeze", **asked)
        self._squeezing = Squeezing(squeezer, call, path, peer.name, self._squeezed)
        return self._squeezing

    def _squeezer_for(self, path: str) -> Squeezer:
        """What squeezes, if nobody's squeeze stands in the way and nothing else does."""
        squeezer, under_way = self._guest.squeezer, self._squeezing
        if squeezer is None:
            raise not_possible("nothing is squeezed here")
        if under_way is not None:
            raise self._busy(under_way.by, under_way.deadline)
        why = squeezer.why_not(path)
        if why is not None and why.code == "squeeze_under_way":
            raise self._busy(str(why.saw["held_by"]), int(why.saw["until_us"]))
        if why is not None:
            raise not_possible(_why_not_in_words(why))
        return squeezer

    def _busy(self, by: str, until: int) -> VarlinkError:
        left_us = max(0, until - self._guest.clock())
        return VarlinkError(control.Busy(by=by, left_us=left_us), INTERFACE)

    def _release_squeeze(self, call: control.ReleaseSqueeze, peer: Peer) -> control.Nothing:
        del call
        self._audit.asked(peer, "ReleaseSqueeze")
        self._guest.handle(SqueezeReleased(peer.name))
        return control.Nothing()

    def _squeezed(self) -> None:
        self._squeezing = None

    def _host_holds(self, call: control.HostHolds, peer: Peer) -> control.Nothing:
        del peer  # no line in the journal: a host may say it every few seconds
        self._guest.host_holds(call.held_bytes)
        return control.Nothing()

    def _record(self, call: control.Record, peer: Peer) -> Stream:
        from memreact.control.recordings import FlightRow, RecordRow  # noqa: PLC0415  # seldom

        recorder = self._guest.recorder
        if recorder is None:
            raise not_possible("nothing is recorded here")
        if call.flight:
            self._refuse_no_flight(recorder.flight)
            return FlightRow(recorder, self._guest.clock())
        places = FOLLOWERS_MAX if peer.may_write else FOLLOWERS_MAX - _KEPT_TO_RECORD
        if recorder.followers >= places:
            raise not_possible(f"{places} record already")
        secs = call.status_seconds
        return RecordRow(recorder, self._guest, _STATUS_SECS if secs is None else secs)

    def _refuse_no_flight(self, flight: Flight) -> None:
        if flight.short_of_bytes is not None:
            kib = flight.short_of_bytes >> 10
            raise not_possible(f"log.flight_kib is too small: a checkpoint alone takes {kib} KiB")
        if not flight.held_bytes:
            raise not_possible("the flight recorder is off: log.flight_kib = 0")

    async def _list_swap(self, call: ListSwap, peer: Peer) -> SwapAreas:
        del call, peer
        try:
            return await self._swapper().areas()
        except SwapTrouble as trouble:
            raise VarlinkError(trouble.answer, INTERFACE) from trouble

    def _add_swap(self, call: AddSwap, peer: Peer) -> Lasting:
        if call.serial is call.pci_path is call.uuid is None:
            raise VarlinkError(varlink.InvalidParameter("serial"))
        return Lasting(answered(self._swapper().add, call, peer, self._audit))

    def _remove_swap(self, call: RemoveSwap, peer: Peer) -> Lasting:
        if call.serial is call.pci_path is call.uuid is call.path is None:
            raise VarlinkError(varlink.InvalidParameter("serial"))
        return Lasting(answered(self._swapper().remove, call, peer, self._audit))

    def _swapper(self) -> Swapper:
        if self._guest.swapper is None:
            raise not_possible("no disk is taken into use as swap here")
        return self._guest.swapper

    def _watch(self, call: control.Watch, peer: Peer) -> _Watching:
        decisions, status = call.decisions is not False, bool(call.status)
        if not (decisions or status):
            raise not_possible("there is nothing to watch: neither decisions nor status")
        places = WATCHERS_MAX if peer.may_write else WATCHERS_MAX - _KEPT_FOR_WRITERS
        if self._hub.subscribers >= places:
            raise not_possible(f"{places} watch already")
        kept = (
            None if call.since is None or not decisions else partial(self._guest.kept, call.since)
        )
        return _Watching(self._hub, self._guest, kept, decisions=decisions, status=status)


class _Watching:
    """One follower's row of answers: how things stand now, what is kept, and then what comes."""

    def __init__(
        self,
        hub: Hub,
        guest: Guest,
        kept: Callable[[], Iterator[DecisionRow]] | None,
        *,
        decisions: bool,
        status: bool,
    ) -> None:
        self._hub = hub
        self._guest = guest
        self._kept_since = kept
        self._kept: Iterator[DecisionRow] = iter(())
        self._first = guest.status(()) if status else None
        self._decisions = decisions
        self._status = status
        self._following: Subscription | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Follow from now on."""
        self._following = self._hub.subscribe(
            self._waiting_max, wake, decisions=self._decisions, status=self._status
        )
        if self._kept_since is not None:
            self._kept = self._kept_since()
        wake()

    def _waiting_max(self) -> int:
        turns = _WAITING_TURNS * self._guest.cgroups_total()
        return min(max(_WAITING_LEAST, turns), _WAITING_MOST)

    def take(self) -> control.WatchItem | None:
        """Give what comes next, and how much was left out before it."""
        following = self._following
        if following is None:
            return None
        item, self._first = self._first or next(self._kept, None) or following.take(), None
        if isinstance(item, DecisionRow):
            return control.WatchItem(decision=item, dropped=following.dropped)
        return None if item is None else control.WatchItem(status=item, dropped=following.dropped)

    def close(self) -> None:
        """Follow no more."""
        self._kept = iter(())
        if self._following is not None:
            self._following.close()
            self._following = None


async def _whoever_leaves(task: asyncio.Task[_Done]) -> _Done:
    """Wait for what goes on without whoever waits."""
    return await asyncio.shield(task)


def _in_force(of: _Told) -> Encoded:
    settings, problem, unsaved = of
    return Encoded(
        control.SettingsInForce(
            settings=tables_to_wire(settings.config),
            revision=settings.revision,
            origins=dict(settings.origins),
            problem=None if problem is None else _problem(control.Problem, problem),
            unsaved=unsaved,
            warnings=settings.warnings,
        )
    )


def _changed_keys(change: Change) -> tuple[control.ChangedKey, ...]:
    return tuple(
        control.ChangedKey(
            key=each.key,
            before=as_json(each.before),
            after=as_json(each.after),
            origin=each.origin,
        )
        for each in change.changed
    )


def _how(call: control.Change, peer: Peer) -> dict[str, Any]:
    return {
        "by": peer.name,
        "expected_revision": call.expected_revision,
        "dry_run": bool(call.dry_run),
    }


def _config_of(tables: dict[str, object], peer: Peer) -> Config:
    return config_from(tables_from_wire(tables), _origin(peer))


def _entry_of(rule: dict[str, object], peer: Peer) -> CgroupEntry:
    return config_from({"memcg": {"cgroup": [rule]}}, _origin(peer)).memcg.cgroup[0]


def _origin(peer: Peer) -> str:
    return f"pushed by {peer.name}"


def _why_not_in_words(why: Because) -> str:
    detail = why.saw.get("detail") or why.saw.get("held_by")
    return f"{why.code}: {detail}" if detail else why.code


def _normal(path: str, key: str = "path") -> str:
    try:
        return normal_path(path)
    except ValueError as error:
        raise invalid_parameter(f"{error} - at `$.{key}`") from error


def not_possible(why: str) -> VarlinkError:
    """Make the refusal of what cannot be done here, or not now."""
    return VarlinkError(control.NotPossible(why=why), INTERFACE)


_Problem = TypeVar("_Problem", bound=control.Problem)


def _problem(kind: type[_Problem], error: SettingsError) -> _Problem:
    return kind(
        origin=error.origin,
        key=error.key or None,
        found=error.found or None,
        expected=error.expected,
        line=error.line,
        column=error.column,
    )


@contextmanager
def _refusals_in_words() -> Iterator[None]:
    """Turn what the store refuses into the errors of the interface."""
    try:
        yield
    except SettingsError as error:
        raise VarlinkError(_problem(control.SettingsRefused, error), INTERFACE) from error
    except RevisionConflict as error:
        refused = control.RevisionConflict(expected=error.expected, actual=error.actual)
        raise VarlinkError(refused, INTERFACE) from error
    except RuleExists as error:
        path, numa = error.place
        raise VarlinkError(control.RuleExists(path=path, numa=numa), INTERFACE) from error
    except NoSuchRule as error:
        path, numa = error.place
        raise VarlinkError(control.NoSuchRule(path=path, numa=numa), INTERFACE) from error


def _in_words(error: VarlinkError) -> str:
    return str(error.__cause__ or getattr(error.error, "why", error))
