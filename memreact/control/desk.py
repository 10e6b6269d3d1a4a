"""The desk where others change settings and look: the store, what serves them, their ways in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from kernelio.errors import KernelioError
from memreact.control.audit import Audit
from memreact.control.listening import Listening
from memreact.control.peer import Peer
from memreact.control.service import Guest, MemreactService
from memreact.control.sharing import Sharing
from memreact.control.store import Change, SettingsStore
from memreact.control.swapping import Swapper
from memreact.control.ttrpc import ttrpc_protocol
from memreact.control.varlink import About, VarlinkProtocol
from memreact.settings import SettingsError
from memreact.sources.config_files import ConfigFiles
from memreact.swap_trouble import SwapTrouble
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact_schemas.config import Compact, Config, Control, Memcg
from memreact_schemas.control import NotPossible

if TYPE_CHECKING:
    from memreact.control.scrape import Scrapes

__all__ = ["Desk"]

_FILES = Peer("settings files", may_read=True, may_write=True)


class _KataAgent:
    """The calls of Kata's agent that concern us, as pushes like any other."""

    def __init__(
        self, store: SettingsStore, audit: Audit, journal: Journal, swapper: Swapper | None
    ) -> None:
        self._store = store
        self._swapper = swapper
        self._audit = audit
        self._journal = journal

    def set_memcg(self, keys: Memcg, peer: Peer) -> None:
        """Put keys of `[memcg]` in force."""
        self._told(peer, "MemAgentMemcgSet", Config(memcg=keys))

    def set_compact(self, keys: Compact, peer: Peer) -> None:
        """Put keys of `[compact]` in force."""
        self._told(peer, "MemAgentCompactSet", Config(compact=keys))

    async def add_swap(self, pci_path: str, peer: Peer) -> None:
        """Take the disk at a PCI path into use as swap."""
        self._audit.asked(peer, "AddSwap", pci_path=pci_path)
        await self._disks().add_at(pci_path)

    async def add_swap_path(self, path: str, peer: Peer) -> None:
        """Take the disk that a path leads to into use as swap."""
        self._audit.asked(peer, "AddSwapPath", path=path)
        await self._disks().add_path(path)

    def _disks(self) -> Swapper:
        if self._swapper is None:
            why = "no disk is taken into use as swap here"
            raise SwapTrouble(NotPossible(why=why), why)
        return self._swapper

    def _told(self, peer: Peer, verb: str, patch: Config) -> None:
        change = self._store.patch(patch, by=peer.name)
        self._audit.changed(peer, verb, change)
        for note in change.notes:  # Kata's client has no place to be told
            self._journal.say("warning", "settings_note", note=note)


class Desk:
    """Whatever comes from outside: files that change, and calls.

    Args:
        folder: Where the unix sockets are.
        store: The settings.
        guest: What callers ask of the rest of the daemon.
        hub: Where decisions and status are followed.
        files: The settings files.
        audit: Told of each change and each refusal.
        journal: Told of trouble.
        metrics: Begins to write all metrics, in parts.
    """

    def __init__(  # noqa: PLR0913  # the parts come from outside, so that a test brings its own
        self,
        folder: str,
        *,
        store: SettingsStore,
        guest: Guest,
        hub: Hub,
        files: ConfigFiles,
        audit: Audit,
        journal: Journal,
        metrics: Callable[[], Iterator[str]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._files = files
        self._audit = audit
        self._journal = journal
        self._warned: tuple[str, ...] = ()
        self._metrics = metrics
        self._scrapes: Scrapes | None = None
        service = MemreactService(store, guest, hub, audit)
        services = {each.name: each for each in (About([service]), service)}
        sharing = Sharing()
        agent = _KataAgent(store, audit, journal, guest.swapper)
        self._listening = Listening(
            folder,
            varlink=lambda peer: VarlinkProtocol(services, peer, audit.refused, sharing=sharing),
            ttrpc=partial(ttrpc_protocol, agent, audit=audit.refused),
            metrics=self._scraped,
            audit=audit,
            journal=journal,
        )

    def _scraped(self, peer: Peer) -> asyncio.Protocol:
        from memreact.control.scrape import (  # noqa: PLC0415  # only where somebody asks
            ScrapeProtocol,
            Scrapes,
        )

        del peer  # whoever may connect may read
        if self._scrapes is None:
            self._scrapes = Scrapes(self._metrics)
        return ScrapeProtocol(self._scrapes)

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be listened on, and why."""
        return self._listening.problems

    def open(self) -> None:
        """Take calls, and watch the files, from now on."""
        self._listening.settle(self._store.settings.config.control)
        self._loop.add_reader(self._files.fileno(), self._files_changed)
        # Whatever changed between their reading and their being watched.
        self.reload()

    def settle(self, control: Control) -> None:
        """Take calls as the settings that are in force from now on say."""
        self._listening.settle(control)

    def reload(self) -> Change | None:
        """Read the files again; a bad one keeps what is in force, and None is returned."""
        self._listening.look_up_group()
        change = self._read_again()
        self._warn()
        return change

    def _read_again(self) -> Change | None:
        try:
            change = self._store.reload()
        except SettingsError as error:
            self._journal.say("error", "settings_refused", error=error)
            return None
        self._audit.changed(_FILES, "reload", change)
        for note in change.notes:
            self._journal.say("warning", "settings_note", note=note)
        return change

    def _warn(self) -> None:
        """Tell of what was passed over, once for as long as it is so."""
        warnings = self._store.settings.warnings
        for warning in warnings:
            if warning not in self._warned:
                self._journal.say("warning", "settings_warning", because=warning)
        self._warned = warnings

    def close(self) -> None:
        """Take no more calls."""
        self._loop.remove_reader(self._files.fileno())
        self._files.close()
        self._listening.close()
        self._audit.close()

    def _files_changed(self) -> None:
        try:
            changed = self._files.read()
        except KernelioError as error:
            # It would stay readable for ever.
            self._loop.remove_reader(self._files.fileno())
            self._journal.say("warning", "not_watched", what="settings files", error=error)
            return
        if changed:
            self.reload()
