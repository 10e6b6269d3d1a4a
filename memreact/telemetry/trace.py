"""Every event with the step that it led to, one JSON object a line; in a file where asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from memreact.actions import Action, Decision
from memreact.events import Event, Instant

__all__ = ["Entry", "Trace", "encoded", "entries_in"]


class Entry(
    msgspec.Struct, frozen=True, tag="step", tag_field="line", omit_defaults=True, gc=False
):
    """One step as the daemon writes it; `memreact_schemas.trace.Stepped` as others read it."""

    at: Instant
    event: Event
    actions: tuple[Action, ...] = ()
    decisions: tuple[Decision, ...] = ()
    wake_at: Instant | None = None


class Trace:
    """Appends lines to a file, each at once, so that a reader can follow.

    Args:
        path: The file; it is made if it is not there.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self.failed: OSError | None = None

    def add(self, line: bytes) -> None:
        """Write a whole line; after one that could not be written there are no more."""
        if self.failed is not None:
            return
        try:
            os.write(self._fd, line)
        except OSError as error:
            self.failed = error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


_ENCODER = msgspec.json.Encoder()


def encoded(value: object, encoder: msgspec.json.Encoder = _ENCODER) -> bytes:
    """Write a value as JSON; a cgroup's name that is no text is written with escapes."""
    try:
        return encoder.encode(value)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=encoder.enc_hook)
        return encoder.encode(_as_text(plain))


def _as_text(value: object) -> object:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_as_text(key): _as_text(each) for key, each in value.items()}
        case list() | tuple():
            return [_as_text(each) for each in value]
    return value


def entries_in(lines: bytes) -> Iterator[Entry]:
    """Yield the steps of whole lines, and pass over all other kinds of lines."""
    for line in lines.splitlines():
        if line.startswith(_STEP):
            yield _DECODER.decode(line)


_STEP = b'{"line":"step"'
_DECODER = msgspec.json.Decoder(Entry)
