from __future__ import annotations

import errno
import os

import pytest

from kernelio.errors import Interrupted, MalformedReading, Refused, Unsupported, Vanished
from kernelio.files import Record, meaning_of, read_bytes, read_record, write_bytes
from tests.fake_guest import FakeGuest


def test_reads_a_file_longer_than_one_block_whole(guest: FakeGuest) -> None:
    text = b"0123456789" * 20_000
    assert read_bytes(guest.shows("/proc/long", text)) == text


def test_an_empty_file_reads_as_nothing(guest: FakeGuest) -> None:
    assert read_bytes(guest.shows("/proc/empty", "")) == b""


def test_short_reads_of_a_seq_file_are_joined_until_an_empty_one() -> None:
    with open("/proc/kallsyms", "rb") as file:
        assert len(os.read(file.fileno(), 65536)) < 65536
        file.seek(0)
        text = file.read()
    assert read_bytes("/proc/kallsyms") == text


def test_a_file_of_one_record_is_read_by_one_read(guest: FakeGuest) -> None:
    with open("/proc/version", "rb") as file:
        text = os.read(file.fileno(), 4096)
        assert os.read(file.fileno(), 4096) == b""
    assert read_record("/proc/version") == text
    assert read_record(guest.shows("/proc/one", "12\n")) == b"12\n"
    with pytest.raises(Unsupported):
        read_record(guest.path("/proc/absent"))


def test_a_record_that_is_kept_open_tells_what_is_there_now(guest: FakeGuest) -> None:
    record = Record(guest.shows("/proc/one", "12\n"))
    assert record.read() == record.read() == b"12\n"
    guest.shows("/proc/one", "345\n")
    assert record.read() == b"345\n"
    record.close()
    with pytest.raises(Refused):
        record.read()
    with pytest.raises(Unsupported):
        Record(guest.path("/proc/absent"))


def test_a_missing_file_in_a_living_directory_is_unsupported(guest: FakeGuest) -> None:
    guest.has_memcg("/shop")
    with pytest.raises(Unsupported):
        read_bytes(guest.layout.memcg_dir("/shop") + "/memory.reclaim")


def test_a_file_whose_directory_is_gone_has_vanished(guest: FakeGuest) -> None:
    with pytest.raises(Vanished):
        read_bytes(guest.layout.memcg_dir("/shop") + "/memory.current")
    with pytest.raises(Vanished):
        write_bytes(guest.layout.memcg_dir("/shop") + "/memory.high", b"1")


def test_a_fixed_file_whose_directory_is_missing_is_unsupported(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        read_bytes(guest.layout.proc("pressure/memory"), fixed=True)


def test_writes_what_it_was_given(guest: FakeGuest) -> None:
    write_bytes(guest.shows("/proc/sys/vm/swappiness", ""), b"60")
    assert guest.received("/proc/sys/vm/swappiness") == b"60"


def test_a_write_to_a_file_that_is_not_there_creates_nothing(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        write_bytes(guest.path("/absent"), b"1")
    assert not os.path.exists(guest.path("/absent"))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EINTR, Interrupted),
        (errno.ENODEV, Vanished),
        (errno.ESRCH, Vanished),
        (errno.EOPNOTSUPP, Unsupported),
        (errno.EACCES, Unsupported),
        (errno.EPERM, Unsupported),
        (errno.EROFS, Unsupported),
        (errno.ENOTDIR, Unsupported),
        (errno.EINVAL, Refused),
        (errno.EBUSY, Refused),
    ],
)
def test_each_errno_has_one_meaning(number: int, kind: type[Exception]) -> None:
    meaning = meaning_of(OSError(number, os.strerror(number)), "/sys/x")
    assert type(meaning) is kind
    assert meaning.path == "/sys/x"


def test_a_refusal_tells_which_no_it_was() -> None:
    meaning = meaning_of(OSError(errno.EINVAL, "x"), "/sys/x")
    assert isinstance(meaning, Refused)
    assert meaning.errno == errno.EINVAL
    assert str(meaning) == "/sys/x: Invalid argument"


def test_a_malformed_reading_quotes_the_start_of_a_long_line_and_keeps_all_of_it() -> None:
    error = MalformedReading("/proc/x", "y" * 1000, "a number")
    assert len(str(error)) < 300
    assert error.line == "y" * 1000
