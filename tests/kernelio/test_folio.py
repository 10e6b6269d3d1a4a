from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading
from kernelio.folio import (
    parse_choice,
    parse_size,
    read_anon_folio_bytes,
    read_file_folio_bytes,
    read_huge_folio_bytes,
    read_small_anon_folio_bytes,
)
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from tests.fake_guest import FakeGuest

_THP = "/sys/kernel/mm/transparent_hugepage"
_HUGE = 2 * 1024 * 1024


def _has_huge_pages(guest: FakeGuest, enabled: str, shmem: str = "never") -> None:
    words = "always madvise never".replace(enabled, f"[{enabled}]")
    guest.shows(f"{_THP}/enabled", words + "\n")
    words = "always within_size advise never deny force".replace(shmem, f"[{shmem}]")
    guest.shows(f"{_THP}/shmem_enabled", words + "\n")
    guest.shows(f"{_THP}/hpage_pmd_size", f"{_HUGE}\n")


def _has_size(guest: FakeGuest, kb: int, enabled: str) -> None:
    words = "always inherit madvise never".replace(enabled, f"[{enabled}]")
    guest.shows(f"{_THP}/hugepages-{kb}kB/enabled", words + "\n")


def _mounts(guest: FakeGuest, *lines: str, kernel: str = "6.12.0-1-amd64") -> None:
    guest.shows("/proc/self/mounts", "".join(f"{line}\n" for line in lines))
    guest.shows("/proc/sys/kernel/osrelease", f"{kernel}\n")


def test_a_kernel_without_huge_pages_has_folios_of_a_page(guest: FakeGuest) -> None:
    _mounts(guest, "/dev/vda / xfs rw 0 0")
    assert read_anon_folio_bytes(guest.layout) == page_size()
    assert read_file_folio_bytes(guest.layout) == page_size()


@pytest.mark.parametrize("enabled", ["always", "madvise"])
def test_anonymous_memory_gets_a_huge_page_where_it_may(guest: FakeGuest, enabled: str) -> None:
    _has_huge_pages(guest, enabled)
    assert read_anon_folio_bytes(guest.layout) == _HUGE


def test_anonymous_memory_stays_in_pages_when_never_is_chosen(guest: FakeGuest) -> None:
    _has_huge_pages(guest, "never")
    _has_size(guest, 64, "never")
    _has_size(guest, 2048, "inherit")
    assert read_anon_folio_bytes(guest.layout) == page_size()


def test_a_size_of_its_own_counts_though_the_general_switch_says_never(guest: FakeGuest) -> None:
    _has_huge_pages(guest, "never")
    _has_size(guest, 64, "always")
    _has_size(guest, 128, "never")
    assert read_anon_folio_bytes(guest.layout) == 64 * 1024


def test_the_largest_allowed_size_counts(guest: FakeGuest) -> None:
    _has_huge_pages(guest, "madvise")
    _has_size(guest, 64, "always")
    _has_size(guest, 4096, "madvise")
    assert read_anon_folio_bytes(guest.layout) == 4096 * 1024


def test_folios_below_a_huge_page_are_told_apart_from_it(guest: FakeGuest) -> None:
    _has_huge_pages(guest, "always")
    _has_size(guest, 2048, "inherit")
    assert read_small_anon_folio_bytes(guest.layout) == page_size()
    _has_size(guest, 64, "inherit")
    _has_size(guest, 128, "never")
    assert read_small_anon_folio_bytes(guest.layout) == 64 * 1024
    guest.shows(f"{_THP}/hugepages-256kB/shmem_enabled", "always inherit [advise] never\n")
    guest.shows(f"{_THP}/hugepages-512kB/shmem_enabled", "always [inherit] advise never\n")
    assert read_small_anon_folio_bytes(guest.layout) == 256 * 1024
    assert read_huge_folio_bytes(guest.layout) == _HUGE


def test_an_inherited_never_is_a_never(guest: FakeGuest) -> None:
    _has_huge_pages(guest, "never")
    _has_size(guest, 64, "inherit")
    assert read_small_anon_folio_bytes(guest.layout) == page_size()


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "nfs4", "erofs"])
def test_file_systems_with_large_folios_count(guest: FakeGuest, kind: str) -> None:
    _has_huge_pages(guest, "always")
    _mounts(guest, "/dev/vda / ext4 rw 0 0", f"/dev/vdb /srv {kind} rw 0 0")
    assert read_file_folio_bytes(guest.layout) == _HUGE


@pytest.mark.parametrize(
    ("kernel", "size"), [("6.12.0-1-amd64", None), ("6.16.0", _HUGE), ("7.3.4", _HUGE)]
)
def test_ext4_counts_from_linux_6_16(guest: FakeGuest, kernel: str, size: int | None) -> None:
    _has_huge_pages(guest, "always")
    _mounts(guest, "/dev/vda / ext4 rw 0 0", "proc /proc proc rw 0 0", kernel=kernel)
    assert read_file_folio_bytes(guest.layout) == (size or page_size())


@pytest.mark.parametrize(
    ("shmem", "options", "huge"),
    [
        ("never", "rw", False),
        ("advise", "rw", True),
        ("never", "rw,huge=always", True),
        ("advise", "rw,huge=never", False),
        ("deny", "rw,huge=always", False),
    ],
)
def test_tmpfs_counts_when_it_may(
    guest: FakeGuest, shmem: str, options: str, *, huge: bool
) -> None:
    _has_huge_pages(guest, "madvise", shmem)
    _mounts(guest, f"tmpfs /tmp tmpfs {options} 0 0")
    assert read_file_folio_bytes(guest.layout) == (_HUGE if huge else page_size())


def test_this_machines_folios_are_whole_pages() -> None:
    for size in (read_anon_folio_bytes(Layout()), read_file_folio_bytes(Layout())):
        assert size % page_size() == 0


@given(st.integers(1, 2**62))
def test_reads_back_every_size(size: int) -> None:
    assert parse_size(f"{size}\n", "x") == size


@given(st.text() | st.binary().map(os.fsdecode))
def test_any_text_is_a_size_or_malformed(text: str) -> None:
    with suppress(MalformedReading):
        size = parse_size(text, "x")
        assert size > 0


@given(st.text() | st.binary().map(os.fsdecode) | st.from_regex(r"(\w+ )*\[\w+\]( \w+)*\n"))
def test_any_text_is_a_choice_or_malformed(text: str) -> None:
    with suppress(MalformedReading):
        choice = parse_choice(text, "x")
        assert f"[{choice}]" in text
