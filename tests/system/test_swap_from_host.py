"""Swap of a real guest by memreact-host, while the host has trouble of its own."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.guest import Guest
from lab.hybrid import Bridge
from memreact_schemas.control import PORT
from tests.effort import STOPPED_S
from tests.system.service import RecordProperty, Service
from tests.system.swapping_guest import (
    SETTINGS,
    Between,
    Cold,
    Relayed,
    There,
    set_to,
    standing_still,
)
from tests.system.test_swap_on_qemu import ADDING, EDGES, REMOVING, begin_host
from tests.tools.host.swap.small_disk import small_ext4
from tests.tools.servers import serving

PAGE = Path(__file__).parents[2] / "docs/swap.md"
MIB, GIB = 1 << 20, 1 << 30
# So much more than half of the guest's memory makes a second file.
MORE = ("--set", "guest_swap_size_percent=75")
# Of which more than three quarters are soon taken.
LESS = ("--set", "guest_swap_size_percent=5")


@pytest.fixture(scope="module")
def there(package: Path) -> Iterator[There]:
    """A guest that has no swap."""
    with Guest.restore(package=package) as guest, Bridge(guest) as bridge:
        service = Service(guest)
        service.start(SETTINGS)
        yield There(service, bridge)


@pytest.fixture(scope="module")
def cold(there: There) -> Iterator[Cold]:
    """Cold memory that outlives what each test does to its swap."""
    made = Cold(there)
    yield made
    made.ends()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the host's files that is no memory."""
    return tmp_path / "swap"


def page_of(heading: str) -> list[str]:
    """The commands of one section of the page, without their comments."""
    _, _, rest = PAGE.read_text().partition(f"{heading}\n")
    section = re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^ {4}(\S.*)$", section, re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in lines]


def test_the_page_is_followed_to_the_letter(there: There, folder: Path) -> None:
    """But for the folder of the files and the guest's sockets, which are those of this guest."""
    lines = [line.split() for line in page_of("## Ten minutes with QEMU")]
    (setting,) = [words for words in lines if words[0] == "memreact-ctl"]
    host = [words for words in lines if words[0] == "memreact-host"]
    assert [words[2] for words in host] == ["add", "list", "remove"]
    assert f"{host[0][3]}=hvsock:/run/shop/vsock:{PORT}`" in PAGE.read_text()

    def done(words: list[str], *, check: bool = True, by: str = "") -> str:
        with there.guest.lend_qmp() as qmp:
            mine = [word.replace("/run/shop/qmp", qmp) + by for word in words[3:4]]
            with begin_host([*words[1:3], *mine, *words[4:], *set_to(folder)]) as tool:
                out, err = tool.communicate(timeout=300)
        assert (tool.returncode == 0) is check, out + err
        return out + err

    assert setting[1:3] == ["--address", f"vsock:7:{PORT}"]
    there.guest.run(["/usr/bin/memreact-ctl", *setting[3:]])
    done(host[0], by=f"=hvsock:{there.bridge.path}:{PORT}")
    assert "in use" in done(host[1])
    done(host[2])
    assert os.listdir(folder) == []

    there.service.stop()
    on, swapon, off, remove = page_of("### A guest without memreact")
    done(host[0])
    there.guest.run(f"udevadm settle; {on}; {swapon}")
    assert there.guest.run("tail -n +2 /proc/swaps").stdout
    assert "--swapped-off" in done(host[2], check=False)
    there.guest.run(f"{on}; {off}")
    done(remove.split())
    assert os.listdir(folder) == []

    there.service.start(SETTINGS)
    done(host[0])
    commands = page_of("## In the guest")
    for command in commands:
        there.guest.run(command, timeout_s=120)
    assert [command.split()[2] for command in commands] == ["list", "add", "remove"]
    done(remove.split())
    assert os.listdir(folder) == []


@pytest.mark.parametrize("edge", ["before", "while", "after"])
def test_a_memreact_that_is_killed_while_it_swaps_off_loses_nothing(
    there: There, cold: Cold, folder: Path, tmp_path: Path, edge: str
) -> None:
    there.host(folder, "add")
    cold.goes_out("30M")

    def kill() -> None:
        there.guest.run("systemctl kill --signal=KILL --kill-whom=main memreact.service")

    with there.guest.lend_qmp() as qmp:
        between = Between(there.bridge.path)
        between.at, between.do = f"{edge} RemoveSwap", kill
        with serving(tmp_path / "inside", between):
            where = f"qmp:{qmp}=hvsock:{tmp_path}/inside:{PORT}"
            with begin_host(["swap", "remove", where, *set_to(folder)]) as tool:
                tool.communicate(timeout=120)
    there.guest.run("timeout 60 sh -c 'until memreact-ctl status; do sleep 0.2; done'")
    if edge == "before":
        assert tool.returncode == 1
        assert there.swapped_bytes() > 10 * MIB, "what was not asked is not taken"
    cold.comes_back_right()
    there.host(folder, "remove")
    assert os.listdir(folder) == []
    cold.comes_back_right()
    assert there.io_errors() == ""


def moments(steps: Sequence[str]) -> list[str]:
    """Before and after each of them, and while the guest works on what it is asked."""
    at_edges = [f"{edge} {step}" for step in steps for edge in EDGES]
    return at_edges + [f"while {step}" for step in steps if step.endswith("Swap")]


def test_a_tool_that_is_killed_while_it_adds_to_a_guest_that_swaps_leaks_and_loses_nothing(
    there: There, cold: Cold, folder: Path, tmp_path: Path
) -> None:
    with Relayed(there, folder, tmp_path) as tool:
        tool.run("add")
        cold.goes_out("30M")
        for moment in moments(ADDING):
            tool.killed(moment, "add", *MORE)
            assert there.swapped_bytes() > 10 * MIB, moment
            tool.run("add", *MORE)
            assert tool.left() == (["swap0", "swap1"],) * 3, moment
            assert there.areas() == 2, moment
            tool.run("remove", "--file", "swap1")
            assert tool.left() == (["swap0"],) * 3, moment
            assert there.held_open(folder) == [f"{tool.home()}/swap0"], moment
        cold.comes_back_right()
        tool.run("remove")
        assert tool.left() == ([], [], [])
    assert os.listdir(folder) == there.held_open(folder) == []
    cold.comes_back_right()
    assert there.io_errors() == ""


def test_a_tool_that_is_killed_while_it_takes_swap_that_holds_memory_leaks_and_loses_nothing(
    there: There, cold: Cold, folder: Path, tmp_path: Path
) -> None:
    with Relayed(there, folder, tmp_path) as tool:
        for moment in moments(REMOVING):
            tool.run("add")
            cold.goes_out("12M")
            assert there.swapped_bytes() > 5 * MIB, moment
            tool.killed(moment, "remove")
            disks, of_the_guest, _ = tool.left()
            assert there.areas() <= len(of_the_guest) <= len(disks), moment
            tool.run("remove")
            assert tool.left() == ([], [], []), moment
            assert os.listdir(folder) == there.held_open(folder) == [], moment
    cold.comes_back_right()
    assert there.io_errors() == ""


def goes_on_swapping(cold: Cold) -> None:
    """The guest swaps out and in, what comes back is right; for as long as is asked for."""
    until = time.monotonic() + STOPPED_S
    while True:
        told = cold.goes_out("30M")
        assert cold.comes_back_right(), f"nothing was swapped out: {told}"
        if time.monotonic() >= until:
            return


def test_a_tool_that_follows_a_guest_and_is_stopped_changes_nothing_and_goes_on(
    there: There, cold: Cold, folder: Path, tmp_path: Path
) -> None:
    with Relayed(there, folder, tmp_path) as tool, tool.following(*LESS) as follows:
        assert follows.stdout is not None
        assert "the guest swaps to swap0" in follows.stdout.readline()
        follows.send_signal(signal.SIGSTOP)
        with standing_still(follows):
            goes_on_swapping(cold)
            told = cold.goes_out("60M")
            assert there.swapped_bytes() > 40 * MIB, told
            assert tool.left() == (["swap0"],) * 3
        assert "the guest swaps to swap1" in follows.stdout.readline()
        follows.send_signal(signal.SIGINT)
        follows.communicate(timeout=60)
        cold.comes_back_right()
        tool.run("remove")
    assert os.listdir(folder) == there.held_open(folder) == []
    cold.comes_back_right()


def test_a_tool_that_is_stopped_at_work_leaves_the_guest_to_itself_and_goes_on(
    there: There, cold: Cold, folder: Path, tmp_path: Path
) -> None:
    with Relayed(there, folder, tmp_path) as tool:
        tool.run("add")
        with tool.stopped("after device_add", "add", *MORE):
            goes_on_swapping(cold)
            assert there.areas() == 1
        assert (there.areas(), tool.left()) == (2, (["swap0", "swap1"],) * 3)
        cold.goes_out("30M")
        with tool.stopped("while RemoveSwap", "remove"):
            alone = "[ $(wc -l < /proc/swaps) = 2 ]"  # a head, and the second one
            there.guest.run(f"timeout 60 sh -c 'until {alone}; do sleep 0.1; done'")
            cold.comes_back_right()
        assert tool.left() == ([], [], [])
    assert os.listdir(folder) == there.held_open(folder) == []
    cold.comes_back_right()
    assert there.io_errors() == ""


def test_a_host_whose_file_system_is_full_is_told_of_and_the_guest_keeps_its_pages(
    there: There, cold: Cold, tmp_path: Path, record_property: RecordProperty
) -> None:
    with small_ext4(tmp_path / "disk", 2 * GIB) as disk:
        there.host(disk / "swap", "add")
        cold.goes_out("30M")
        filler = fill(disk)
        cold.goes_out("60M", "10s")
        errors = there.io_errors()
        assert "Write-error on swap-device" in errors
        told = there.host(disk / "swap", "list")
        record_property("the guest's kernel, and list", (len(errors.splitlines()), told))
        assert "reads and writes failed" in told
        cold.comes_back_right()
        assert "on a file system that is full?" in there.host(disk / "swap", "add")
        filler.unlink()
        there.guest.run("dmesg --clear")
        cold.goes_out("60M")
        assert cold.comes_back_right(), "there is room again"
        assert there.guest.run("systemctl is-active memreact.service").stdout == "active\n"
        there.host(disk / "swap", "remove")
        assert os.listdir(disk / "swap") == there.held_open(disk) == []
    cold.comes_back_right()
    assert there.io_errors() == ""


def fill(folder: Path) -> Path:
    """Take all the room that a file system has, in a file of blocks that nobody writes."""
    filler = folder / "filler"
    size, step = 0, GIB
    with filler.open("wb") as file:
        while step >= os.statvfs(folder).f_bsize:
            try:
                os.posix_fallocate(file.fileno(), size, step)
            except OSError:
                step //= 2
            else:
                size += step
    return filler
