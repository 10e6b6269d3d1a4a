"""Workloads in a guest, each in a cgroup, told from the host what they print."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import cast

import msgspec

from lab.agent import Running
from lab.errors import CommandFailed, DeadlinePassed
from lab.guest import Guest

__all__ = ["CGROUP_ROOT", "Cgroup", "Line", "Workload", "put_programs", "zram_swap"]

CGROUP_ROOT = "/sys/fs/cgroup"
_PROGRAMS = Path(__file__).with_name("workloads")
_THERE = "/opt/lab"  # a namespace package `lab` that holds the workloads only
_POLL_S = 0.1


class Line(msgspec.Struct, frozen=True):
    """One line that a workload printed.

    Args:
        what: What happened: "ready" first of all.
        at_us: When, on the guest's CLOCK_MONOTONIC.
        figures: All its figures by name.
    """

    what: str
    at_us: int
    figures: dict[str, int | float]


class Cgroup:
    """A cgroup of the guest, made with its parents, memory and io controllers on.

    Args:
        guest: Where.
        path: As the kernel says it, for example "/test.slice/cold".
    """

    def __init__(self, guest: Guest, path: str) -> None:
        self.guest = guest
        self.path = path
        self.folder = CGROUP_ROOT + path
        above = CGROUP_ROOT
        steps = []
        for name in path.strip("/").split("/"):
            steps.append(f"echo +memory +io +cpu > {shlex.quote(above)}/cgroup.subtree_control")
            above += f"/{name}"
            steps.append(f"mkdir -p {shlex.quote(above)}")
        guest.run(" && ".join(steps))

    def set(self, file: str, value: str | int) -> None:
        """Write one of its files."""
        self.guest.run(f"echo {value} > {shlex.quote(f'{self.folder}/{file}')}")

    def read(self, file: str) -> str:
        """Read one of its files."""
        return self.guest.run(["cat", f"{self.folder}/{file}"]).stdout

    def number(self, file: str, key: str = "") -> int:
        """A figure of one of its files; with a key, of a flat keyed one such as memory.stat."""
        text = self.read(file)
        if not key:
            return int(text)
        return next(int(row[1]) for row in map(str.split, text.splitlines()) if row[0] == key)

    def remove(self) -> None:
        """Kill what is in it and remove it."""
        folder = shlex.quote(self.folder)
        self.guest.run(
            f"echo 1 > {folder}/cgroup.kill; "
            f"while grep -q 'populated 1' {folder}/cgroup.events; do sleep 0.05; done; "
            f"rmdir {folder}"
        )


class Workload:
    """A program of lab/workloads, started in a cgroup and ready when the constructor returns.

    Args:
        cgroup: Where it runs.
        program: For example "cold_files".
        words: Its arguments.
        ready_s: Seconds within which it must be ready.
    """

    def __init__(self, cgroup: Cgroup, program: str, *words: str, ready_s: float = 120) -> None:
        self.guest = cgroup.guest
        put_programs(self.guest)
        self._seen = f"/run/lab-{program}-{time.monotonic_ns()}.out"
        self.guest.put_bytes(b"", self._seen)
        command = (
            f"echo $$ > {shlex.quote(cgroup.folder)}/cgroup.procs && "
            f"cd {_THERE} && exec > {self._seen} 2>&1 && "
            f"exec python3 -m lab.workloads.{program} {shlex.join(words)}"
        )
        self.running: Running = self.guest.start(command)
        self.wait_for("ready", timeout_s=ready_s)

    @property
    def pid(self) -> int:
        """Its process in the guest."""
        return self.running.pid

    def lines(self) -> list[Line]:
        """All that it printed so far.

        Raises:
            CommandFailed: It printed something else, such as a traceback.
        """
        whole = self.guest.get(self._seen).decode().rpartition("\n")[0]
        return [self._decode(text, whole) for text in whole.splitlines()]

    def wait_for(self, what: str, *, after: int = 0, timeout_s: float = 30) -> Line:
        """Wait for a line of this kind beyond the first `after` lines, and return it.

        Args:
            what: Its kind.
            after: Lines to leave out.
            timeout_s: Seconds to wait.

        Raises:
            CommandFailed: The program ended before.
            DeadlinePassed: It did not say so in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self.running.poll()
            for line in self.lines()[after:]:
                if line.what == what:
                    return line
            if ended:
                raise CommandFailed(self.running.command, ended.code, ended.stderr)
            if time.monotonic() > deadline:
                raise DeadlinePassed(f"{self.running.command}: no {what!r} in {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def follow(self, guest: Guest) -> None:
        """Go on with it where its guest went on."""
        self.guest = guest
        self.running = guest.take_up(self.running)

    def signal(self, name: str) -> None:
        """Send it a signal, such as "USR1"."""
        self.running.kill(name)

    def stop(self) -> None:
        """End it."""
        self.running.kill("KILL")
        self.running.wait(30, check=False)

    def _decode(self, text: str, whole: str) -> Line:
        try:
            values = msgspec.json.decode(text, type=dict[str, int | float | str])
            what, at_us = cast("str", values.pop("what")), cast("int", values.pop("at_us"))
            figures = cast("dict[str, int | float]", values)
        except (msgspec.DecodeError, KeyError) as error:
            told = f"{whole}\nnot a line of a workload's: {text!r}"
            raise CommandFailed(self.running.command, 0, told) from error
        return Line(what, at_us, figures)


def put_programs(guest: Guest) -> None:
    """Put all of lab/workloads under /opt/lab, unless they are there."""
    if guest.run(["test", "-d", _THERE], check=False).code:
        guest.put_tree(_PROGRAMS, f"{_THERE}/lab/workloads")


def zram_swap(guest: Guest, mib: int, *, priority: int = -1) -> None:
    """Make /dev/zram0 a swap device of `mib` MiB and switch it on; -1 is the kernel's priority."""
    guest.run(
        f"echo {mib}M > /sys/block/zram0/disksize && mkswap -q /dev/zram0 && "
        f"swapon -p {priority} /dev/zram0"
    )
