"""What speaks with callers, in Varlink and in ttRPC; loaded for the first of them."""

from __future__ import annotations

import asyncio

from memreact.control.audit import Audit
from memreact.control.guest import Guest, Swapper
from memreact.control.peer import Peer
from memreact.control.service import MemreactService
from memreact.control.sharing import Sharing
from memreact.control.store import SettingsStore
from memreact.control.ttrpc import ttrpc_protocol
from memreact.control.varlink import About, VarlinkProtocol
from memreact.swap_trouble import SwapTrouble
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact_schemas.config import Compact, Config, Memcg
from memreact_schemas.control import NotPossible

__all__ = ["Answering"]


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


class Answering:
    """Makes what serves each connection.

    Args:
        store: The settings.
        guest: What callers ask of the rest of the daemon.
        hub: Where decisions and status are followed.
        audit: Told of each change and each refusal.
        journal: Told of what a caller has no place to be told.
    """

    def __init__(
        self, store: SettingsStore, guest: Guest, hub: Hub, audit: Audit, journal: Journal
    ) -> None:
        self._audit = audit
        self._agent = _KataAgent(store, audit, journal, guest.swapper)
        self._sharing = Sharing()
        service = MemreactService(store, guest, hub, audit)
        self._services = {each.name: each for each in (About([service]), service)}

    def varlink(self, peer: Peer) -> asyncio.Protocol:
        """Serve a connection to io.memreact."""
        return VarlinkProtocol(self._services, peer, self._audit.refused, sharing=self._sharing)

    def ttrpc(self, peer: Peer) -> asyncio.Protocol:
        """Serve one of Kata's clients."""
        return ttrpc_protocol(self._agent, peer, self._audit.refused)
