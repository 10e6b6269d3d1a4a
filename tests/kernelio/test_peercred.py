"""Who is at the other end."""

from __future__ import annotations

import os
import socket

import pytest

from kernelio.errors import Unsupported
from kernelio.peercred import read_peer_credentials


def test_a_peer_of_this_process_is_this_process() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = read_peer_credentials(ours)
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    assert found.groups[0] == os.getegid()
    assert set(found.groups) == {os.getegid(), *os.getgroups()}


def test_a_peer_over_the_network_is_not_known() -> None:
    with socket.socket(socket.AF_INET) as ours, pytest.raises(Unsupported, match="no unix socket"):
        read_peer_credentials(ours)


def test_a_closed_socket_has_no_peer() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(Unsupported):
            read_peer_credentials(ours)
