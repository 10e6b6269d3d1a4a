"""From a socket that varlinkctl hands over to a guest's, and back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from memreact_tools import vsock_bridge
from memreact_tools.address import Address, AddressError, UnixAddress, VsockAddress
from memreact_tools.vsock_bridge import address_from, copy


@pytest.mark.parametrize(
    ("args", "environ", "address"),
    [
        ([], {}, UnixAddress("/run/memreact/io.memreact")),
        ([], {"MEMREACT_ADDRESS": ""}, UnixAddress("/run/memreact/io.memreact")),
        ([], {"MEMREACT_ADDRESS": "vsock:3:1050"}, VsockAddress(3, 1050)),
        ([], {"MEMREACT_ADDRESS": "hvsock:/run/vm:1050"}, UnixAddress("/run/vm", 1050)),
        (["memreact-vsock:3:1050"], {"MEMREACT_ADDRESS": "unix:/x"}, VsockAddress(3, 1050)),
        (["memreact-vsock://3:1050"], {}, VsockAddress(3, 1050)),
        (["memreact-vsock:vsock:3:1050"], {}, VsockAddress(3, 1050)),
        (["memreact-vsock:hvsock:/run/vm:1050"], {}, UnixAddress("/run/vm", 1050)),
        (["memreact-vsock:unix:/run/x"], {}, UnixAddress("/run/x")),
    ],
)
def test_the_address_is_in_the_url_or_in_the_environment(
    args: list[str], environ: Mapping[str, str], address: Address
) -> None:
    assert address_from(args, environ) == address


@pytest.mark.parametrize("text", ["memreact-vsock:", "memreact-vsock:3", "http:3:4", "٣:1050"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        address_from([text], {})


@contextmanager
def bridged() -> Iterator[tuple[socket.socket, socket.socket, threading.Thread]]:
    """A client and a service with the bridge between them."""
    client, one = socket.socketpair()
    other, service = socket.socketpair()
    for side in (client, service):
        side.settimeout(20)
    with client, one, other, service:
        thread = threading.Thread(target=copy, args=(one, other))
        thread.start()
        yield client, service, thread
        client.close()
        service.close()
        thread.join(20)
        assert not thread.is_alive()


def _all_of(side: socket.socket) -> bytes:
    parts = []
    while part := side.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_bytes_go_both_ways() -> None:
    with bridged() as (client, service, _):
        client.sendall(b"call\0")
        assert service.recv(100) == b"call\0"
        service.sendall(b"answer\0")
        assert client.recv(100) == b"answer\0"


def test_much_goes_through_to_one_who_reads_late() -> None:
    sent = os.urandom(4 << 20)
    with bridged() as (client, service, _):
        sending = threading.Thread(target=service.sendall, args=(sent,))
        sending.start()
        client.sendall(b"call\0")
        assert service.recv(100) == b"call\0"
        received = b""
        while len(received) < len(sent):
            received += client.recv(1 << 20)
        sending.join()
    assert received == sent


def test_an_end_goes_on_as_an_end_and_the_other_way_stays_open() -> None:
    with bridged() as (client, service, thread):
        client.sendall(b"call\0")
        client.shutdown(socket.SHUT_WR)
        assert _all_of(service) == b"call\0"
        service.sendall(b"late answer\0")
        service.close()
        assert _all_of(client) == b"late answer\0"
        thread.join(20)
        assert not thread.is_alive()


def test_a_client_that_leaves_ends_the_service_too() -> None:
    with bridged() as (client, service, _):
        client.close()
        assert _all_of(service) == b""


def test_a_service_that_breaks_off_ends_the_client_too() -> None:
    with bridged() as (client, service, _):
        client.sendall(b"call that nobody reads\0")
        service.close()  # what was not read makes it a reset
        try:
            assert _all_of(client) == b""
        except ConnectionResetError:
            pytest.fail("the bridge hands on an end, not a reset")


def _run(environ: Mapping[str, str], handed_over: socket.socket) -> tuple[int, str]:
    command = [sys.executable, "-m", "memreact_tools.vsock_bridge"]
    code = f"import os; os.dup2({handed_over.fileno()}, 3); os.execv({command[0]!r}, {command})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        pass_fds=(handed_over.fileno(),),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_the_command_speaks_on_the_descriptor_that_it_is_handed(
    tmp_path: os.PathLike[str],
) -> None:
    name = f"{tmp_path}/guest"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen(1)
        client, handed_over = socket.socketpair()
        client.settimeout(20)

        def serve() -> None:
            stream, _ = listener.accept()
            with stream:
                stream.sendall(stream.recv(100).upper())

        thread = threading.Thread(target=serve)
        thread.start()
        client.sendall(b"call\0")
        client.shutdown(socket.SHUT_WR)
        with client, handed_over:
            status, told = _run({"MEMREACT_ADDRESS": f"unix:{name}"}, handed_over)
            assert client.recv(100) == b"CALL\0"
        thread.join()
    assert (status, told) == (0, "")


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [("unix:/nowhere/at/all", 1, "no such socket"), ("http:x", 2, "is not unix:/PATH")],
)
def test_the_command_says_what_went_wrong(address: str, status: int, says: str) -> None:
    client, handed_over = socket.socketpair()
    with client, handed_over:
        done, told = _run({"MEMREACT_ADDRESS": address}, handed_over)
    assert done == status
    assert told.startswith("memreact-vsock: ")
    assert says in told


def test_started_by_hand_it_says_whom_it_is_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vsock_bridge, "_HANDED_OVER", 10**6)
    assert vsock_bridge.run([], {}) == 2
    assert "varlinkctl info exec:" in capsys.readouterr().err
