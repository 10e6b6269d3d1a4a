"""A guest whose host gives it swap: the tool that does so, and who stands between the two."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from lab.guest import Guest
from lab.hybrid import Bridge
from lab.workload import Cgroup, Workload
from memreact_schemas.control import PORT
from memreact_tools.host.swap.qemu import open_qemu
from tests.system.cut_off import CutOff
from tests.system.service import Service
from tests.system.test_swap_on_qemu import begin_host
from tests.tools.servers import serving

__all__ = [
    "SETTINGS",
    "Between",
    "Cold",
    "Relayed",
    "There",
    "ended_well",
    "set_to",
    "standing_still",
]

# What is swapped out is read at once, which elsewhere would be reasons to swap out no more.
SETTINGS = """\
[memcg]
period_secs = 3600
period_psi_percent_limit = 100
eviction_psi_percent_limit = 100
swap = true
swappiness_max = 200
[pressure]
system_psi_percent_limit = 100
[swap]
max_promotion_percent_per_min = 0
[control]
allow_guest = true
"""
_COLD_MIB = 160
_LONG_S = 300.0
_ANSWERED = "answered"


def set_to(folder: Path) -> Sequence[str]:
    """Settings of memreact-host: 512 MiB in that folder, at once."""
    pairs = (f"path={folder}", "size_percent=50", "create_threshold_secs=0")
    return [word for pair in pairs for word in ("--set", f"guest_swap_{pair}")]


class There(NamedTuple):
    """A guest with a memreact in it, and the way to that."""

    service: Service
    bridge: Bridge

    @property
    def guest(self) -> Guest:
        """The guest."""
        return self.service.guest

    def where(self, qmp: str | Path) -> str:
        """As memreact-host is told of it."""
        return f"qmp:{qmp}=hvsock:{self.bridge.path}:{PORT}"

    def host(self, folder: Path, verb: str, *words: str) -> str:
        """Run memreact-host to its end."""
        with self.guest.lend_qmp() as qmp:
            where = [] if verb == "list" else [self.where(qmp)]
            with begin_host(["swap", verb, *where, *set_to(folder), *words]) as tool:
                return ended_well(tool)

    def swapped_bytes(self) -> int:
        """What lies in swap."""
        return 1024 * int(
            self.guest.run("awk 'NR > 1 {n += $4} END {print n+0}' /proc/swaps").stdout
        )

    def areas(self) -> int:
        """How many areas it swaps to."""
        return len(self.guest.run("tail -n +2 /proc/swaps").stdout.splitlines())

    def io_errors(self) -> str:
        """What the guest's kernel says of its disks."""
        return self.guest.run("dmesg | grep -iE 'I/O error|write-error' || true").stdout

    def disks(self) -> list[str]:
        """What the host called the disks that the guest has from it."""
        return self.guest.run(
            "cat /sys/block/vd*/serial | grep -o 'swap[0-9]*' || true"
        ).stdout.split()

    def held_open(self, folder: Path) -> list[str]:
        """Files below a folder of the host's that its QEMU has open, deleted ones too."""
        fds = f"/proc/{self.guest.qemu_pid}/fd"
        links = {os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)}
        return sorted(link for link in links if link.startswith(f"{folder}/"))


class Cold:
    """Cold memory of a guest, whose content is known.

    Args:
        there: The guest.
    """

    def __init__(self, there: There) -> None:
        self._there = there
        self._cgroup = Cgroup(there.guest, "/test.slice/cold")
        self._load = Workload(self._cgroup, "marked_anon", str(_COLD_MIB))
        self._crc = self._load.lines()[0].figures["crc"]
        self._reads = 0

    def goes_out(self, amount: str, deadline: str = "30s") -> str:
        """Have so much of it swapped out, if that can be; returns what was told of it."""
        words = ["squeeze", amount, "--scope", self._cgroup.path, "--deadline", deadline]
        done = self._there.guest.run(["memreact-ctl", *words], check=False, timeout_s=120)
        return done.stdout + done.stderr

    def comes_back_right(self) -> int:
        """Read all of it: it is what it was; returns how often swap was read for that."""
        self._load.signal("USR1")
        self._reads += 1
        read = self._load.wait_for("read", after=self._reads, timeout_s=120)
        assert read.figures["crc"] == self._crc
        return int(read.figures["major_faults"])

    def ends(self) -> None:
        """Give it back."""
        self._load.stop()
        self._cgroup.remove()


class Between:
    """Between a tool and a guest's memreact: something is done once, at one moment of one call.

    Args:
        path: Where the guest's is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.at = ""
        """As "before AddSwap" is heard, "while" it is worked on, or "after" it is answered."""
        self.do: Callable[[], object] = lambda: None
        """What is done then."""
        self.cuts = True
        """Whether the connection ends with it."""

    def __call__(self, stream: socket.socket) -> None:
        """Relay one connection."""
        stream.settimeout(None)  # a swapoff takes its time
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(self._path))
            back = threading.Thread(target=self._answers, args=(guest, stream))
            back.start()
            try:
                self._calls(stream, guest)
            finally:
                with contextlib.suppress(OSError):  # it has hung up
                    guest.shutdown(socket.SHUT_RDWR)
                back.join()

    def _calls(self, stream: socket.socket, guest: socket.socket) -> None:
        while asked := stream.recv(1 << 16):
            if self._is_due("before", asked) and self._done():
                return
            if self._is_due("after", asked):
                self.at = _ANSWERED
            guest.sendall(asked)
            if self._is_due("while", asked) and self._done():
                return

    def _answers(self, guest: socket.socket, stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while answer := guest.recv(1 << 16):
                # The handshake ends in a newline, the answer to the only call in a NUL.
                if self.at == _ANSWERED and answer.endswith(b"\0") and self._done():
                    stream.shutdown(socket.SHUT_RDWR)
                    return
                stream.sendall(answer)

    def _is_due(self, edge: str, asked: bytes) -> bool:
        moment, _, method = self.at.partition(" ")
        return moment == edge and method.encode() in asked

    def _done(self) -> bool:
        self.at = ""
        self.do()
        return self.cuts


class Relayed:
    """memreact-host, which reaches a guest by relays that can kill or stop it at any step.

    Args:
        there: The guest.
        folder: Where its files are.
        relays: A folder for the relays' sockets.
    """

    def __init__(self, there: There, folder: Path, relays: Path) -> None:
        self._there = there
        self.folder = folder
        self._qmp, self._inside = relays / "qmp", relays / "inside"
        self._between = Between(there.bridge.path)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Stand between."""
        with contextlib.ExitStack() as undo:
            self._cut = CutOff(Path(undo.enter_context(self._there.guest.lend_qmp())))
            undo.enter_context(serving(self._qmp, self._cut))
            undo.enter_context(serving(self._inside, self._between))
            self._open = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stand there no more."""
        self._open.close()

    def words(self, verb: str, *words: str) -> list[str]:
        """What the tool is told."""
        where = f"qmp:{self._qmp}=hvsock:{self._inside}:{PORT}"
        return ["swap", verb, where, *set_to(self.folder), *words]

    def run(self, verb: str, *words: str) -> str:
        """Run it to its end."""
        with begin_host(self.words(verb, *words)) as tool:
            return ended_well(tool)

    def killed(self, moment: str, verb: str, *words: str) -> None:
        """Run it until it is killed, as "before device_add"."""
        with self.sent(moment, signal.SIGKILL, verb, *words) as tool:
            tool.communicate(timeout=_LONG_S)
        assert tool.returncode == -signal.SIGKILL, f"it never came to {moment}"

    @contextlib.contextmanager
    def following(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Have it follow the guest; it ends with the block, whatever happens in that."""
        with begin_host(self.words("add", "--follow", *words)) as tool:
            try:
                yield tool
            finally:
                tool.kill()

    @contextlib.contextmanager
    def stopped(self, moment: str, verb: str, *words: str) -> Iterator[None]:
        """Run it until it is stopped, and to its end after the block."""
        with self.sent(moment, signal.SIGSTOP, verb, *words) as tool:
            with standing_still(tool):
                yield
            ended_well(tool)

    @contextlib.contextmanager
    def sent(
        self, moment: str, number: signal.Signals, verb: str, *words: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Run it, and send it a signal at a moment of what it asks for."""
        of_the_guest = moment.endswith("Swap")
        self._cut.kill_at, self._between.at = ("", moment) if of_the_guest else (moment, "")
        self._cut.by, self._between.cuts = number, number == signal.SIGKILL
        with begin_host(self.words(verb, *words)) as tool:
            self._cut.tool = tool.pid
            self._between.do = lambda: os.kill(tool.pid, number)
            yield tool

    def home(self) -> Path:
        """The guest's folder, which is there as long as it has a file."""
        (found,) = self.folder.iterdir()
        return found

    def left(self) -> tuple[list[str], list[str], list[str]]:
        """QEMU's disks, the guest's, and the files: of all that there is of swap."""
        with open_qemu(str(self._qmp), timeout_s=_LONG_S) as qemu:
            disks = sorted(disk.name for disk in qemu.disks())
        files = sorted(each.name for each in self.folder.rglob("swap[0-9]*"))
        return disks, self._there.disks(), files


def ended_well(tool: subprocess.Popen[str]) -> str:
    """Wait for its end, and return what it said."""
    out, err = tool.communicate(timeout=_LONG_S)
    assert tool.returncode == 0, out + err
    return out


@contextlib.contextmanager
def standing_still(tool: subprocess.Popen[str]) -> Iterator[None]:
    """Wait until it is stopped, and let it go on after the block."""
    told = os.waitid(os.P_PID, tool.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert told is not None
    assert told.si_code == os.CLD_STOPPED, "it ended before"
    try:
        yield
    finally:
        tool.send_signal(signal.SIGCONT)
