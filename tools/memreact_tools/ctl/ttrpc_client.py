"""Calls over ttRPC on a blocking socket, as Kata's own client makes them.

A frame is ten bytes, big endian: length of the payload, stream, type, flags; then the payload.
Source: containerd's ttrpc, PROTOCOL.md
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from memreact_schemas.agent import REQUEST, RESPONSE, KeyValue, Request
from memreact_schemas.protobuf import ProtobufError, decode, encode
from memreact_tools.deadline import Deadline

__all__ = ["BrokenConnection", "CallFailed", "Client"]

_HEADER = struct.Struct(">IIBB")
_REQUEST, _RESPONSE = 1, 2
_PAYLOAD_BYTES_MAX = 4 << 20

_CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}


class CallFailed(Exception):  # noqa: N818  # reads as what happened
    """The service answered with another code than OK."""

    def __init__(self, code: int, message: str) -> None:
        self.name = _CODES.get(code, f"code {code}")
        super().__init__(f"{self.name}: {message}")
        self.code = code


class BrokenConnection(Exception):  # noqa: N818  # reads as what happened
    """The other side stopped in the middle, or what it said is no ttRPC."""


class _Frame(NamedTuple):
    stream: int
    kind: int
    payload: bytes


class Client:
    """One connection; calls are made one after the other.

    Args:
        stream: Connected; stays the caller's to close. Its time-out is what each call may take,
            however small the pieces in which the answer comes.
        timeout_ns: Nanoseconds that the service is told it has for a call; 0 means for ever.
        metadata: Sent with every call.
    """

    def __init__(
        self, stream: socket.socket, *, timeout_ns: int = 0, metadata: tuple[KeyValue, ...] = ()
    ) -> None:
        self._stream = stream
        self._timeout_ns = timeout_ns
        self._metadata = metadata
        self._patience_s = stream.gettimeout()
        self._next = 1  # a client's streams are odd

    def call(self, service: str, method: str, payload: bytes) -> bytes:
        """Call a method and return its answer's own message.

        Raises:
            CallFailed: The service said no.
            BrokenConnection: There was no answer that can be read.
            OSError: The connection broke, or the time-out of the stream passed.
        """
        number, self._next = self._next, self._next + 2
        request = Request(
            service=service,
            method=method,
            payload=payload,
            timeout_nano=self._timeout_ns,
            metadata=self._metadata,
        )
        data = encode(REQUEST, request)
        deadline = Deadline(self._patience_s)
        self._stream.settimeout(self._patience_s)
        try:
            self._stream.sendall(_HEADER.pack(len(data), number, _REQUEST, 0) + data)
        except BrokenPipeError as error:  # which means our own output, higher up
            raise BrokenConnection("the connection ended before the call was sent") from error
        return _payload_of(self._answer_to(number, deadline))

    def _answer_to(self, number: int, deadline: Deadline) -> bytes:
        """Read frames until the answer of a stream; what belongs to others is passed over."""
        while True:
            frame = self._frame(deadline)
            if (frame.stream, frame.kind) == (number, _RESPONSE):
                return frame.payload

    def _frame(self, deadline: Deadline) -> _Frame:
        size, number, kind, _flags = _HEADER.unpack(self._exactly(_HEADER.size, deadline))
        if size > _PAYLOAD_BYTES_MAX:
            raise BrokenConnection(f"an answer of {size} bytes: that is no ttRPC")
        return _Frame(number, kind, self._exactly(size, deadline))

    def _exactly(self, size: int, deadline: Deadline) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = deadline.receive(self._stream, size - len(data))
            if not chunk:
                raise BrokenConnection("the connection ended before the answer did")
            data += chunk
        return bytes(data)


def _payload_of(data: bytes) -> bytes:
    try:
        response = decode(RESPONSE, data)
    except ProtobufError as error:
        raise BrokenConnection(f"the answer is no ttRPC: {error}") from error
    if response.status is not None and response.status.code != 0:
        raise CallFailed(response.status.code, response.status.message)
    return response.payload
