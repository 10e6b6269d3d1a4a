"""The desk where others change settings and look: the store, what serves them, their ways in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kernelio.errors import KernelioError
from memreact.control.audit import Audit
from memreact.control.guest import Guest
from memreact.control.listening import Listening
from memreact.control.peer import Peer
from memreact.control.store import Change, SettingsStore
from memreact.settings.errors import SettingsError
from memreact.sources.config_files import ConfigFiles
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact_schemas.config import Control

if TYPE_CHECKING:
    from memreact.control.answering import Answering
    from memreact.control.scrape import Scrapes

__all__ = ["Desk"]

_FILES = Peer("settings files", may_read=True, may_write=True)


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
        self._guest = guest
        self._hub = hub
        self._answering: Answering | None = None
        self._listening = Listening(
            folder,
            varlink=lambda peer: self._answers().varlink(peer),
            ttrpc=lambda peer: self._answers().ttrpc(peer),
            metrics=self._scraped,
            audit=audit,
            journal=journal,
        )

    def _answers(self) -> Answering:
        """What speaks with callers, loaded for the first one (docs/decisions/0022)."""
        from memreact.control.answering import Answering  # noqa: PLC0415

        if self._answering is None:
            self._answering = Answering(
                self._store, self._guest, self._hub, self._audit, self._journal
            )
        return self._answering

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
