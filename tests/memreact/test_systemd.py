"""What systemd hears, on sockets of the kinds that it uses."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from memreact.events import Instant
from memreact.systemd import (
    Notifier,
    is_journal,
    opened_for_us,
    puts_back_for_us,
    watchdog_us,
)
from tests.fake_guest import FakeGuest

Ear = Callable[[str], socket.socket]


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Make a socket as systemd's at an address."""
    made: list[socket.socket] = []

    def bound(address: str) -> socket.socket:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        one.bind(address)
        made.append(one)
        return one

    yield bound
    for one in made:
        one.close()


@pytest.fixture
def at(guest: FakeGuest) -> str:
    return os.path.join(guest.root, "notify")


def test_says_each_thing_in_one_datagram(ear: Ear, at: str) -> None:
    systemd, notifier = ear(at), Notifier({"NOTIFY_SOCKET": at})
    notifier.ready("3 cgroups")
    notifier.reloading(Instant(1_234_567))
    notifier.status("paused")
    notifier.alive()
    notifier.stopping()
    notifier.close()
    assert [systemd.recv(4096) for _ in range(5)] == [
        b"READY=1\nSTATUS=3 cgroups",
        b"RELOADING=1\nMONOTONIC_USEC=1234567",
        b"STATUS=paused",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=stopped",
    ]


def test_an_at_sign_in_front_is_an_abstract_socket(ear: Ear) -> None:
    name = f"memreact-test-{os.getpid()}@x"
    systemd, notifier = ear("\0" + name), Notifier({"NOTIFY_SOCKET": "@" + name})
    notifier.alive()
    notifier.close()
    assert systemd.recv(64) == b"WATCHDOG=1"


def test_an_at_sign_further_on_is_part_of_the_name(ear: Ear, at: str) -> None:
    systemd, notifier = ear(at + "@1000"), Notifier({"NOTIFY_SOCKET": at + "@1000"})
    notifier.alive()
    notifier.close()
    assert systemd.recv(64) == b"WATCHDOG=1"


@pytest.mark.parametrize("status", ["a\nWATCHDOG=trigger", "a\rb", "lone \udcff byte", "ä 漢"])
def test_a_status_is_one_assignment_whatever_is_in_it(ear: Ear, at: str, status: str) -> None:
    systemd, notifier = ear(at), Notifier({"NOTIFY_SOCKET": at})
    notifier.status(status)
    notifier.close()
    said = systemd.recv(4096).decode()
    assert said.startswith("STATUS=")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "address", ["/nowhere/at/all", "@nobody-listens", "/" + "x" * 300, "vsock:2:1234", "@"]
)
def test_a_socket_that_cannot_be_reached_stops_nothing(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("x")
    notifier.close()


def test_a_full_socket_stops_nothing(ear: Ear, at: str) -> None:
    systemd, notifier = ear(at), Notifier({"NOTIFY_SOCKET": at})
    for _ in range(10_000):
        notifier.alive()
    notifier.close()
    assert systemd.recv(64) == b"WATCHDOG=1"


def test_without_systemd_nothing_is_said_and_no_fd_is_taken() -> None:
    before = len(os.listdir("/proc/self/fd"))
    notifier = Notifier({})
    notifier.ready("x")
    assert len(os.listdir("/proc/self/fd")) == before
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"WATCHDOG_USEC": "600000000"}, 600_000_000),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "7"}, 600_000_000),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_systemd_waits_for_us(
    environ: dict[str, str], wanted: int | None
) -> None:
    assert watchdog_us(environ, 7) == wanted


def test_the_journal_is_known_by_what_the_descriptor_is(guest: FakeGuest) -> None:
    with open(guest.shows("/stderr", ""), "rb") as file:
        there = os.fstat(file.fileno())
        mine = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}
        assert is_journal(mine, file.fileno())
        assert not is_journal({"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}1"}, file.fileno())
        assert not is_journal({}, file.fileno())
        closed = file.fileno()
    assert not is_journal(mine, closed)


def test_only_our_own_unit_puts_back_for_us() -> None:
    assert puts_back_for_us({"MEMREACT_PUT_BACK": "unit"})
    assert not puts_back_for_us({"INVOCATION_ID": "abc"})


@pytest.mark.parametrize(
    ("environ", "fd"),
    [
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dev"}, 3),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:dev"}, 4),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "other"}, None),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dev"}, None),  # inherited
        ({}, None),
    ],
)
def test_what_systemd_opened_is_known_by_its_name(environ: dict[str, str], fd: int | None) -> None:
    assert opened_for_us(environ, 7, "dev") == fd
