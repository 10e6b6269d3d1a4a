from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.address import (
    PORT_MAX,
    Address,
    AddressError,
    CouldNotConnect,
    UnixAddress,
    VsockAddress,
    connect,
    parse_address,
)
from tests.tools.servers import TIMEOUT_S, monitor, serving


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/memreact/io.memreact", UnixAddress("/run/memreact/io.memreact")),
        ("unix:///run/memreact/io.memreact", UnixAddress("/run/memreact/io.memreact")),
        ("unix:@memreact", UnixAddress("@memreact")),
        ("unix://@memreact", UnixAddress("@memreact")),
        ("unix:/a b:c", UnixAddress("/a b:c")),
        ("vsock:3:1050", VsockAddress(3, 1050)),
        ("vsock://3:1024", VsockAddress(3, 1024)),
        ("vsock:4294967294:4294967294", VsockAddress(PORT_MAX, PORT_MAX)),
        ("hvsock:/vm.hvsock:1050", UnixAddress("/vm.hvsock", 1050)),
        ("hvsock:///run/kata/x/kata.hvsock:1024", UnixAddress("/run/kata/x/kata.hvsock", 1024)),
    ],
)
def test_each_form_of_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not unix:"),
        ("/run/memreact/io.memreact", "is not unix:"),
        ("unix:relative", "is not unix:"),
        ("unix://relative/path", "is not unix:"),
        ("unix:/", "names no socket"),
        ("unix:@", "names no socket"),
        ("unix:/a\0b", "names no socket"),
        ("unix:/" + "a" * 107, "at most 107 bytes"),
        ("unix:/" + "\u00e9" * 54, "at most 107 bytes"),
        ("vsock:3", "is not unix:"),
        ("vsock:a:1", "is not unix:"),
        ("vsock:3:1050 ", "is not unix:"),
        ("vsock:3:\u0661", "is not unix:"),
        ("vsock:-1:1024", "CID is 0 to 4294967294"),
        ("vsock:4294967295:1", "CID is 0 to 4294967294"),
        ("vsock:3:4294967295", "port is 0 to 4294967294"),
        ("hvsock:/vm.hvsock", "is not unix:"),
        ("hvsock:/vm.hvsock:-1", "port is 0 to 4294967294"),
        ("tcp:1.2.3.4:5", "is not unix:"),
        ("vsock:3:" + "9" * 5000, "is not unix:"),
        ("hvsock:/vm.hvsock:" + "9" * 5000, "is not unix:"),
    ],
)
def test_a_wrong_address_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why):
        parse_address(text)


def test_a_hybrid_port_goes_with_a_unix_socket_alone() -> None:
    assert parse_address("unix:/vm.hvsock", hybrid_port=7) == UnixAddress("/vm.hvsock", 7)
    assert parse_address("vsock:3:1050", hybrid_port=7) == VsockAddress(3, 1050)
    with pytest.raises(AddressError, match="port is"):
        parse_address("unix:/vm.hvsock", hybrid_port=-1)


@given(
    st.text() | st.builds("{}:{}".format, st.sampled_from(["unix", "vsock", "hvsock"]), st.text())
)
def test_any_text_is_an_address_that_reads_back_or_is_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)) == address


def _greet(stream: socket.socket) -> None:
    stream.sendall(b"hello")


def _read(address: Address) -> bytes:
    with connect(address, timeout_s=10) as stream, stream.makefile("rb") as file:
        return file.read()


def test_a_socket_of_this_machine_is_connected_to_by_its_path(tmp_path: Path) -> None:
    with serving(tmp_path / "s", _greet):
        assert _read(UnixAddress(str(tmp_path / "s"))) == b"hello"


def test_a_socket_of_this_machine_is_connected_to_by_its_abstract_name() -> None:
    name = f"@memreact-test-{os.getpid()}"
    with serving(name, _greet):
        assert _read(UnixAddress(name)) == b"hello"


@pytest.mark.parametrize("refusals", [0, 3])
def test_a_monitor_is_asked_until_it_opens_the_port(tmp_path: Path, refusals: int) -> None:
    with serving(tmp_path / "s", monitor(_greet, 1050, refusals=refusals)):
        assert _read(UnixAddress(str(tmp_path / "s"), 1050)) == b"hello"


def test_no_byte_after_the_monitors_line_is_swallowed(tmp_path: Path) -> None:
    def eager(stream: socket.socket) -> None:
        stream.recv(100)
        stream.sendall(b"OK 5\nfirst bytes of the guest")

    with serving(tmp_path / "s", eager):
        assert _read(UnixAddress(str(tmp_path / "s"), 1)) == b"first bytes of the guest"


def test_a_port_that_nobody_listens_on_is_told_in_time(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"), 1051)
    with (
        serving(tmp_path / "s", monitor(_greet, 1050)),
        pytest.raises(CouldNotConnect, match="did not open port 1051: it closed the connection"),
    ):
        connect(address, timeout_s=20, tries=2)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"NO\n", "it said 'NO"),
        (b"\x1b[31mOK\n", r"it said '\\x1b"),
        (b"OK " + b"1" * 100, "it said 'OK 1111"),
        (b"OK", "it closed the connection"),
    ],
)
def test_what_is_no_ok_line_is_told_without_control_characters(
    tmp_path: Path, answer: bytes, why: str
) -> None:
    def speak(stream: socket.socket) -> None:
        stream.recv(100)
        stream.sendall(answer)

    address = UnixAddress(str(tmp_path / "s"), 1)
    with serving(tmp_path / "s", speak), pytest.raises(CouldNotConnect, match=why) as refused:
        connect(address, timeout_s=20, tries=2)
    assert str(refused.value).isprintable()


def test_a_monitor_that_says_nothing_is_not_waited_for_longer_than_asked(tmp_path: Path) -> None:
    def silent(stream: socket.socket) -> None:
        stream.recv(100)
        stream.recv(100)

    address = UnixAddress(str(tmp_path / "s"), 1)
    with (
        serving(tmp_path / "s", silent),
        pytest.raises(CouldNotConnect, match="no answer in time"),
    ):
        connect(address, timeout_s=0.05)


def _nothing(path: Path) -> None:
    """Leave no file there."""


def _stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


@pytest.mark.parametrize(
    ("left", "why"), [(_nothing, "there is no such socket"), (_stale, "nobody listens there")]
)
def test_a_failed_connect_is_fatal_at_once_and_says_what_to_look_at(
    tmp_path: Path, left: Callable[[Path], None], why: str
) -> None:
    left(tmp_path / "s")
    for port in (None, 1024):
        with pytest.raises(CouldNotConnect, match=why) as failed:
            connect(UnixAddress(str(tmp_path / "s"), port), timeout_s=60)
        assert isinstance(failed.value.__cause__, OSError)
        assert failed.value.__cause__.errno in (errno.ENOENT, errno.ECONNREFUSED)


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[socket.socket]:
    """A listener at `s` with no room for one more, until somebody is accepted."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as others:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        while True:
            other = others.enter_context(socket.socket(socket.AF_UNIX))
            other.setblocking(False)  # noqa: FBT003  # socket's own signature
            try:
                other.connect(str(tmp_path / "s"))
            except BlockingIOError:
                break
        yield listener


def test_where_many_connect_at_once_one_waits_for_a_place(
    tmp_path: Path, crowded: socket.socket
) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(connect, UnixAddress(str(tmp_path / "s")), timeout_s=TIMEOUT_S)
        first, _ = crowded.accept()
        first.close()
        waiting.result().close()


def test_a_crowd_that_stays_is_told_in_time(tmp_path: Path, crowded: socket.socket) -> None:
    began = time.monotonic()
    with pytest.raises(CouldNotConnect, match="too many others connect"):
        connect(UnixAddress(str(tmp_path / "s")), timeout_s=0.05)
    assert time.monotonic() - began >= 0.05


def test_a_guest_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CouldNotConnect, match="vsock:4294967294:1050: "):
        connect(VsockAddress(PORT_MAX, 1050), timeout_s=0.5)
