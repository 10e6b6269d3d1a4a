"""A client that speaks bytes, and a server of one protocol at the other end of a socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from kernelio.vsock import as_unix

__all__ = ["Client", "call", "serve"]


def call(method: str, parameters: Mapping[str, object] | None = None, **flags: object) -> bytes:
    """Write a Varlink call."""
    message = {"method": method, "parameters": dict(parameters or {}), **flags}
    return msgspec.json.encode(message) + b"\0"


class Client:
    """Sends bytes and reads Varlink's messages.

    Args:
        stream: Connected to the server.
    """

    def __init__(self, stream: socket.socket) -> None:
        stream.settimeout(0)
        self.stream = stream
        self._loop = asyncio.get_running_loop()
        self._input = b""

    async def send(self, data: bytes) -> None:
        """Send all of it; a server that has left is noticed when it is read from."""
        try:
            await self._loop.sock_sendall(self.stream, data)
        except (BrokenPipeError, ConnectionResetError):
            return

    async def message(self) -> dict[str, Any] | None:
        """Read the next message; None where the server has left."""
        while b"\0" not in self._input:
            data = await self.some()
            if not data:
                assert self._input == b""
                return None
            self._input += data
        frame, _, self._input = self._input.partition(b"\0")
        found: dict[str, Any] = msgspec.json.decode(frame, type=dict[str, Any])
        return found

    async def some(self) -> bytes:
        """Read what there is; nothing where the server has left."""
        try:
            return await asyncio.wait_for(self._loop.sock_recv(self.stream, 1 << 16), 20)
        except ConnectionResetError:
            return b""

    async def ask(self, method: str, /, **parameters: object) -> dict[str, Any]:
        """Call, and return the answer's parameters."""
        await self.send(call(method, parameters))
        answer = await self.message()
        assert answer is not None
        assert "error" not in answer, answer
        found: dict[str, Any] = answer["parameters"]
        return found

    async def fail(self, method: str, /, **parameters: object) -> tuple[str, dict[str, Any]]:
        """Call, and return the error's name and parameters."""
        await self.send(call(method, parameters))
        answer = await self.message()
        assert answer is not None
        return answer["error"], answer.get("parameters", {})


@asynccontextmanager
async def serve(protocol: asyncio.Protocol) -> AsyncIterator[Client]:
    """Serve one connection; nothing may be left over as an error on the loop."""
    loop, wrong = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    ours, theirs = socket.socketpair()
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, as_unix(ours))
    with theirs:
        yield Client(theirs)
    if not transport.is_closing():
        transport.abort()
    await settled()
    assert wrong == []


async def settled() -> None:
    """Let the loop do what is to be done at once."""
    for _ in range(10):
        await asyncio.sleep(0)
