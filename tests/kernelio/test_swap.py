from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import KernelioError, MalformedReading, Unsupported, Vanished
from kernelio.layout import Layout
from kernelio.psi import TriggerSet
from kernelio.swap import (
    DISCARDS,
    SwapDevice,
    ZramUse,
    open_swaps,
    parse_swaps,
    parse_zram_mm_stat,
    read_swaps,
    read_zram,
    swap_on,
    zram_name,
)
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

_HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
_DEVICE = st.builds(
    SwapDevice,
    path=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).filter(
        lambda path: not path.endswith(" (deleted)")
    ),
    kind=st.sampled_from(["partition", "file"]),
    size_bytes=st.integers(0, 2**54 - 1).map(lambda kb: kb * 1024),
    used_bytes=st.integers(0, 2**54 - 1).map(lambda kb: kb * 1024),
    priority=st.integers(-(2**15), 2**15 - 1),
    deleted=st.booleans(),
)
_USE = st.builds(ZramUse, *[st.integers(0, 2**64 - 1)] * 4)


def _printed(device: SwapDevice) -> str:
    """As mm/swapfile.c, swap_show(), and d_path() behind it."""
    name = device.path + " (deleted)" * device.deleted
    name = re.sub(r"[ \t\n\\]", lambda char: f"\\{ord(char[0]):03o}", name)
    kind = "partition" if device.kind == "partition" else "file\t"
    size, used = device.size_bytes // 1024, device.used_bytes // 1024
    tab = "\t" if size < 10_000_000 else ""
    return f"{name:<39} {kind}\t{size}\t{tab}{used}\t{tab}{device.priority}\n"


@pytest.mark.parametrize("file", golden_files("proc/swaps"))
def test_reads_what_each_recorded_kernel_printed(file: str) -> None:
    for device in parse_swaps(os.fsdecode(golden_text(file)), file):
        assert device.path.startswith("/")
        assert 0 <= device.used_bytes <= device.size_bytes


def test_restores_the_blank_and_the_backslash_in_a_name() -> None:
    text = os.fsdecode(golden_text("6.18/proc/swaps"))
    zram, file = parse_swaps(text, "/proc/swaps")
    assert zram == SwapDevice("/dev/zram0", "partition", 4092 * 1024, 0, 5)
    assert file == SwapDevice("/srv/swap/a b\\c", "file", 2044 * 1024, 0, -2)


@given(st.lists(_DEVICE, max_size=5))
def test_reads_back_every_table_the_kernel_can_print(devices: list[SwapDevice]) -> None:
    text = _HEADER + "".join(map(_printed, devices))
    assert list(parse_swaps(text, "/proc/swaps")) == devices


@given(st.text() | st.binary().map(os.fsdecode) | st.text().map(lambda text: _HEADER + text))
def test_any_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        devices = parse_swaps(text, "/proc/swaps")
        assert all(isinstance(device, SwapDevice) for device in devices)


def test_a_malformed_line_is_quoted() -> None:
    with pytest.raises(MalformedReading, match="no swap line"):
        parse_swaps(_HEADER + "no swap line\n", "x")


def test_a_table_without_areas_is_empty(guest: FakeGuest) -> None:
    guest.shows("/proc/swaps", _HEADER)
    assert read_swaps(guest.layout) == ()


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/dev/zram0", "partition", "zram0"),
        ("/dev/zram12", "partition", "zram12"),
        ("/dev/vda2", "partition", None),
        ("/zram0", "partition", "zram0"),  # its mount namespace is gone
        ("/zram0", "file", None),
    ],
)
def test_knows_zram_by_its_device_name(path: str, kind: str, name: str | None) -> None:
    assert zram_name(SwapDevice(path, kind, 1, 0, 0)) == name


@pytest.mark.parametrize("file", golden_files("mm_stat"))
def test_reads_what_zram_takes_on_each_recorded_kernel(file: str) -> None:
    use = parse_zram_mm_stat(os.fsdecode(golden_text(file)), file)
    assert use.compressed_bytes <= use.used_bytes


def test_reads_what_a_zram_device_takes(guest: FakeGuest) -> None:
    guest.shows("/sys/block/zram0/mm_stat", golden_text("6.18/sys/block/zram0/mm_stat"))
    assert read_zram(guest.layout, "zram0") == ZramUse(4096, 73, 12288, 0)


@given(_USE, st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_reads_back_every_use_of_any_kernel(use: ZramUse, later: list[int]) -> None:
    text = " ".join(f"{number:8}" for number in (*use, *later)) + "\n"
    assert parse_zram_mm_stat(text, "x") == use


@given(st.text() | st.binary().map(os.fsdecode))
def test_any_zram_text_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        use = parse_zram_mm_stat(text, "x")
        assert len(use) == 4


def test_a_zram_device_that_was_removed_has_vanished(guest: FakeGuest) -> None:
    with pytest.raises(Vanished):
        read_zram(guest.layout, "zram7")


def test_the_table_can_be_waited_for_and_is_silent_while_nothing_changes(guest: FakeGuest) -> None:
    waiting = TriggerSet()
    fd = open_swaps(Layout())
    waiting.add(fd, "swaps")
    assert waiting.wait(timeout_ms=0) == []
    waiting.add(fd, "swaps")
    assert waiting.wait(timeout_ms=0) == []
    os.close(fd)
    waiting.close()
    with pytest.raises(Unsupported):
        open_swaps(guest.layout)


@pytest.mark.parametrize("discard", DISCARDS)
@pytest.mark.parametrize("priority", [None, 0, 32767])
def test_what_is_no_block_device_does_not_become_swap(
    discard: str, priority: int | None, tmp_path: Path
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(KernelioError) as refused:
        swap_on(fd, "/dev/vdc", priority=priority, discard=discard)
    os.close(fd)
    assert refused.value.path == "/dev/vdc"
