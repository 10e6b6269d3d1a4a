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
        self.failed: OSError | None = None

    def add(self, at: Instant, event: Event, made: Step) -> None:
        """Write one line; after one that could not be written there are no more."""
        if self.failed is not None:
            return
        try:
            os.write(self._fd, self._line(Entry(at, event, made.actions, made.decisions)) + b"\n")
        except OSError as error:
            self.failed = error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _line(self, entry: Entry) -> bytes:
        try:
            return self._encoder.encode(entry)
        except UnicodeEncodeError:  # a cgroup's name that is no text
            return self._encoder.encode(_as_text(msgspec.to_builtins(entry)))


def _as_text(value: object) -> object:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_as_text(key): _as_text(each) for key, each in value.items()}
        case list() | tuple():
            return [_as_text(each) for each in value]
    return value
