"""One JSON object a line over a unix socket, as QMP and the guest agent speak it."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from lab.errors import DeadlinePassed, GuestLost, LabError

__all__ = ["Channel", "Refusal"]

_T = TypeVar("_T")
_BLOCK = 1 << 20


class Refusal(LabError):  # noqa: N818  # says what happened
    """The other side answered with an error."""


class _Error(msgspec.Struct):
    desc: str
    class_: str = msgspec.field(name="class", default="")


class _Reply(msgspec.Struct):
    return_: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="return", default=msgspec.UNSET)
    error: _Error | None = None


class Channel:
    """A client's end; one request at a time, every wait with a deadline.

    Args:
        path: The socket; connected at once.
        connect_s: Seconds to try for: QEMU makes the socket a moment after it starts.
    """

    def __init__(self, path: str, *, connect_s: float = 10) -> None:
        self._path = path
        self._rest = b""
        self._socket = _connect(path, time.monotonic() + connect_s)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def send(self, execute: str, arguments: Mapping[str, object] | None = None) -> None:
        """Send a request without waiting for its reply."""
        request: dict[str, object] = {"execute": execute}
        if arguments:
            request["arguments"] = arguments
        self.send_bytes(msgspec.json.encode(request) + b"\n")

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            GuestLost: The other side hung up.
        """
        try:
            self._socket.settimeout(30)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise DeadlinePassed(f"{self._path}: nobody reads") from error
        except OSError as error:
            raise GuestLost(f"{self._path}: {error}") from error

    def call(
        self,
        execute: str,
        arguments: Mapping[str, object] | None = None,
        *,
        reply: type[_T],
        timeout_s: float = 30,
    ) -> _T:
        """Send a request and return its reply, decoded as `reply`; events between are dropped.

        Raises:
            Refusal: The other side answered with an error.
            DeadlinePassed: No answer within timeout_s.
            GuestLost: The other side hung up.
        """
        self.send(execute, arguments)
        deadline = time.monotonic() + timeout_s
        while True:
            answer = msgspec.json.decode(self.line(deadline), type=_Reply)
            if answer.error:
                raise Refusal(f"{execute}: {answer.error.desc}")
            if answer.return_ is not msgspec.UNSET:
                return msgspec.json.decode(answer.return_, type=reply)

    def line(self, deadline: float) -> bytes:
        """Next line that is not empty, without the 0xff by which the agent marks a sync.

        Args:
            deadline: On time.monotonic().
        """
        while True:
            head, newline, tail = self._rest.partition(b"\n")
            if newline:
                self._rest = tail
                if line := head.rpartition(b"\xff")[2].strip():
                    return line
            else:
                self._rest += self._receive(deadline)

    def _receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        try:
            self._socket.settimeout(max(left, 0.001))
            block = self._socket.recv(_BLOCK)
        except TimeoutError as error:
            raise DeadlinePassed(f"{self._path}: no answer") from error
        except OSError as error:
            raise GuestLost(f"{self._path}: {error}") from error
        if not block:
            raise GuestLost(f"{self._path}: closed by the other side")
        return block


def _connect(path: str, deadline: float) -> socket.socket:
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                raise GuestLost(f"{path}: {error}") from error
            time.sleep(0.05)
        else:
            return connection
