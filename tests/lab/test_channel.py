from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.channel import Channel, Refusal
from lab.errors import DeadlinePassed, GuestLost


@contextlib.contextmanager
def answering(path: Path, *answers: bytes) -> Iterator[Channel]:
    """A channel to somebody who gives these answers, one per request, and then hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for answer in answers:
                connection.recv(65536)
                connection.sendall(answer)
            connection.recv(65536)

    thread = threading.Thread(target=serve)
    thread.start()
    channel = Channel(os.fspath(path))
    try:
        yield channel
    finally:
        channel.close()
        thread.join()
        listener.close()


def test_events_between_a_request_and_its_reply_are_left_out(tmp_path: Path) -> None:
    answer = b'{"event": "RESUME"}\n{"return": {"a": 1}}\n'
    with answering(tmp_path / "s", answer) as channel:
        assert channel.call("x", reply=dict[str, int]) == {"a": 1}


def test_a_reply_of_null_is_a_reply(tmp_path: Path) -> None:
    with answering(tmp_path / "s", b'{"return": null}\n') as channel:
        assert channel.call("x", reply=type(None)) is None


def test_an_error_says_which_request_and_what_the_other_side_said(tmp_path: Path) -> None:
    answer = b'{"error": {"class": "GenericError", "desc": "no such file"}}\n'
    with (
        answering(tmp_path / "s", answer) as channel,
        pytest.raises(Refusal, match=r"^guest-file-open: no such file$"),
    ):
        channel.call("guest-file-open", reply=int)


def test_no_answer_ends_at_the_deadline(tmp_path: Path) -> None:
    with answering(tmp_path / "s", b"") as channel, pytest.raises(DeadlinePassed):
        channel.call("x", reply=int, timeout_s=0.05)


def test_a_side_that_hangs_up_is_a_lost_guest(tmp_path: Path) -> None:
    with answering(tmp_path / "s", b'{"return": 1}\n') as channel:
        assert channel.call("x", reply=int) == 1
        channel.send("y")
        with pytest.raises(GuestLost):
            channel.line(time.monotonic() + 10)


def test_what_the_agent_said_before_a_sync_is_cut_off(tmp_path: Path) -> None:
    with answering(tmp_path / "s", b'half a reply\xff{"return": 7}\n') as channel:
        channel.send_bytes(b"\xff\n")
        assert channel.line(time.monotonic() + 10) == b'{"return": 7}'
