from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lab.workloads.calls import KataCall, VarlinkCall
from lab.workloads.lines import monotonic_us
from memreact_schemas.agent import (
    MEMCG_CONFIG,
    REQUEST,
    RESPONSE,
    MemAgentMemcgConfig,
    Response,
    Status,
)
from memreact_schemas.protobuf import decode, encode

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def _answer(status: Status | None) -> bytes:
    body = encode(RESPONSE, Response(status=status))
    return len(body).to_bytes(4, "big") + b"\0\0\0\1\2\0" + body


def test_katas_call_disables_memcg(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(_answer(Status()))
    before_us = monotonic_us()
    sent = KataCall(ours)()
    assert before_us <= sent.at_us <= sent.at_us + sent.answered_us <= monotonic_us()
    frame = theirs.recv(1 << 16)
    assert frame[:10] == len(frame[10:]).to_bytes(4, "big") + b"\0\0\0\1\1\0"
    request = decode(REQUEST, frame[10:])
    assert (request.service, request.method) == ("grpc.AgentService", "MemAgentMemcgSet")
    assert decode(MEMCG_CONFIG, request.payload) == MemAgentMemcgConfig(disabled=True)


def test_each_of_katas_calls_has_a_stream_of_its_own(pair: Pair) -> None:
    ours, theirs = pair
    call = KataCall(ours)
    for stream in (1, 3):
        theirs.sendall(_answer(None))
        call()
        assert theirs.recv(1 << 16)[4:8] == stream.to_bytes(4, "big")


def test_a_call_that_was_refused_is_no_figure(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(_answer(Status(code=3, message="out of range")))
    with pytest.raises(ValueError, match="out of range"):
        KataCall(ours)()
    theirs.sendall(b'{"error":"io.memreact.SettingsRefused","parameters":{}}\0')
    with pytest.raises(ValueError, match="SettingsRefused"):
        VarlinkCall(ours)("PatchSettings")


def test_a_call_is_one_object_and_a_nul(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(b'{"parameters":{"revision":2}}\0')
    VarlinkCall(ours)("PatchSettings", {"patch": {"memcg": {"disabled": True}}})
    expected = b'{"method": "io.memreact.PatchSettings", '
    sent = theirs.recv(1 << 16)
    assert sent.startswith(expected)
    assert sent.endswith(b"\0")


def test_being_shown_out_is_told_with_what_to_look_at(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(ConnectionError):
        VarlinkCall(ours)("DropPushed")
