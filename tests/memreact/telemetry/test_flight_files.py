"""Files that are left behind: few, for root alone, and whole."""

from __future__ import annotations

import gzip
import os

import pytest

from memreact.telemetry.flight import packed
from memreact.telemetry.flight_files import leave_file
from tests.fake_guest import FakeGuest


def test_a_file_is_the_lines_one_after_the_other(guest: FakeGuest) -> None:
    path = leave_file(guest.root, "crash", "1", [packed(b"one\n"), packed(b"two\n")], 2)
    with gzip.open(path) as file:
        assert file.read() == b"one\ntwo\n"
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_the_oldest_of_its_kind_leave(guest: FakeGuest) -> None:
    leave_file(guest.root, "crash", "0", [], 2)
    for stamp in ("1", "2", "3"):
        leave_file(guest.root, "limit", stamp, [], 2)
    assert sorted(os.listdir(guest.root)) == [
        "flight-crash-0.jsonl.gz",
        "flight-limit-2.jsonl.gz",
        "flight-limit-3.jsonl.gz",
    ]


def test_where_there_is_no_folder_it_is_an_error(guest: FakeGuest) -> None:
    with pytest.raises(FileNotFoundError):
        leave_file(guest.path("none"), "crash", "1", [], 1)


def test_half_of_one_does_not_stay(guest: FakeGuest) -> None:
    def members() -> list[bytes]:
        raise OSError(28, "full")

    class Full:
        def __iter__(self) -> object:
            yield from members()

    with pytest.raises(OSError, match="full"):
        leave_file(guest.root, "crash", "1", Full(), 1)  # type: ignore[arg-type]  # yields nothing
    assert os.listdir(guest.root) == []
