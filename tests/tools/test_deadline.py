from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from memreact_tools.deadline import Deadline
from memreact_tools.host.qmp import Lines

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of one connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_what_came_while_nobody_could_look_is_received_once_though_no_time_is_left(
    pair: Pair,
) -> None:
    ours, theirs = pair
    passed = Deadline(-60)
    theirs.sendall(b"answer")
    assert passed.receive(ours, 100) == b"answer"
    theirs.sendall(b"one more")
    with pytest.raises(TimeoutError):
        passed.receive(ours, 100)


def test_where_nothing_came_no_time_is_left(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        Deadline(-60).receive(pair[0], 100)


def test_what_is_there_in_time_is_received_however_often(pair: Pair) -> None:
    ours, theirs = pair
    deadline = Deadline(60)
    for _ in range(3):
        theirs.sendall(b"piece")
        assert deadline.receive(ours, 100) == b"piece"


def test_whoever_was_stopped_after_it_asked_qemu_has_the_answer(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(b'{"event": "DEVICE_DELETED"}\n{"return": {"name": "shop"}}\n')
    lines = Lines(ours, Deadline(-60))
    assert lines.call("query-name", dict) == {"name": "shop"}
    assert lines.event().name == "DEVICE_DELETED"
