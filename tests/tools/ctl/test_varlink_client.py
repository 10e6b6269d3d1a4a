from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from memreact_schemas.control import GetStatus
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused, call, stream_of


class Asked(Struct):
    """Parameters of a call."""

    path: str


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Client's and server's end of one connection."""
    client, server = socket.socketpair()
    with client, server:
        client.settimeout(20)
        server.settimeout(20)
        yield client, server


def _frame(reply: object) -> bytes:
    return json.dumps(reply).encode() + b"\0"


def test_a_call_is_one_object_and_a_nul(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    server.sendall(_frame({"parameters": {"a": [1, "\u00e9"]}}))
    assert json.loads(bytes(call(client, "io.memreact.GetStatus", Asked("/a")))) == {"a": [1, "é"]}
    sent = server.recv(1000)
    assert sent.endswith(b"\0")
    assert json.loads(sent[:-1]) == {
        "method": "io.memreact.GetStatus",
        "parameters": {"path": "/a"},
    }


def test_what_is_left_open_is_not_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    """An older guest does not know all that can be asked."""
    ours, theirs = pair
    theirs.sendall(b"{}\0")
    call(ours, "io.memreact.GetStatus", GetStatus(path="/a"))
    asked = json.loads(theirs.recv(4096).rstrip(b"\0"))
    assert asked["parameters"] == {"path": "/a"}


@pytest.mark.parametrize("reply", [{}, {"parameters": None}, {"parameters": {}}])
def test_an_answer_without_parameters_is_an_empty_one(
    pair: tuple[socket.socket, socket.socket], reply: dict[str, object]
) -> None:
    client, server = pair
    server.sendall(_frame(reply))
    assert bytes(call(client, "io.memreact.Resume")) == b"{}"


def test_an_error_is_raised_with_its_name_and_what_it_says(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    server.sendall(_frame({"error": "io.memreact.NotPossible", "parameters": {"why": "x"}}))
    with pytest.raises(Refused) as refused:
        call(client, "io.memreact.RunNow")
    assert refused.value.name == "io.memreact.NotPossible"
    assert json.loads(bytes(refused.value.parameters)) == {"why": "x"}


def test_a_stream_ends_with_the_answer_that_does_not_continue(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    answers = [{"parameters": {"n": n}, "continues": n < 2} for n in range(3)]
    server.sendall(b"".join(_frame(answer) for answer in answers))
    got = [json.loads(bytes(raw))["n"] for raw in stream_of(client, "io.memreact.Watch")]
    assert got == [0, 1, 2]
    assert json.loads(server.recv(1000)[:-1])["more"] is True


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "ended before"),
        (b'{"parameters":{}}', "ended before"),
        (b"[]\0", "no Varlink"),
        (b"\xff\0", "no Varlink"),
        (b'{"parameters":', "ended before"),
        (b'{"error":3}\0', "no Varlink"),
        (b'{"parameters":{"deep":{"a":"\x97"}}}\0', "no Varlink"),
        (b'{"parameters":' + b"[" * 100_000 + b"\0", "no Varlink"),
    ],
)
def test_a_broken_answer_is_told(
    pair: tuple[socket.socket, socket.socket], said: bytes, why: str
) -> None:
    client, server = pair
    server.sendall(said)
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenConnection, match=why):
        call(client, "io.memreact.Resume")


@given(
    st.lists(st.dictionaries(st.text(), st.integers() | st.text()), min_size=1, max_size=4),
    st.integers(1, 7),
)
def test_answers_are_read_however_they_are_cut(
    parameters: list[dict[str, object]], size: int
) -> None:
    client, server = socket.socketpair()
    answers = [{"parameters": each, "continues": True} for each in parameters[:-1]]
    answers.append({"parameters": parameters[-1], "continues": False})
    whole = b"".join(_frame(answer) for answer in answers)

    def say() -> None:
        for at in range(0, len(whole), size):
            server.sendall(whole[at : at + size])

    with client, server:
        client.settimeout(20)
        speaking = threading.Thread(target=say)
        speaking.start()
        got = [json.loads(bytes(raw)) for raw in stream_of(client, "x.Y")]
        speaking.join()
    assert got == parameters


def test_a_connection_that_is_gone_before_the_call_is_told(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    server.close()
    with pytest.raises(BrokenConnection, match="before the call was sent"):
        call(client, "io.memreact.Resume")
