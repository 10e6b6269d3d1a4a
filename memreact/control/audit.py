"""One line in the journal for each change and each refusal: who, what, from what, to what."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from memreact.control.peer import Peer
from memreact.control.store import Change, ChangedKey
from memreact.events import Instant
from memreact.telemetry.journal import Journal

__all__ = ["Audit", "as_json"]

_REFUSALS_MAX = 20  # lines in one window: whoever is refused can ask again at no cost
_WINDOW_US = 10_000_000
_SHOWN_KEYS_MAX = 32
_SHOWN_MAX = 500  # characters of what a peer said


class Audit:
    """Tells of what was changed and what was refused.

    Refusals that come too fast are counted, and told with the next one that is shown.

    Args:
        journal: One of its own, so that no setting can silence it.
        clock: Reads the moment.
    """

    def __init__(self, journal: Journal, clock: Callable[[], Instant]) -> None:
        self._journal = journal
        self._clock = clock
        self._window_ends = Instant(0)
        self._left = _REFUSALS_MAX
        self._unsaid = 0

    def changed(self, peer: Peer, verb: str, change: Change) -> None:
        """Tell of a change of settings, if it was one."""
        if not change.changed:
            return
        shown = change.changed[:_SHOWN_KEYS_MAX]
        said: dict[str, object] = {"revision": change.revision, "keys": len(change.changed)}
        said["from"] = " ".join(_pair(each, each.before) for each in shown)
        said["to"] = " ".join(_pair(each, each.after) for each in shown)
        self._journal.say("notice", "changed", peer=peer.name, verb=verb, **said)

    def asked(self, peer: Peer, verb: str, **what: object) -> None:
        """Tell of something that was done and is no setting."""
        shown = {key: str(value)[:_SHOWN_MAX] for key, value in what.items()}
        self._journal.say("notice", "asked", peer=peer.name, verb=verb, **shown)

    def refused(self, peer: Peer, verb: str, why: str) -> None:
        """Tell of a call, or a connection, that was refused."""
        now = self._clock()
        if now >= self._window_ends:
            self._window_ends = Instant(now + _WINDOW_US)
            self._left = _REFUSALS_MAX
        if not self._left:
            self._unsaid += 1
            return
        self._left -= 1
        also = {"also": self._unsaid} if self._unsaid else {}
        self._unsaid = 0
        verb, why = verb[:_SHOWN_MAX], why[:_SHOWN_MAX]
        self._journal.say("warning", "refused", peer=peer.name, verb=verb, because=why, **also)


def as_json(value: object) -> str | None:
    """Write a setting's value as JSON; None where nobody says it."""
    return None if value is None else msgspec.json.encode(value).decode()


def _pair(key: ChangedKey, value: object) -> str:
    return f"{key.key}={as_json(value) or 'unset'}"
