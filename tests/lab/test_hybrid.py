"""The bridge and its relay, back to back: what is a guest's vsock there are unix sockets here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.hybrid import monitor
from lab.workloads.relay import relay

ECHO, SILENT, GREETS, NOBODY = 1050, 1051, 1052, 7
MUCH = bytes(range(256)) * (4 << 10)  # four windows
PATIENCE_S = 30

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give everything back, and end when the client does."""
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()


async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read nothing, for as long as the test runs."""
    await asyncio.Event().wait()


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say something and end, whatever the client says."""
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b""


class Served:
    """Services on unix sockets of one folder, named as ports are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self, name: str, serve: Serve) -> None:
        """Serve whoever connects."""

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except OSError:  # they are gone
                pass
            finally:
                writer.close()

        server = await asyncio.start_unix_server(
            lambda *ends: self._tasks.add(asyncio.create_task(one(*ends))), self._folder / name
        )
        self._servers.append(server)

    async def connect(self, port: int) -> socket.socket:
        """Connect to one, as a relay does."""
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(0)
        try:
            path = str(self._folder / str(port))
            await asyncio.get_running_loop().sock_connect(stream, path)
        except OSError:
            stream.close()
            raise
        return stream

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the guest's end of a bridge."""
        await relay(reader, writer, self.connect)

    async def close(self) -> None:
        """End all of them."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def bridged(folder: Path) -> AsyncIterator[str]:
    """Serve all ports behind a bridge, and give its socket's path."""
    served = Served(folder)
    for port, serve in ((ECHO, echo), (SILENT, silent), (GREETS, greets)):
        await served.listen(str(port), serve)
    await served.listen("carrier", served.relay)
    listening = asyncio.Event()
    bridge = asyncio.create_task(monitor(folder / "vm", folder / "carrier", listening.set))
    try:
        await listening.wait()
        yield str(folder / "vm")
    finally:
        bridge.cancel()
        await asyncio.gather(bridge, return_exceptions=True)
        await served.close()


async def opened(path: str, line: bytes) -> tuple[bytes, Ends]:
    """Connect and say a line; returns the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    async with asyncio.timeout(PATIENCE_S):
        return await reader.readline(), (reader, writer)


async def dialled(path: str, port: int) -> Ends:
    """Connect to a port where somebody listens."""
    answer, ends = await opened(path, b"CONNECT %d\n" % port)
    assert answer.startswith(b"OK ")
    return ends


async def exchanged(ends: Ends, data: bytes) -> bytes:
    """Say all of it and end; returns what comes back until the other side ends too."""
    reader, writer = ends

    async def say() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with asyncio.timeout(PATIENCE_S):
        _, answer = await asyncio.gather(say(), reader.read())
    writer.close()
    return answer


@pytest.mark.asyncio
async def test_bytes_flow_both_ways_and_an_end_is_passed_on(tmp_path: Path) -> None:
    async with bridged(tmp_path) as path:
        assert await exchanged(await dialled(path, ECHO), MUCH) == MUCH


@pytest.mark.asyncio
async def test_many_clients_at_once_are_kept_apart(tmp_path: Path) -> None:
    said = [bytes([n]) * 100_000 for n in range(20)]
    async with bridged(tmp_path) as path:
        ends = [await dialled(path, ECHO) for _ in said]
        assert await asyncio.gather(*map(exchanged, ends, said)) == said


@pytest.mark.asyncio
async def test_a_stream_that_nobody_reads_stands_still_alone(tmp_path: Path) -> None:
    async with bridged(tmp_path) as path:
        _, stuck = await dialled(path, SILENT)
        stuck.write(MUCH * 4)
        assert await exchanged(await dialled(path, ECHO), MUCH) == MUCH
        assert stuck.transport.get_write_buffer_size() > 0
        stuck.transport.abort()


@pytest.mark.asyncio
async def test_what_a_guest_says_before_it_is_asked_comes_after_the_answer(tmp_path: Path) -> None:
    async with bridged(tmp_path) as path:
        assert await exchanged(await dialled(path, GREETS), b"") == b"hello"


@pytest.mark.parametrize(
    "line",
    [b"CONNECT %d\n" % NOBODY, b"CONNECT\n", b"CONNECT -1\n", b"CONNECT 4294967296\n", b"\n"],
)
@pytest.mark.asyncio
async def test_where_nobody_listens_the_connection_is_closed(tmp_path: Path, line: bytes) -> None:
    async with bridged(tmp_path) as path:
        answer, (_, writer) = await opened(path, line)
        assert answer == b""
        writer.close()
        assert await exchanged(await dialled(path, ECHO), b"next") == b"next"


@pytest.mark.asyncio
async def test_a_client_that_is_gone_in_mid_stream_leaves_the_others(tmp_path: Path) -> None:
    async with bridged(tmp_path) as path:
        reader, writer = await dialled(path, ECHO)
        writer.write(MUCH)
        await reader.readexactly(1000)
        writer.transport.abort()
        assert await exchanged(await dialled(path, ECHO), MUCH) == MUCH
