"""The first page of a swap area, read and written."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import KernelioError, MalformedReading, Refused
from kernelio.swap_header import (
    PAGE_SIZES,
    SwapHeader,
    format_uuid,
    is_blank,
    make_swap_header,
    new_uuid,
    parse_swap_header,
    parse_uuid,
    read_begin,
    write_header,
)

MIB = 1 << 20
UUIDS = st.binary(min_size=16, max_size=16)


@given(UUIDS)
def test_a_uuid_is_written_as_everybody_writes_it_and_read_back(raw: bytes) -> None:
    assert format_uuid(raw) == str(uuid.UUID(bytes=raw))
    assert parse_uuid(format_uuid(raw).upper()) == raw


@given(st.text(max_size=40))
def test_any_text_is_a_uuid_or_refused(text: str) -> None:
    try:
        raw = parse_uuid(text)
    except ValueError:
        return
    assert format_uuid(raw) == text.lower()


def test_a_new_uuid_is_random_and_says_so() -> None:
    one, other = uuid.UUID(bytes=new_uuid()), uuid.UUID(bytes=new_uuid())
    assert (one.version, one.variant) == (4, uuid.RFC_4122)
    assert one != other


@given(st.integers(10 * 65536, 2**44), st.sampled_from(PAGE_SIZES), UUIDS)
def test_what_is_made_is_read_back(size_bytes: int, page_bytes: int, raw: bytes) -> None:
    page = make_swap_header(size_bytes, page_bytes, raw)
    assert len(page) == page_bytes
    header = parse_swap_header(page, "vdc")
    assert header is not None
    assert (header.page_bytes, header.swapped_bytes, header.version) == (page_bytes, False, 1)
    assert (header.bad_pages, header.uuid, header.label) == (0, format_uuid(raw), "")
    assert 0 <= size_bytes - header.size_bytes < page_bytes


def test_of_an_area_that_is_too_large_the_kernel_is_told_what_it_can_count() -> None:
    header = parse_swap_header(make_swap_header(2**60, 4096), "vdc")
    assert header is not None
    assert header.pages == 2**32


@pytest.mark.parametrize("size_bytes", [0, 4096, 40959])
def test_what_is_too_small_is_no_swap_area(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="10 pages"):
        make_swap_header(size_bytes, 4096)


@given(st.binary(max_size=300), st.sampled_from(PAGE_SIZES), st.integers(0, 1100))
def test_any_begin_of_a_device_parses_or_is_malformed(
    noise: bytes, page_bytes: int, at: int
) -> None:
    begin = bytearray(65536)
    begin[at : at + len(noise)] = noise
    begin[page_bytes - 10 : page_bytes] = b"SWAPSPACE2"
    try:
        header = parse_swap_header(bytes(begin), "vdc")
    except MalformedReading:
        return
    assert header is None or header.version == 1


@given(st.binary(max_size=5000))
def test_what_has_no_magic_has_no_signature(begin: bytes) -> None:
    found = parse_swap_header(begin.replace(b"SWAPSPACE2", b""), "vdc")
    assert found is None


@pytest.mark.parametrize("text", [b"SWAP-SPACE", b"S1SUSPEND\0"])
def test_the_oldest_format_and_a_suspended_machine_are_no_swap(text: bytes) -> None:
    assert parse_swap_header(bytes(4086) + text, "vdc") is None


def test_a_header_of_the_other_byte_order_is_read_as_the_kernel_does() -> None:
    page = bytearray(4096)
    struct.pack_into(">III16s16s", page, 1024, 1, 255, 0, b"u" * 16, b"shop")
    page[-10:] = b"SWAPSPACE2"
    assert parse_swap_header(bytes(page), "vdc") == SwapHeader(
        page_bytes=4096,
        swapped_bytes=True,
        version=1,
        pages=256,
        bad_pages=0,
        uuid=format_uuid(b"u" * 16),
        label="shop",
    )


@pytest.mark.skipif(shutil.which("mkswap") is None, reason="util-linux is not there")
def test_what_mkswap_writes_is_read_and_we_write_the_same(tmp_path: Path) -> None:
    raw = uuid.uuid4()
    file = tmp_path / "swap"
    file.touch(mode=0o600)
    os.truncate(file, MIB)
    subprocess.run(["mkswap", "-q", "-p", "4096", "-U", str(raw), file], check=True)
    theirs = file.read_bytes()[:4096]
    header = parse_swap_header(theirs, str(file))
    assert header is not None
    assert (header.uuid, header.size_bytes) == (str(raw), MIB)
    assert make_swap_header(MIB, 4096, raw.bytes) == theirs


@pytest.mark.parametrize(
    ("begin", "blank"), [(b"", True), (bytes(MIB), True), (bytes(70000) + b"x", False)]
)
def test_only_zeros_are_blank(begin: bytes, *, blank: bool) -> None:
    assert is_blank(begin) is blank


def test_the_first_page_is_written_and_what_follows_stays(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"x" * MIB)
    fd = os.open(file, os.O_RDWR)
    page = make_swap_header(MIB, 4096)
    write_header(fd, page, str(file))
    begin = read_begin(fd, str(file))
    os.close(fd)
    assert begin == page + b"x" * ((128 << 10) - 4096)
    assert file.stat().st_size == MIB


def test_a_device_without_room_says_so() -> None:
    fd = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(Refused) as refused:
        write_header(fd, make_swap_header(MIB, 4096), "/dev/full")
    os.close(fd)
    assert refused.value.errno == errno.ENOSPC


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(KernelioError):
        read_begin(fd, str(tmp_path))
    os.close(fd)
