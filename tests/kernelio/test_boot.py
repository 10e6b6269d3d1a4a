from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.boot import (
    KernelRelease,
    parse_cmdline,
    parse_lockdown,
    parse_release,
    read_boot_id,
    read_cmdline,
    read_lockdown,
    read_release,
)
from kernelio.errors import MalformedReading
from kernelio.layout import Layout
from tests.fake_guest import FakeGuest


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6.12.0-1-amd64\n", (6, 12)),
        ("6.1.0-50-cloud-amd64\n", (6, 1)),
        ("7.3.4+deb13-cloud-amd64\n", (7, 3)),
        ("6.18\n", (6, 18)),
        ("7.0-rc1\n", (7, 0)),
    ],
)
def test_reads_the_version_out_of_a_release(text: str, version: tuple[int, int]) -> None:
    assert parse_release(text, "x") == KernelRelease(*version, text.strip())


@given(
    st.integers(0, 99_999),
    st.integers(0, 99_999),
    st.from_regex(r"(\.[0-9]+-[a-z]+)?", fullmatch=True),
)
def test_reads_back_every_version(major: int, minor: int, rest: str) -> None:
    release = parse_release(f"{major}.{minor}{rest}\n", "x")
    assert (release.major, release.minor) == (major, minor)


@given(st.text() | st.binary().map(os.fsdecode) | st.text("0123456789.-+\n"))
def test_any_release_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        release = parse_release(text, "x")
        assert release.text in text


def test_compares_versions_as_numbers() -> None:
    release = parse_release("6.9.1", "x")
    assert release.is_at_least(6, 9)
    assert release.is_at_least(5, 19)
    assert not release.is_at_least(6, 12)
    assert not release.is_at_least(7, 0)


def test_reads_the_release_that_uname_prints() -> None:
    assert read_release(Layout()).text == os.uname().release


def test_reads_the_boot_id(guest: FakeGuest) -> None:
    guest.shows("/proc/sys/kernel/random/boot_id", "1c5a7e6e-5f0a-4c39-9d3b-9a2b7c1d0e4f\n")
    assert read_boot_id(guest.layout) == "1c5a7e6e-5f0a-4c39-9d3b-9a2b7c1d0e4f"

    guest.shows("/proc/sys/kernel/random/boot_id", "again\n")
    with pytest.raises(MalformedReading, match="UUID"):
        read_boot_id(guest.layout)


def test_the_boot_id_stays_for_the_boot() -> None:
    assert read_boot_id(Layout()) == read_boot_id(Layout())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("root=/dev/vda rw  psi=1\n", ("root=/dev/vda", "rw", "psi=1")),
        ('a="b c" d\n', ("a=b c", "d")),
        ('"a=b c" d\n', ("a=b c", "d")),
        ('a="b c', ("a=b c",)),
        ("\n", ()),
    ],
)
def test_splits_the_command_line_as_the_kernel_does(text: str, words: tuple[str, ...]) -> None:
    assert parse_cmdline(text) == words


@given(st.text() | st.binary().map(os.fsdecode))
def test_every_text_is_a_command_line(text: str) -> None:
    assert all('"' not in word for word in parse_cmdline(text))


@given(st.lists(st.from_regex(r"[a-z_.]+(=[a-z0-9,/=]*)?", fullmatch=True)))
def test_reads_back_every_word(words: list[str]) -> None:
    assert list(parse_cmdline(" ".join(words) + "\n")) == words


def test_reads_the_command_line(guest: FakeGuest) -> None:
    guest.shows("/proc/cmdline", "quiet agent.mem_agent_enable=1\n")
    assert read_cmdline(guest.layout) == ("quiet", "agent.mem_agent_enable=1")


@pytest.mark.parametrize("chosen", ["none", "integrity", "confidentiality"])
def test_reads_the_lockdown_in_brackets(guest: FakeGuest, chosen: str) -> None:
    words = "none integrity confidentiality\n".replace(chosen, f"[{chosen}]")
    guest.shows("/sys/kernel/security/lockdown", words)
    assert read_lockdown(guest.layout) == chosen


def test_a_kernel_without_lockdown_says_none_of_it(guest: FakeGuest) -> None:
    assert read_lockdown(guest.layout) is None


@given(st.text() | st.binary().map(os.fsdecode))
def test_any_lockdown_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        chosen = parse_lockdown(text, "x")
        assert f"[{chosen}]" in text
