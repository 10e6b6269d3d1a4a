"""Disks of a real QEMU that starts no guest: what its monitor does, not what a kernel does."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from memreact_tools.host.__main__ import main
from memreact_tools.host.swap.monitor import Disk
from memreact_tools.host.swap.qemu import QemuMonitor, _node, open_qemu
from memreact_tools.host.swap.trouble import StillHeld, SwapTrouble
from tests.system.cut_off import CutOff
from tests.tools.host.swap.guest_double import GuestDouble
from tests.tools.host.swap.small_disk import small
from tests.tools.servers import serving

MIB = 1 << 20
LONG_S, SHORT_S = 60, 0.5
# Of the two ways in which a port takes devices, this one waits for no guest.
NATIVE = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
PORTS = (
    "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
    "-device", "pcie-root-port,id=rp1,chassis=2,slot=2",
    "-device", "pcie-root-port,chassis=3,slot=3",
)  # fmt: skip

Start = Callable[..., Path]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a QEMU and return its socket; it is there once QEMU has gone to the background."""
    started = contextlib.ExitStack()

    def begin(*words: str) -> Path:
        path = tmp_path / "qmp"
        subprocess.run(
            [
                "qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-m", "64",
                "-machine", "q35,accel=tcg", "-daemonize", "-name", "shop",
                "-pidfile", tmp_path / "pid", "-qmp", f"unix:{path},server=on,wait=off",
                *words,
            ],
            check=True,
        )  # fmt: skip
        started.callback(_end, int((tmp_path / "pid").read_text()))
        return path

    with started:
        yield begin


def _end(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # the test ended it itself
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], LONG_S)
    finally:
        os.close(fd)


def talk(path: Path, patience_s: float = LONG_S) -> contextlib.AbstractContextManager[QemuMonitor]:
    """A conversation."""
    return open_qemu(str(path), timeout_s=LONG_S, patience_s=patience_s)


def a_file(tmp_path: Path, name: str = "swap0") -> str:
    """A file of holes."""
    path = tmp_path / name
    path.touch()
    os.truncate(path, 8 * MIB)
    return str(path)


def test_it_knows_its_guest(start: Start, tmp_path: Path) -> None:
    with talk(start()) as qemu:
        assert qemu.pid == int((tmp_path / "pid").read_text())
        assert (qemu.called, qemu.memory_bytes(), qemu.disks()) == ("shop", 64 * MIB, [])


def test_disks_come_behind_ports_that_have_a_name_until_none_is_free(
    start: Start, tmp_path: Path
) -> None:
    path = start(*PORTS)
    files = [a_file(tmp_path, f"swap{n}") for n in range(3)]
    with talk(path) as qemu:
        qemu.add("swap0", files[0], direct=True)
        qemu.add("swap1", files[1], direct=False)
        with pytest.raises(SwapTrouble, match="all 2 are taken"):
            qemu.add("swap2", files[2], direct=True)
    with talk(path) as another:  # as after a restart of ours
        assert sorted(another.disks()) == [
            Disk("swap0", files[0], 8 * MIB, "01/00"),
            Disk("swap1", files[1], 8 * MIB, "02/00"),
        ]
    assert [os.stat(file).st_blocks for file in files] == [0, 0, 0]


def test_a_disk_goes_and_its_port_is_free_again(start: Start, tmp_path: Path) -> None:
    with talk(start(*PORTS[:2], *NATIVE)) as qemu:
        for _ in range(3):
            qemu.add("swap0", a_file(tmp_path), direct=True)
            qemu.remove("swap0")
            assert qemu.disks() == []


def test_what_the_guest_holds_stays_until_it_is_started_anew(start: Start, tmp_path: Path) -> None:
    path = start(*PORTS[:2])
    with talk(path) as qemu:
        qemu.add("swap0", a_file(tmp_path), direct=True)
    for _ in range(2):
        with talk(path, SHORT_S) as qemu, pytest.raises(StillHeld, match="may be asked again"):
            qemu.remove("swap0")
    with talk(path) as qemu:
        assert qemu.disks()[0].plugged
        qemu._call("system_reset", dict)
        qemu.remove("swap0")
        assert qemu.disks() == []


def test_a_file_that_a_killed_tool_left_open_is_seen_and_closed(
    start: Start, tmp_path: Path
) -> None:
    path = start(*PORTS)
    file = a_file(tmp_path)
    with talk(path) as qemu:
        qemu._call(
            "blockdev-add",
            dict,
            driver="raw",
            **{"node-name": "memreact-swap0", "file": {"driver": "file", "filename": file}},
        )
    with talk(path) as qemu:
        assert qemu.disks() == [Disk("swap0", file, 8 * MIB, plugged=False)]
        qemu.remove("swap0")
        assert qemu.disks() == []


def test_one_file_is_no_two_disks(start: Start, tmp_path: Path) -> None:
    with talk(start(*PORTS)) as qemu:
        qemu.add("swap0", a_file(tmp_path), direct=True)
        with pytest.raises(SwapTrouble, match="lock"):
            qemu.add("swap1", a_file(tmp_path), direct=True)
        assert [disk.name for disk in qemu.disks()] == ["swap0"]
        with pytest.raises(SwapTrouble, match="swap0"):
            qemu.add("swap0", a_file(tmp_path, "other"), direct=True)
        assert [(disk.name, disk.plugged) for disk in qemu.disks()] == [("swap0", True)]


def test_a_file_that_is_not_there_leaves_nothing(start: Start, tmp_path: Path) -> None:
    with talk(start(*PORTS)) as qemu:
        with pytest.raises(SwapTrouble, match="No such file"):
            qemu.add("swap0", str(tmp_path / "none"), direct=True)
        assert qemu.disks() == []


def test_a_guest_without_ports_is_told_so(start: Start, tmp_path: Path) -> None:
    with talk(start()) as qemu, pytest.raises(SwapTrouble, match="it has none"):
        qemu.add("swap0", a_file(tmp_path), direct=True)


def words_of(tmp_path: Path, verb: str, *words: str) -> list[str]:
    """What memreact-host is told, with a folder of the tests' own."""
    pairs = ["--set", f"guest_swap_path={tmp_path}/swap", "--set", "guest_swap_size_percent=50"]
    force = ["--force"] if verb == "add" else []  # the tests' folder may lie on a tmpfs
    return ["swap", verb, *words, *pairs, *force]


def host(tmp_path: Path, verb: str, *words: str) -> int:
    """Run memreact-host."""
    return main(words_of(tmp_path, verb, *words))


def begin_host(words: Sequence[str]) -> subprocess.Popen[str]:
    """Start memreact-host as a process of its own."""
    command = [sys.executable, "-m", "memreact_tools.host", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_from_the_command_to_the_disk_and_back(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"qmp:{start(*PORTS, *NATIVE)}"
    assert host(tmp_path, "add", where) == 0
    assert "swap0, 32 MiB, is a disk" in capsys.readouterr().out
    with talk(Path(where[4:])) as qemu:
        (disk,) = qemu.disks()
    assert (disk.name, disk.size_bytes, disk.pci_path) == ("swap0", 32 * MIB, "01/00")
    assert os.stat(disk.path).st_blocks == 0
    assert host(tmp_path, "remove", where, "--swapped-off") == 0
    assert os.listdir(tmp_path / "swap") == []


def test_a_guest_is_followed_to_its_end_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    where = f"qmp:{start(*PORTS)}"
    words = ["swap", "add", where, "--follow", "--force"]
    for pair in (f"path={tmp_path}/swap", "size_percent=50", "create_threshold_secs=0"):
        words += ["--set", f"guest_swap_{pair}"]
    with begin_host(words) as follows:
        assert follows.stdout is not None
        assert "swap0, 32 MiB, is a disk" in follows.stdout.readline()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        assert "of a guest that is gone is deleted" in follows.stdout.readline()
    assert follows.returncode == 0
    assert os.listdir(tmp_path / "swap") == []


class Running(NamedTuple):
    """A QEMU that no kernel runs in, what its guest's memreact would say, and who is between."""

    where: str
    socket: Path
    guest: GuestDouble
    cut: CutOff


@pytest.fixture
def running(start: Start, tmp_path: Path) -> Iterator[Running]:
    """A QEMU behind a relay that can kill whoever talks to it."""
    qmp, guest = start(*PORTS, *NATIVE), GuestDouble()
    cut = CutOff(qmp)
    guest.when_asked, guest.when_answered = cut.asked, cut.answered
    with serving(tmp_path / "relay", cut), serving(tmp_path / "guest", guest):
        yield Running(f"qmp:{tmp_path}/relay=unix:{tmp_path}/guest", qmp, guest, cut)


def killed_at(running: Running, moment: str, words: list[str]) -> None:
    """Run memreact-host until it is killed, at the begin or the end of what it asks for."""
    running.cut.kill_at = moment
    with begin_host(words) as tool:
        running.cut.tool = tool.pid
        tool.communicate(timeout=LONG_S)
    assert tool.returncode == -signal.SIGKILL, f"it never came to {moment}"


def there(running: Running, tmp_path: Path) -> tuple[list[tuple[str, bool]], list[str], list[str]]:
    """The disks with whether the guest has them, what it swaps to, and the files."""
    with talk(running.socket) as qemu:
        disks = [(disk.name, disk.plugged) for disk in qemu.disks()]
    files = sorted(each.name for each in (tmp_path / "swap").rglob("swap[0-9]*"))
    return disks, sorted(running.guest.used), files


ADDING = ("query-memory-size-summary", "blockdev-add", "device_add", "AddSwap")
REMOVING = ("RemoveSwap", "device_del", "blockdev-del")
EDGES = ("before", "after")


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("step", ADDING)
def test_a_tool_that_is_killed_while_it_adds_is_taken_over_by_the_next(
    running: Running, tmp_path: Path, step: str, edge: str
) -> None:
    killed_at(running, f"{edge} {step}", words_of(tmp_path, "add", running.where))
    assert host(tmp_path, "add", running.where) == 0
    assert there(running, tmp_path) == ([("swap0", True)], ["memreact-swap0"], ["swap0"])
    assert host(tmp_path, "remove", running.where) == 0
    assert there(running, tmp_path) == ([], [], [])


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("step", REMOVING)
def test_a_tool_that_is_killed_while_it_removes_is_taken_over_by_the_next(
    running: Running, tmp_path: Path, step: str, edge: str
) -> None:
    assert host(tmp_path, "add", running.where) == 0
    killed_at(running, f"{edge} {step}", words_of(tmp_path, "remove", running.where))
    disks, used, _ = there(running, tmp_path)
    assert len(disks) >= len(used), "what the guest swaps to is never taken away"
    assert host(tmp_path, "remove", running.where) == 0
    assert there(running, tmp_path) == ([], [], [])
    assert os.listdir(tmp_path / "swap") == []


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("verb", "step"), [("add", "AddSwap"), ("remove", "RemoveSwap")])
def test_a_guest_that_is_killed_while_it_is_asked_leaves_nothing_after_the_next_pass(
    start: Start, tmp_path: Path, verb: str, step: str, edge: str
) -> None:
    guest = GuestDouble()
    where = f"qmp:{start(*PORTS, *NATIVE)}=unix:{tmp_path}/guest"

    def kill(method: str, _serial: str = "") -> None:
        if method == step:
            _end(int((tmp_path / "pid").read_text()))

    with serving(tmp_path / "guest", guest):
        if verb == "remove":
            assert host(tmp_path, "add", where) == 0
        if edge == "before":
            guest.when_asked = kill
        else:
            guest.when_answered = kill
        host(tmp_path, verb, where)
    assert host(tmp_path, "remove") == 0
    assert os.listdir(tmp_path / "swap") == []


def test_a_tool_that_is_interrupted_while_a_guest_swaps_off_leaves_all_as_it_was(
    running: Running, tmp_path: Path
) -> None:
    assert host(tmp_path, "add", running.where) == 0
    running.guest.when_asked = lambda method, _: (
        os.kill(tool.pid, signal.SIGINT) if method == "RemoveSwap" else None
    )
    running.guest.refuses["RemoveSwap"] = ("NotPossible", {"why": "whoever asked is gone"})
    with begin_host(words_of(tmp_path, "remove", running.where)) as tool:
        tool.communicate(timeout=LONG_S)
    assert tool.returncode == 1
    assert there(running, tmp_path) == ([("swap0", True)], ["memreact-swap0"], ["swap0"])


def test_a_file_system_that_is_full_is_told_to_the_guest_and_what_it_discards_is_room_again(
    start: Start, tmp_path: Path
) -> None:
    path = start(*PORTS, *NATIVE)
    with small(tmp_path / "small", size=4 * MIB) as folder, talk(path) as qemu:
        file = a_file(folder)
        qemu._call("blockdev-add", dict, **_node("memreact-swap0", file, direct=False))
        taken = []
        for what in ("write 0 3M", "write 3M 4M", "discard 0 8M", "write 4M 3M"):
            qemu._call("human-monitor-command", str, **_as_a_guest(what))
            taken.append(os.stat(file).st_blocks * 512)
        assert taken[0] == taken[3] == 3 * MIB
        assert 3 * MIB <= taken[1] <= 4 * MIB, "there is no more"
        assert taken[2] == 0
        assert qemu._call("query-status", dict)["status"] == "prelaunch", "as it was started"
        qemu.remove("swap0")


def test_what_a_full_disk_is_to_a_guest_is_an_error_and_no_halt(
    start: Start, tmp_path: Path
) -> None:
    with talk(start(*PORTS, *NATIVE)) as qemu:
        qemu.add("swap0", a_file(tmp_path), direct=False)
        for policy in ("werror", "rerror"):
            assert qemu._get("/machine/peripheral/memreact-swap0", policy, str) == "report"


def test_what_the_host_could_not_write_is_counted_and_told(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = start(*PORTS, *NATIVE)
    where = f"qmp:{path}"
    with small(tmp_path / "swap", size=64 * MIB) as folder:
        subprocess.run(["mount", "-o", "remount,size=2G", str(folder)], check=True)
        assert host(tmp_path, "add", where) == 0
        subprocess.run(["mount", "-o", "remount,size=1M", str(folder)], check=True)
        with talk(path) as qemu:
            device = "/machine/peripheral/memreact-swap0/virtio-backend"
            write = f'qemu-io -d {device} "aio_write 0 4M"'
            qemu._call("human-monitor-command", str, **{"command-line": write})
            qemu._call("human-monitor-command", str, **_as_a_guest("flush"))
            assert [disk.failed for disk in qemu.disks()] == [1]
        capsys.readouterr()
        assert host(tmp_path, "list") == 0
        assert "disk, 1 reads and writes failed" in capsys.readouterr().out
        assert host(tmp_path, "add", where) == 0
        assert "swap0: 1 reads and writes of the guest's failed" in capsys.readouterr().out
        assert host(tmp_path, "remove", where, "--swapped-off") == 0


def _as_a_guest(what: str) -> dict[str, str]:
    """What has QEMU do with a disk what a guest would."""
    return {"command-line": f'qemu-io memreact-swap0 "{what}"'}
