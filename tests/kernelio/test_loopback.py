"""TCP on this machine alone, on real sockets."""

from __future__ import annotations

import errno
import socket

import pytest

from kernelio import loopback
from kernelio.errors import Refused, Unsupported


def test_listens_on_this_machine_alone_and_accepts_without_waiting() -> None:
    with loopback.open_listener(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(BlockingIOError):
            loopback.accept(listener)
        with socket.create_connection(("127.0.0.1", port)):
            stream, who = loopback.accept(listener)
            with stream:
                assert stream.gettimeout() == 0
                assert who is None


def test_a_port_that_is_taken_is_refused() -> None:
    with loopback.open_listener(0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Refused, match=f"port {port} of 127.0.0.1") as caught:
            loopback.open_listener(port)
        assert caught.value.errno == errno.EADDRINUSE


def test_a_unit_that_forbids_ipv4_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", forbidden)
    with pytest.raises(Unsupported, match="the unit that runs us forbids it"):
        loopback.open_listener(9752)
