"""Lines to real pipes, sockets, terminals and files, full ones too."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from memreact.telemetry.line_writer import LineWriter

Drain = Callable[[], bytes]
LINES = 20_000


def drained(fd: int) -> bytes:
    """All that lies there."""
    os.set_blocking(fd, False)
    parts = []
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


Opens = Callable[..., LineWriter]


@pytest.fixture
def writes() -> Iterator[Opens]:
    """Open a writer that is closed after the test."""
    with ExitStack() as opened:
        yield lambda fd, **how: opened.enter_context(closing(LineWriter(fd, **how)))


@pytest.fixture(params=["pipe", "stream", "datagram", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Where lines go, and where they come out."""
    if request.param == "pipe":
        out, into = os.pipe()
    elif request.param == "terminal":
        out, into = pty.openpty()
    else:
        kind = socket.SOCK_STREAM if request.param == "stream" else socket.SOCK_DGRAM
        out, into = (end.detach() for end in socket.socketpair(socket.AF_UNIX, kind))
    yield into, out
    os.close(into)
    os.close(out)


def test_a_line_goes_where_it_should(ends: tuple[int, int], writes: Opens) -> None:
    into, out = ends
    writes(into).write("one two=3\n")
    assert drained(out).replace(b"\r", b"") == b"one two=3\n"


def counted(data: bytes) -> tuple[int, int]:
    """How many numbered lines came, and how many were said to be lost, none out of its turn."""
    came = lost = 0
    for line in data.replace(b"\r", b"").split(b"\n"):
        if line.startswith(b"<6>line n="):
            assert line == b"<6>line n=%d" % (came + lost)
            came += 1
        elif line.startswith(b"<4>lines_lost n="):
            lost += int(line.removeprefix(b"<4>lines_lost n="))
    return came, lost


def test_a_full_end_is_not_waited_for_and_what_is_lost_is_said(
    ends: tuple[int, int], writes: Opens
) -> None:
    into, out = ends
    writer = writes(into, under_systemd=True)
    for number in range(LINES):  # a terminal hands on what it holds by and by, and has room again
        writer.write(f"<6>line n={number}\n")
    data = drained(out)
    while b"<6>again" not in data:
        writer.write("<6>again\n")
        data += drained(out)
    came, lost = counted(data)
    assert came > 0 < lost
    assert came + lost >= LINES  # some of "again" may be among the lost


def test_the_flags_of_others_stay_as_they_are(ends: tuple[int, int], writes: Opens) -> None:
    into, _ = ends
    writes(into).write("line\n")
    assert os.get_blocking(into)


def test_a_line_that_was_begun_is_finished_first(writes: Opens) -> None:
    out, into = os.pipe()
    writer = writes(into)
    long = "long " + "x" * 300_000 + "\n"
    writer.write(long)
    writer.write("lost\n")
    first = drained(out)
    assert 0 < len(first) < len(long)
    while not (first := first + drained(out)).endswith(b"again\n"):
        writer.write("again\n")
    assert first.startswith(long.encode())
    assert b"lines_lost n=" in first[len(long) :]
    os.close(into)
    os.close(out)


def test_when_nobody_listens_any_more_it_goes_on(writes: Opens) -> None:
    for out, into in (os.pipe(), [end.detach() for end in socket.socketpair()]):
        writer = writes(into)
        os.close(out)
        writer.write("one\n")
        writer.write("two\n")
        os.close(into)
        assert writer._lost == 2


def test_a_plain_file_and_no_file_are_written_to_as_they_are(writes: Opens) -> None:
    into = os.memfd_create("journal")
    writes(into).write("line\n")
    assert os.pread(into, 100, 0) == b"line\n"
    os.close(into)
    writes(into).write("nowhere\n")


def test_text_that_is_none_is_escaped(writes: Opens) -> None:
    into = os.memfd_create("journal")
    writes(into).write("a\udcffb\n")
    assert os.pread(into, 100, 0) == b"a\\udcffb\n"
    os.close(into)
