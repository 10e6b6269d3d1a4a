"""Calls over Varlink on a blocking socket.

A frame is one JSON object and a NUL. Source: varlink.org, "Protocol"
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import asdict

from memreact_schemas.varlink import Reply
from memreact_tools.deadline import Deadline
from memreact_tools.decoding import decoded

__all__ = ["BrokenConnection", "Refused", "call", "stream_of"]

_CHUNK = 1 << 16
_FRAME_BYTES_MAX = 64 << 20  # a status of every cgroup that a guest can have is far smaller


class Refused(Exception):  # noqa: N818  # reads as what happened
    """The service answered with an error.

    Args:
        name: The error's full name.
        parameters: What it says, as it came.
    """

    def __init__(self, name: str, parameters: Raw) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = parameters


class BrokenConnection(Exception):  # noqa: N818  # reads as what happened
    """The other side stopped in the middle, or what it said is no Varlink."""


class _Call(Struct, omit_defaults=True):
    method: str
    parameters: object = None
    more: bool = False


def call(stream: socket.socket, method: str, parameters: Struct | None = None) -> Raw:
    """Call a method and return the parameters of its one answer, as they came.

    The stream's time-out is for all of it, not for each piece that arrives.

    Raises:
        Refused: The service said no.
        BrokenConnection: There was no answer that can be read.
        OSError: The connection broke, or the time-out of the stream passed.
    """
    deadline = Deadline(stream.gettimeout())
    _send(stream, _Call(method, _said(parameters)))
    return _checked(next(_replies(stream, deadline)))


def stream_of(
    stream: socket.socket,
    method: str,
    parameters: Struct | None = None,
    *,
    seconds: float | None = None,
) -> Iterator[Raw]:
    """Call a method with `more` and yield the parameters of each answer, as they came.

    Args:
        stream: Connected.
        method: With its interface.
        parameters: Of the call.
        seconds: For all of it; None is for ever, since a stream may be silent for long.

    Raises:
        Refused: The service said no.
        BrokenConnection: An answer cannot be read, or the answers ended without the last one.
        OSError: The connection broke.
    """
    deadline = Deadline(seconds)
    _send(stream, _Call(method, _said(parameters), more=True))
    for reply in _replies(stream, deadline):
        yield _checked(reply)
        if not reply.continues:
            return


def _said(parameters: Struct | None) -> dict[str, object] | None:
    """What is asked, without what is left open: an older guest does not know all of it."""
    if parameters is None:
        return None
    return {key: value for key, value in asdict(parameters).items() if value is not None}


def _send(stream: socket.socket, request: _Call) -> None:
    try:
        stream.sendall(msgspec.json.encode(request) + b"\0")
    except BrokenPipeError as error:  # which means our own output, higher up
        raise BrokenConnection("the connection ended before the call was sent") from error


def _replies(stream: socket.socket, deadline: Deadline) -> Iterator[Reply]:
    """Yield answers until the connection ends, which is always too early."""
    held = bytearray()
    looked_through = 0
    while True:
        end = held.find(b"\0", looked_through)
        if end >= 0:
            yield _decoded(bytes(held[:end]))
            del held[: end + 1]
            looked_through = 0
            continue
        looked_through = len(held)
        chunk = deadline.receive(stream, _CHUNK)
        if not chunk:
            raise BrokenConnection("the connection ended before the answer did")
        held += chunk
        if len(held) > _FRAME_BYTES_MAX:
            raise BrokenConnection(f"an answer is over {_FRAME_BYTES_MAX >> 20} MiB")


def _decoded(frame: bytes) -> Reply:
    try:
        frame.decode()  # the parameters stay as they came, and msgspec does not look into those
        return decoded(frame, Reply)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BrokenConnection(f"the answer is no Varlink: {error}") from error


def _checked(reply: Reply) -> Raw:
    parameters = Raw(b"{}") if bytes(reply.parameters) == b"null" else reply.parameters
    if reply.error is not None:
        raise Refused(reply.error, parameters)
    return parameters
