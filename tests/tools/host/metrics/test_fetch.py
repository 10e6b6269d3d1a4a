"""One guest, on real sockets: what it says, and every way in which it may not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from memreact_tools.address import UnixAddress
from memreact_tools.ctl.guests import Trouble
from memreact_tools.host.metrics import fetch as under_test
from memreact_tools.host.metrics.fetch import fetch
from tests.tools.host.metrics.guests import answers, hangs, says
from tests.tools.servers import TIMEOUT_S, monitor, serving


def test_what_a_guest_says_is_given_as_it_is(tmp_path: Path) -> None:
    text = "ä\n" * 100_000
    with serving(tmp_path / "s", answers(text)):
        assert fetch(UnixAddress(f"{tmp_path}/s"), TIMEOUT_S) == text


def test_a_guest_is_reached_by_way_of_its_monitor(tmp_path: Path) -> None:
    with serving(tmp_path / "s", monitor(answers("# EOF\n"), 1052)):
        assert fetch(UnixAddress(f"{tmp_path}/s", 1052), TIMEOUT_S) == "# EOF\n"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "hung up"),
        (b"HTTP/1.1 200 OK\r\n", "hung up"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "hung up"),
        (b"HTTP/1.1 200 OK\r\n\r\nhow long?", "does not speak HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered with 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", "more than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff", "not UTF-8"),
        (b"x" * 200_000, "says too much"),
    ],
)
def test_what_is_no_answer_is_told(tmp_path: Path, said: bytes, why: str) -> None:
    with serving(tmp_path / "s", says(said)), pytest.raises(Trouble, match=why) as caught:
        fetch(UnixAddress(f"{tmp_path}/s"), TIMEOUT_S)
    assert caught.value.code == "broken"


def test_a_guest_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    over = threading.Event()
    with serving(tmp_path / "s", hangs(over)):
        with pytest.raises(Trouble, match="no answer in time"):
            fetch(UnixAddress(f"{tmp_path}/s"), 0.05)
        over.set()


def test_where_nobody_listens_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="no such socket") as caught:
        fetch(UnixAddress(f"{tmp_path}/none"), TIMEOUT_S)
    assert caught.value.code == "unreachable"


def test_an_answer_has_room_for_a_thousand_cgroups() -> None:
    assert under_test.ANSWER_BYTES_MAX >= 4 << 20
