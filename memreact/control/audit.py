"""One line in the journal for each change and each refusal: who, what, from what, to what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from memreact.control.peer import Peer
from memreact.control.store import Change, ChangedKey
from memreact.events import Instant
from memreact.telemetry.journal import Journal

__all__ = ["Audit", "as_json"]

_REFUSALS_MAX = 20  # lines in one window: whoever is refused can ask again at no cost
_WINDOW_US = 10_000_000
_PEERS_MAX = 64  # with a budget of their own; all others share one
_OTHERS = "others"
_EARLY_US = 1000  # a loop that counts in milliseconds may be that much too soon
_SHOWN_KEYS_MAX = 32
_SHOWN_MAX = 500  # characters of what a peer said
_PAIRS_MAX = 4000  # characters of all that changed: the journal cuts longer lines in two


class _Budget:
    """Lines that one peer's refusals may still have, and how many had none."""

    __slots__ = ("left", "unsaid", "window_ends")

    def __init__(self) -> None:
        self.window_ends = Instant(0)
        self.left = 0
        self.unsaid = 0


class Audit:
    """Tells of what was changed and what was refused.

    Refusals of one peer that come too fast are counted, and told with its next one that is shown,
    or else when its window is over: a flood of one hides nothing of another.

    Args:
        journal: One of its own, so that no setting can silence it.
        clock: Reads the moment.
        loop: Where the end of a window is waited for, while there is something to tell then;
            without one that is told with the next refusal or at the close.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], Instant],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._loop = loop
        self._waiting: asyncio.TimerHandle | None = None
        self._budgets: dict[str, _Budget] = {}

    def changed(self, peer: Peer, verb: str, change: Change) -> None:
        """Tell of a change of settings, if it was one."""
        if not change.changed:
            return
        shown = change.changed[:_SHOWN_KEYS_MAX]
        said: dict[str, object] = {"revision": change.revision, "keys": len(change.changed)}
        said["from"] = _cut(" ".join(_pair(each, each.before) for each in shown), _PAIRS_MAX)
        said["to"] = _cut(" ".join(_pair(each, each.after) for each in shown), _PAIRS_MAX)
        self._journal.say("notice", "changed", peer=peer.name, verb=verb, **said)

    def asked(self, peer: Peer, verb: str, **what: object) -> None:
        """Tell of something that was done and is no setting."""
        shown = {key: str(value)[:_SHOWN_MAX] for key, value in what.items()}
        self._journal.say("notice", "asked", peer=peer.name, verb=verb, **shown)

    def refused(self, peer: Peer, verb: str, why: str) -> None:
        """Tell of a call, or a connection, that was refused."""
        now = self._clock()
        budget = self._budget(peer.name, now)
        if now >= budget.window_ends:
            budget.window_ends = Instant(now + _WINDOW_US)
            budget.left = _REFUSALS_MAX
        if not budget.left:
            budget.unsaid += 1
            self._wait(now)
            return
        budget.left -= 1
        also = {"also": budget.unsaid} if budget.unsaid else {}
        budget.unsaid = 0
        verb, why = verb[:_SHOWN_MAX], why[:_SHOWN_MAX]
        self._journal.say("warning", "refused", peer=peer.name, verb=verb, because=why, **also)

    def close(self) -> None:
        """Tell of what was counted and not told yet, and wait no more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        for name in self._budgets:
            self._tell_counted(name)

    def _wait(self, now: Instant) -> None:
        """Wait for the first end of a window in which there is something to tell."""
        if self._loop is None or self._waiting is not None:
            return
        ends = [budget.window_ends for budget in self._budgets.values() if budget.unsaid]
        if ends:
            in_us = max(0, min(ends) - now) + _EARLY_US
            self._waiting = self._loop.call_later(in_us / 1_000_000, self._window_over)

    def _window_over(self) -> None:
        self._waiting = None
        now = self._clock()
        for name, budget in self._budgets.items():
            if now >= budget.window_ends:
                self._tell_counted(name)
        self._wait(now)

    def _tell_counted(self, name: str) -> None:
        budget = self._budgets[name]
        if budget.unsaid:
            self._journal.say("warning", "refused_more", peer=name, n=budget.unsaid)
            budget.unsaid = 0

    def _budget(self, name: str, now: Instant) -> _Budget:
        if name not in self._budgets and len(self._budgets) >= _PEERS_MAX:
            self._budgets = {
                known: budget
                for known, budget in self._budgets.items()
                if budget.unsaid or now < budget.window_ends
            }
        if name not in self._budgets and len(self._budgets) >= _PEERS_MAX:
            name = _OTHERS
        return self._budgets.setdefault(name, _Budget())


def as_json(value: object) -> str | None:
    """Write a setting's value as JSON; None where nobody says it."""
    return None if value is None else msgspec.json.encode(value).decode()


def _pair(key: ChangedKey, value: object) -> str:
    return _cut(f"{key.key}={as_json(value) or 'unset'}", _SHOWN_MAX)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
