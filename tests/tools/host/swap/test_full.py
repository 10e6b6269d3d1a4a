"""A file system that is full at every point, and files that end at every byte."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from memreact_tools.host.swap.files import Home, open_home
from memreact_tools.host.swap.owner import owner_of
from memreact_tools.host.swap.passes import Guest, Passed, clear_the_dead, give_back, grow_if_due
from memreact_tools.host.swap.sizing import Grow, Pace, Rest, SwapSettings
from memreact_tools.host.swap.trouble import NoRoom, SwapTrouble
from tests.tools.host.swap.fake_monitor import FakeMonitor
from tests.tools.host.swap.small_disk import small

MIB = 1 << 20
# What fills it is a file of holes: the room that is asked for is not there in the machine.
SMALL_BYTES = 2 << 30
SETTINGS = SwapSettings(
    enable_guest_swap=True,
    guest_swap_path="",
    guest_swap_size_percent=1,
    guest_swap_create_threshold_secs=60,
)
RECORD = len(msgspec.json.encode(owner_of(os.getpid(), "qmp:/q")))


def grow(path: Path, monitor: FakeMonitor) -> Passed:
    """One pass of a tool that begins anew."""
    with open_home(str(path / "swap"), in_memory_too=True) as home:
        list(clear_the_dead(home))
        return grow_if_due(home, Guest("qmp:/q", monitor), SETTINGS, Pace(monitor.memory, 0), 0)


def take_back(home: Home, monitor: FakeMonitor) -> None:
    list(give_back(home, Guest("qmp:/q", monitor), [], swapped_off=True))


def swap_files(path: Path) -> list[str]:
    return sorted(each.name for each in path.rglob("swap[0-9]*"))


@pytest.mark.parametrize("inodes", range(2, 7))
def test_a_file_system_without_room_for_one_more_name_leaves_no_file_without_a_disk(
    tmp_path: Path, inodes: int
) -> None:
    """Names are wanted for the folder, the guest's, whose it is, and the file."""
    monitor = FakeMonitor()
    with small(tmp_path / "small", size=SMALL_BYTES, nr_inodes=inodes) as path:
        with suppress(SwapTrouble, OSError):
            grow(path, monitor)
        assert len(swap_files(path)) == len(monitor.there) == (inodes > 4)
        subprocess.run(["mount", "-o", "remount,nr_inodes=99", str(path)], check=True)
        grow(path, monitor)
        assert len(swap_files(path)) == len(monitor.there) == 1


@pytest.mark.parametrize("pages", range(4))
def test_a_file_system_without_room_for_one_more_page_is_told_and_left_as_it_was(
    tmp_path: Path, pages: int
) -> None:
    monitor = FakeMonitor()
    with small(tmp_path / "small", size=4 * MIB) as path:
        filler = path / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 4 * MIB - pages * 4096)
        with suppress(NoRoom):
            assert isinstance(grow(path, monitor).trouble, NoRoom)
        assert (swap_files(path), monitor.there) == ([], [])
        assert sorted(each.name for each in path.rglob("owner*")) == []


def test_what_fills_a_file_system_can_be_taken_away_when_it_is_full(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    with small(tmp_path / "small", size=SMALL_BYTES) as path:
        assert isinstance(grow(path, monitor).decision, Grow)
        free = os.statvfs(path)
        with (path / "filler").open("wb") as file, suppress(OSError):
            os.truncate(path / "filler", SMALL_BYTES)
            # A limit below what is there is refused; the smallest that is not leaves nothing.
            file.flush()
        used = (free.f_blocks - free.f_bfree) * free.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used}", str(path)], check=True)
        assert os.statvfs(path).f_bavail == 0
        assert isinstance(grow(path, monitor).decision, Rest)
        with open_home(str(path / "swap"), in_memory_too=True) as home:
            take_back(home, monitor)
        assert (swap_files(path), monitor.there) == ([], [])


@contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """No file may be larger: a write ends there, as where a disk is full, at any byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size_bytes", [*range(0, RECORD, 7), RECORD - 1])
def test_a_record_that_ends_at_any_byte_is_none_and_the_next_pass_writes_it(
    tmp_path: Path, size_bytes: int
) -> None:
    monitor = FakeMonitor()
    with files_end_at(size_bytes), pytest.raises(SwapTrouble):
        grow(tmp_path, monitor)
    assert list((tmp_path / "swap").rglob("*own*")) == []
    assert (swap_files(tmp_path), monitor.there) == ([], [])
    assert isinstance(grow(tmp_path, monitor).decision, Grow)


@pytest.mark.parametrize("size_bytes", [RECORD, RECORD + 4096, 10 * MIB - 1])
def test_a_file_that_may_not_be_so_large_leaves_nothing(tmp_path: Path, size_bytes: int) -> None:
    monitor = FakeMonitor()
    with files_end_at(size_bytes):
        assert "no files of that size" in str(grow(tmp_path, monitor).trouble)
    assert (swap_files(tmp_path), monitor.there) == ([], [])
