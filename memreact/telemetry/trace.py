"""Every event with the step that it led to, one JSON object a line; off unless asked for."""

from __future__ import annotations

import os

import msgspec

from memreact.actions import Action, Decision
from memreact.events import Event, Instant
from memreact.policy.state import Step

__all__ = ["Entry", "Trace"]


class Entry(msgspec.Struct, frozen=True):
    """One line."""

    at: Instant
    event: Event
    actions: tuple[Action, ...] = ()
    decisions: tuple[Decision, ...] = ()


class Trace:
    """Appends to a file; each line is written at once, so that a reader can follow.

    Args:
        path: The file; it is made if it is not there.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._encoder = msgspec.json.Encoder()

    def add(self, at: Instant, event: Event, made: Step) -> None:
        """Write one line."""
        entry = Entry(at, event, made.actions, made.decisions)
        os.write(self._fd, self._encoder.encode(entry) + b"\n")
