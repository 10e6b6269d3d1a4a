"""Calls to the daemon over vsock's loop-back, stamped just before their bytes are sent.

A call is put together before, so that its time is that of the way there and of the daemon.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from lab.workloads.lines import monotonic_us
from memreact_schemas import agent
from memreact_schemas.protobuf import decode, encode

__all__ = ["KataCall", "Sent", "VarlinkCall", "connected"]

_AF_VSOCK = 40  # <linux/socket.h>; a Python that was built without vsock lacks the name
_CID_LOCAL = 1
_PATIENCE_S = 30.0
_CHUNK = 1 << 16
_HEADER = struct.Struct(">IIBB")
_REQUEST = 1


class Sent(NamedTuple):
    """When a call was sent, and how many microseconds later it was answered."""

    at_us: int
    answered_us: int


class VarlinkCall:
    """A connection to io.memreact.

    Args:
        stream: Connected, as by `connected`.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream

    def __call__(self, method: str, parameters: Mapping[str, object] | None = None) -> Sent:
        """Call a method, and wait for its answer.

        Raises:
            ValueError: It was refused.
        """
        call = {"method": f"io.memreact.{method}", "parameters": parameters or {}}
        frame = json.dumps(call).encode() + b"\0"
        sent_us = monotonic_us()
        self._stream.sendall(frame)
        answer = b""
        while not answer.endswith(b"\0"):
            answer += _received(self._stream, _CHUNK)
        answered_us = monotonic_us() - sent_us
        if "error" in json.loads(answer[:-1]):
            raise ValueError(answer.decode())
        return Sent(sent_us, answered_us)


class KataCall:
    """A connection of Kata's client that disables memcg each time it is called.

    Args:
        stream: Connected, as by `connected`.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._number = 1  # a client's streams are odd

    def __call__(self) -> Sent:
        """Call it, and wait for its answer.

        Raises:
            ValueError: It was refused.
        """
        frame, self._number = _disabling(self._number), self._number + 2
        sent_us = monotonic_us()
        self._stream.sendall(frame)
        length, *_ = _HEADER.unpack(self._exactly(_HEADER.size))
        body = self._exactly(length)
        answered_us = monotonic_us() - sent_us
        status = decode(agent.RESPONSE, body).status
        if status is not None and status.code:
            raise ValueError(status.message)
        return Sent(sent_us, answered_us)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += _received(self._stream, size - len(data))
        return data


def _disabling(stream: int) -> bytes:
    """MemAgentMemcgSet with `disabled`, as Kata's client sends it."""
    keys = agent.MemAgentMemcgConfig(disabled=True)
    request = agent.Request(
        service="grpc.AgentService",
        method="MemAgentMemcgSet",
        payload=encode(agent.MEMCG_CONFIG, keys),
    )
    body = encode(agent.REQUEST, request)
    return _HEADER.pack(len(body), stream, _REQUEST, 0) + body


def connected(port: int) -> socket.socket:
    """A connection to a port of this guest."""
    stream = socket.socket(_AF_VSOCK, socket.SOCK_STREAM)
    stream.settimeout(_PATIENCE_S)
    stream.connect((_CID_LOCAL, port))
    return stream


def _received(stream: socket.socket, size: int) -> bytes:
    """Bytes that came.

    Raises:
        ConnectionError: The daemon hung up, as it does on whom it does not serve.
    """
    data = stream.recv(size)
    if not data:
        raise ConnectionError("the daemon hung up: does [control] allow_guest?")
    return data
