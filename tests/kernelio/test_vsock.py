"""AF_VSOCK as far as a machine without a host can show it; guests show the rest."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import cast

import pytest

from kernelio import vsock
from kernelio.errors import Refused, Unsupported


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._transport.write(data)


class Listener:
    """Accepts one stream, as a vsock listener does."""

    def __init__(self, stream: socket.socket, cid: int, port: int) -> None:
        self._accepted = stream, (cid, port)

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        """Give the stream, and whose it is."""
        return self._accepted


@pytest.mark.asyncio
async def test_an_accepted_stream_is_one_that_the_loop_takes() -> None:
    ours, theirs = socket.socketpair()
    stream, cid, port = vsock.accept(Listener(ours, vsock.CID_HOST, 4242))  # type: ignore[arg-type]
    assert (cid, port) == (2, 4242)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(Echo, stream)
    theirs.settimeout(0)
    sending = loop.create_task(loop.sock_sendall(theirs, b"x" * 100_000))
    received = b""
    while len(received) < 100_000:
        received += await loop.sock_recv(theirs, 65536)
    assert received == b"x" * 100_000
    await sending
    transport.close()
    assert await loop.sock_recv(theirs, 1) == b""
    theirs.close()


def test_a_stream_is_handed_on_once() -> None:
    ours, theirs = socket.socketpair()
    with theirs, vsock.as_unix(ours) as stream:
        assert ours.fileno() == -1
        assert stream.getblocking() is False
        theirs.send(b"x")
        assert stream.recv(1) == b"x"


@pytest.mark.parametrize("port", [-1, 2**32 - 1, 2**32 + 1050, 2**63])
def test_no_listener_opens_on_a_number_that_is_no_port(port: int) -> None:
    with pytest.raises(Refused) as refused:
        vsock.open_listener(port)
    assert refused.value.errno == errno.EINVAL


def test_a_port_is_listened_on_or_the_kernel_has_none() -> None:
    port = 40_000 + os.getpid() % 10_000
    try:
        listener = vsock.open_listener(port)
    except Unsupported as lacking:
        assert "AF_VSOCK" in str(lacking)  # noqa: PT017  # one of two right answers
        return
    with listener:
        assert listener.getsockname()[1] == port
        with pytest.raises(BlockingIOError):
            vsock.accept(listener)
        with pytest.raises(Refused) as refused:
            vsock.open_listener(port)
    assert refused.value.errno == errno.EADDRINUSE


def test_a_family_that_the_kernel_lacks_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsock, "_FAMILY", 254)
    with pytest.raises(Unsupported, match="no AF_VSOCK"):
        vsock.open_listener(1050)


def test_without_the_device_there_is_no_cid(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(Unsupported, match="No such file"):
        vsock.local_cid(f"{tmp_path}/vsock")


def test_a_device_of_another_kind_has_no_cid() -> None:
    with pytest.raises(Unsupported):
        vsock.local_cid("/dev/null")
