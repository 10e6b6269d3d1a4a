"""Both ends of a ttRPC connection: an agent that keeps what it was told, and a caller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from memreact.control.peer import Peer
from memreact.control.ttrpc import ttrpc_protocol
from memreact.control.ttrpc_frames import REQUEST, Frame, Framer, framed
from memreact_schemas.agent import REQUEST as REQUEST_TABLE
from memreact_schemas.agent import RESPONSE as RESPONSE_TABLE
from memreact_schemas.agent import Request, Response
from memreact_schemas.config import Compact, Memcg
from memreact_schemas.protobuf import decode, encode

__all__ = ["AGENT", "HEALTH", "HOST", "Agent", "Caller", "Refusals", "call", "calling"]

AGENT, HEALTH = "grpc.AgentService", "grpc.Health"
HOST = Peer("host", may_read=True, may_write=True)
PATIENCE_S = 45  # bounds a failure; nothing waits for it when all is well


@dataclass
class Agent:
    """Keeps what it was told, or raises what it is given."""

    error: Exception | None = None
    seen: list[Memcg | Compact] = field(default_factory=list)
    swaps: list[str] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    def set_memcg(self, keys: Memcg, peer: Peer) -> None:  # noqa: ARG002  # who asks is not kept
        """Take them."""
        self._take(keys)

    def set_compact(self, keys: Compact, peer: Peer) -> None:  # noqa: ARG002  # who asks is not kept
        """Take them."""
        self._take(keys)

    async def add_swap(self, pci_path: str, peer: Peer) -> None:  # noqa: ARG002  # who asks is not kept
        """Wait until it may end."""
        await self._swap(pci_path)

    async def add_swap_path(self, path: str, peer: Peer) -> None:  # noqa: ARG002  # who asks is not kept
        """Wait until it may end."""
        await self._swap(path)

    async def _swap(self, which: str) -> None:
        self.swaps.append(which)
        try:
            await self.may_end.wait()
            if self.error:
                raise self.error
        finally:
            self.ended.append(which)

    def _take(self, keys: Memcg | Compact) -> None:
        if self.error:
            raise self.error
        self.seen.append(keys)


@dataclass
class Refusals:
    """An audit that keeps its lines."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, peer: Peer, verb: str, why: str) -> None:
        """Keep one."""
        self.lines.append((peer.name, verb, why))


def call(
    method: str,
    payload: bytes = b"",
    *,
    service: str = AGENT,
    stream: int = 1,
    timeout_nano: int = 0,
) -> bytes:
    """The frame of a call."""
    request = Request(service=service, method=method, payload=payload, timeout_nano=timeout_nano)
    return framed(stream, REQUEST, encode(REQUEST_TABLE, request))


@dataclass
class Caller:
    """The other end of a connection."""

    socket: socket.socket
    _framer: Framer = field(default_factory=Framer)
    _frames: list[Frame] = field(default_factory=list)

    async def sends(self, data: bytes) -> None:
        """Send bytes."""
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_sendall(self.socket, data), PATIENCE_S)

    async def receives(self) -> bytes:
        """Receive some bytes; none when the connection has ended."""
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self.socket, 1 << 16), PATIENCE_S)

    async def receives_all(self) -> bytes:
        """Receive until the connection ends."""
        got = b""
        with suppress(ConnectionResetError):
            while some := await self.receives():
                got += some
        return got

    async def next_frame(self) -> Frame:
        """Receive one frame."""
        while not self._frames:
            some = await self.receives()
            assert some, "the connection ended"
            self._frames.extend(self._framer.feed(some))
        return self._frames.pop(0)

    async def next_answer(self) -> Response:
        """Receive one answer."""
        return decode(RESPONSE_TABLE, (await self.next_frame()).body)

    async def calls(self, data: bytes) -> Response:
        """Send a call and receive its answer."""
        await self.sends(data)
        return await self.next_answer()


@asynccontextmanager
async def calling(
    agent: Agent,
    peer: Peer = HOST,
    audit: Callable[[Peer, str, str], None] | None = None,
    *,
    unread_secs: float = PATIENCE_S,
) -> AsyncIterator[Caller]:
    """Connect a caller to an agent; an exception that nobody caught fails the test at the end."""
    loop = asyncio.get_running_loop()
    uncaught: list[object] = []
    loop.set_exception_handler(lambda _, context: uncaught.append(context))
    served, ours = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003  # socket's own signature
    served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    protocol = ttrpc_protocol(agent, peer, audit or Refusals(), unread_secs=unread_secs)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, served)
    try:
        yield Caller(ours)
    finally:
        transport.abort()
        ours.close()
        await asyncio.sleep(0)  # a turn of the loop, in which the transport ends
    assert not uncaught
