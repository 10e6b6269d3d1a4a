"""Reads a recording line by line, however large it is; what is wrong in it says in which line.

The daemon imports none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import msgspec

from memreact_schemas.trace import FORMAT, LINE_BYTES_MAX, VERSION, End, Header, Line

__all__ = [
    "CutOff",
    "ForeignLine",
    "NewerVersion",
    "NotARecording",
    "RecordingError",
    "opened",
    "read_lines",
]

_GZIP = b"\x1f\x8b"
_SHOWN_MAX = 60  # bytes of a foreign line


class RecordingError(Exception):
    """A recording cannot be read on.

    Args:
        line: Which one, from 1.
        why: What was there, and what was expected.
    """

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


class NotARecording(RecordingError):  # noqa: N818  # reads as what happened
    """The first line is no header of a recording."""


class NewerVersion(RecordingError):  # noqa: N818  # reads as what happened
    """A later memreact wrote it, in a form that is not known here."""


class ForeignLine(RecordingError):  # noqa: N818  # reads as what happened
    """A line is no line of a recording."""


class CutOff(RecordingError):  # noqa: N818  # reads as what happened
    """It ends in the middle; all that came before was read."""


class Lines(Protocol):
    """What lines are read from."""

    def readline(self, limit: int, /) -> bytes:
        """Read a line with its end, or its first bytes where it is longer; b"" at the end."""


def read_lines(file: Lines) -> Iterator[tuple[int, Line]]:
    """Yield each line with its number; one is in memory at a time.

    Raises:
        NotARecording: It does not begin as one.
        NewerVersion: It is of a later version.
        ForeignLine: Something else is in it.
        CutOff: It has no end.
    """
    number, ended = 0, False
    decoder = msgspec.json.Decoder(Line)
    while raw := _next(file, number + 1):
        number += 1
        if not raw.endswith(b"\n"):
            raise _no_line_end(number, raw)
        line = _header(raw) if number == 1 else _decoded(decoder, raw, number)
        if isinstance(line, Header):
            _check_version(line, number)
        elif ended:
            raise ForeignLine(number, "after the end only another header may come")
        ended = isinstance(line, End)
        yield number, line
    if not number:
        raise NotARecording(1, "it is empty")
    if not ended:
        raise CutOff(number, "the recording was cut off after it")


@contextmanager
def opened(path: str) -> Iterator[Lines]:
    """Open a recording, plain or compressed by gzip, for `read_lines`.

    Raises:
        OSError: It cannot be opened.
    """
    with open(path, "rb") as file:
        if file.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
            yield file
            return
        import gzip  # noqa: PLC0415  # seldom

        with gzip.open(file) as unpacked:
            yield cast("Lines", unpacked)


def _next(file: Lines, number: int) -> bytes:
    import zlib  # noqa: PLC0415  # for its error alone

    try:
        return file.readline(LINE_BYTES_MAX + 1)
    except EOFError as error:
        raise CutOff(number, "the recording was cut off in it") from error
    except (OSError, zlib.error) as error:
        raise ForeignLine(number, f"it cannot be read: {error}") from error


def _no_line_end(number: int, raw: bytes) -> RecordingError:
    if len(raw) > LINE_BYTES_MAX:
        kind = NotARecording if number == 1 else ForeignLine
        return kind(number, f"it is longer than {LINE_BYTES_MAX >> 20} MiB")
    if number == 1:
        return NotARecording(number, f"Expected a header of {FORMAT}, got {_shown(raw)}")
    return CutOff(number, "the recording was cut off in it")


class _Any(msgspec.Struct):
    """What every header has, whatever its version."""

    format: str
    version: int
    memreact: str = "?"


def _header(raw: bytes) -> Header:
    try:
        found = msgspec.json.decode(raw, type=_Any)
    except _NO_JSON as error:
        raise NotARecording(1, f"Expected a header of {FORMAT}, got {_shown(raw)}") from error
    if found.format != FORMAT:
        raise NotARecording(1, f"Expected a header of {FORMAT}, got one of {found.format[:60]!r}")
    _check_version(found, 1)
    try:
        return msgspec.json.decode(raw, type=Header)
    except _NO_JSON as error:
        raise NotARecording(1, f"its header: {error}") from error


def _check_version(header: Header | _Any, number: int) -> None:
    if header.version > VERSION:
        text = f"it is of version {header.version}, by memreact {header.memreact[:60]}"
        raise NewerVersion(number, f"{text}; known here is {VERSION}")


def _decoded(decoder: msgspec.json.Decoder[Line], raw: bytes, number: int) -> Line:
    try:
        raw.decode()  # events stay as they came, and msgspec does not look into those
        return decoder.decode(raw)
    except _NO_JSON as error:
        raise ForeignLine(number, f"{error}, in {_shown(raw)}") from error


def _shown(raw: bytes) -> str:
    return repr(raw[:_SHOWN_MAX])[1:]


# What msgspec raises for what is no JSON, or JSON of another shape.
_NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
