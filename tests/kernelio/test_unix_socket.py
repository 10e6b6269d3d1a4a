"""Listening on a name in the file system."""

from __future__ import annotations

import errno
import os
import socket
import stat

import pytest

from kernelio.errors import Refused, Unsupported
from kernelio.unix_socket import find_group, give_to_group, open_listener


@pytest.fixture
def path(tmp_path: os.PathLike[str]) -> str:
    """Where to listen."""
    return f"{tmp_path}/io.memreact"


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return client


def test_a_listener_answers_to_its_name(path: str) -> None:
    with open_listener(path, group=None) as listener, _connect(path):
        stream, _ = listener.accept()
        stream.close()
        assert listener.getblocking() is False


def test_a_socket_without_a_group_is_for_root_alone(path: str) -> None:
    with open_listener(path, group=None):
        assert _mode(path) == 0o600


def test_a_socket_with_a_group_is_for_it_too(path: str) -> None:
    with open_listener(path, group=os.getegid()):
        assert _mode(path) == 0o660
        assert os.stat(path).st_gid == os.getegid()


def test_a_group_can_be_given_and_taken_later(path: str) -> None:
    with open_listener(path, group=None):
        give_to_group(path, os.getegid())
        assert _mode(path) == 0o660
        give_to_group(path, None)
        assert _mode(path) == 0o600


def test_a_name_that_nobody_listens_on_any_more_is_taken_over(path: str) -> None:
    open_listener(path, group=None).close()
    with open_listener(path, group=None), _connect(path):
        pass


def test_what_an_interrupted_start_left_is_no_obstacle(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{path}.{os.getpid()}")
    with open_listener(path, group=None):
        assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_a_name_that_somebody_listens_on_is_refused(path: str) -> None:
    with open_listener(path, group=None) as first:
        with pytest.raises(Refused) as refused:
            open_listener(path, group=None)
        assert refused.value.errno == errno.EADDRINUSE
        with _connect(path):
            first.accept()[0].close()


def test_a_listener_that_is_too_busy_to_be_asked_is_refused_too(path: str) -> None:
    with open_listener(path, group=None, backlog=0), _connect(path):
        with pytest.raises(Refused) as refused:
            open_listener(path, group=None)
        assert refused.value.errno == errno.EADDRINUSE


def test_a_file_is_not_taken_for_a_socket(path: str) -> None:
    with open(path, "wb"):
        pass
    with pytest.raises(Refused, match="no socket"):
        open_listener(path, group=None)
    assert os.path.getsize(path) == 0


def test_without_its_folder_there_is_no_listener(path: str) -> None:
    with pytest.raises(Unsupported, match="No such file"):
        open_listener(f"{path}/below", group=None)


def test_a_path_that_no_socket_can_have_is_refused(path: str) -> None:
    with pytest.raises(Refused):
        open_listener(path + "x" * 108, group=None)


def test_a_name_that_is_gone_cannot_be_given(path: str) -> None:
    with pytest.raises(Unsupported):
        give_to_group(path, None)


def test_what_could_not_be_named_is_not_left_behind(path: str) -> None:
    os.mkdir(path)
    with pytest.raises(Refused):
        open_listener(path, group=None)
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_a_group_is_found_by_its_name() -> None:
    assert find_group("root") == 0
    assert find_group("no such group here") is None
    assert find_group("nul\0inside") is None
