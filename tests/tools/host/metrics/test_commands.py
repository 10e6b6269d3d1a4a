"""`memreact-host metrics`, as it is typed: printed once, and served to this machine."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from memreact_schemas.openmetrics import CONTENT_TYPE
from memreact_tools.address import AddressError, UnixAddress, VsockAddress
from memreact_tools.host.__main__ import main
from memreact_tools.host.metrics.commands import _Fleet, guests_of
from memreact_tools.host.metrics.serve import (
    CONNECTIONS_MAX,
    Server,
    listen_on_port,
    listen_on_socket,
)
from tests.official_openmetrics import families_of
from tests.tools.host.metrics.guests import answers, text_of
from tests.tools.host.metrics.test_gather import by_guest
from tests.tools.servers import TIMEOUT_S, monitor, serving


def test_a_guest_is_called_by_its_name_or_else_by_its_address() -> None:
    texts = ["vsock:7:1052", "shop=vsock:8:1052", "unix:/a=b", "a shop=unix:@x", "t=hvsock:/c:1"]
    assert guests_of(iter(texts), hybrid_port=None) == {
        VsockAddress(7, 1052): "vsock:7:1052",
        VsockAddress(8, 1052): "shop",
        UnixAddress("/a=b"): "unix:/a=b",
        UnixAddress("@x"): "a shop",
        UnixAddress("/c", 1): "t",
    }


@pytest.mark.parametrize(
    "texts", [["vsock:7"], ["a=vsock:7:1", "a=vsock:8:1"], ["vsock:7:1", "b=vsock:7:1"], ["=x"]]
)
def test_guests_that_cannot_be_told_apart_or_reached_are_refused(texts: list[str]) -> None:
    with pytest.raises(AddressError):
        guests_of(iter(texts), hybrid_port=None)


def test_a_file_of_guests_is_read_for_each_scrape_and_a_bad_one_leaves_what_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "guests"
    file.write_text("vsock:7:1052\n")
    asked = Namespace(address_file=str(file), guests=["one=vsock:6:1052"], hybrid_port=None)
    fleet = _Fleet(asked, {})
    assert list(fleet.now().values()) == ["one", "vsock:7:1052"]
    for text in ("vsock:7:1052\nnonsense\n", "vsock:7:1052\nnonsense\n", "vsock:6:1052\n"):
        file.write_text(text)
        assert list(fleet.now().values()) == ["one", "vsock:7:1052"]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2  # the same trouble is told once
    assert "nonsense" in told[0]
    file.write_text("")
    assert list(fleet.now().values()) == ["one"]


def test_printed_once_with_a_guest_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "guests"
    file.write_text(f"# all of them\nshop=unix:{tmp_path}/s  # by its monitor\n\n")
    words = ["metrics", "--once", "--address-file", str(file), "--hybrid-port", "1052"]
    with serving(tmp_path / "s", monitor(answers(text_of("/a")), 1052)):
        assert main(words) == 0
        whole = capsys.readouterr()
        assert main([*words, f"gone=hvsock:{tmp_path}/none:1052"]) == 1
        partly = capsys.readouterr()
    assert by_guest(whole.out, "memreact_up") == {"shop": 1}
    assert whole.err == ""
    assert by_guest(partly.out, "memreact_up") == {"shop": 1, "gone": 0}
    assert partly.err.startswith("memreact-host: gone: there is no such socket")


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_a_terminal_acts_on_is_printed_to_one_and_a_pipe_has_every_byte(
    terminal: bool,  # noqa: FBT001  # drawn
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = "/\x1b]0;owned\x07\x9b2J\r\u2028"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    with serving(tmp_path / "s", answers(text_of(odd))):
        assert main(["metrics", "--once", f"shop=unix:{tmp_path}/s"]) == 0
    said = capsys.readouterr().out
    assert (odd in said) is not terminal
    assert all(line.isprintable() for line in said.split("\n")) is terminal
    assert said.endswith("# EOF\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--once"],
        ["--once", "nowhere"],
        ["--listen", "0.0.0.0:9752", "vsock:7:1052"],
        ["--listen", "65536", "vsock:7:1052"],
        ["--listen", "unix:relative", "vsock:7:1052"],
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", *words]) == 2
    assert capsys.readouterr().err.startswith("memreact-host: ")


def test_a_file_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", "--once", "--address-file", f"{tmp_path}/none"]) == 1
    assert "No such file" in capsys.readouterr().err


# ---- served --------------------------------------------------------------------------------------


@contextmanager
def served(listener: socket.socket, told: list[float | None]) -> Iterator[Server]:
    def tell(within_s: float | None) -> str:
        told.append(within_s)
        return "# EOF\n"

    with Server(listener, tell) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(TIMEOUT_S)


def asked(port: int, target: str = "/metrics", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_a_scrape_is_told_what_was_gathered_within_the_time_that_it_waits() -> None:
    told: list[float | None] = []
    listener = listen_on_port(0)
    port = listener.getsockname()[1]
    with served(listener, told):
        answer, body = asked(port, **{"X-Prometheus-Scrape-Timeout-Seconds": "10"})
        assert (answer.status, body) == (200, b"# EOF\n")
        assert answer.getheader("Content-Type") == CONTENT_TYPE
        for odd in ("nan", "-1", "inf", "x"):
            asked(port, **{"X-Prometheus-Scrape-Timeout-Seconds": odd})
        assert asked(port, "/")[0].status == 404
    assert told == [9.5, None, None, None, None]


def test_a_socket_is_for_its_user_and_group_and_takes_the_place_of_a_dead_one(
    tmp_path: Path,
) -> None:
    path = f"{tmp_path}/s"
    listen_on_socket(path).close()
    listener = listen_on_socket(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    with pytest.raises(OSError, match="in use"):
        listen_on_socket(path)
    with served(listener, []), socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(TIMEOUT_S)
        stream.connect(path)
        stream.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        heard = b""
        while data := stream.recv(4096):
            heard += data
    assert heard.endswith(b"\r\n\r\n# EOF\n")


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(OSError, match="in use"):
        listen_on_socket(f"{tmp_path}/s")
    assert (tmp_path / "s").read_text() == "mine"


def test_a_crowd_of_silent_ones_is_bounded() -> None:
    listener = listen_on_port(0)
    port = listener.getsockname()[1]
    with served(listener, []):
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS_MAX)]
        over = socket.create_connection(("127.0.0.1", port))
        over.settimeout(TIMEOUT_S)
        assert over.recv(1) == b""
        for stream in (*crowd, over):
            stream.close()


def test_the_command_serves_until_it_is_ended(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "memreact_tools.host", "metrics", "--listen", "0"]
    guest = f"shop=unix:{tmp_path}/s"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*words, guest], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        url = "http" + f"://{address}/metrics"
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  # localhost
            assert by_guest(answer.read().decode(), "memreact_up") == {"shop": 0}
        assert "shop: there is no such socket" in process.stderr.readline()
        with (
            serving(tmp_path / "s", answers(text_of("/a"))),
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer,  # noqa: S310  # localhost
        ):
            text = answer.read().decode()
        assert by_guest(text, "memreact_up") == {"shop": 1}
        assert len(families_of(text)) > 40
        assert "answers again" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
