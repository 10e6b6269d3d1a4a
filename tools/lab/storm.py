"""`make storm`: a thousand valid and a thousand invalid updates a second, under real pressure.

What runs is `memreact run` itself, with its policy at work: its cgroups are files (`storm_guest`),
its sockets, threads and pressure triggers are real, and so is the stall, of direct reads on this
machine. Beside it a program of a few lines listens to triggers that are armed the same.

Those are of a cgroup, in which the reads are made. Without CAP_SYS_RESOURCE the kernel looks at a
trigger when it next makes up the averages, and whoever reads a pressure file makes them up as well
and looks at no trigger (psi_show() in kernel/sched/psi.c): of files that are read a hundred times a
second, as the daemon reads those of the whole guest here, hardly a trigger ever fires.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import IO

import msgspec

from kernelio.cgroup import find_cgroup2
from lab.errors import CommandFailed, LabError
from lab.storm_calls import KINDS, Caller, VarlinkStream
from lab.storm_daemon import Heard
from lab.storm_figures import Figures, Stream, Usage, table, verdicts
from lab.storm_guest import StormGuest

__all__ = ["run", "storm"]

STALL_US, WINDOW_US = 100_000, 2_000_000
# Without CAP_SYS_RESOURCE the kernel looks at all triggers every two seconds; after two looks it
# begins all windows at the same moment, whenever they were armed.
_LOOK_S = 2.1
_RESOURCES = ("memory", "io")
_PATIENCE_S = 30.0
_POLL_S = 0.05
_SAMPLE_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


def storm(seconds: float, rate: int, on_disk: str) -> int:
    """Let it loose, and print what came of it; 1 where something is not as it has to be.

    Args:
        seconds: Of calls.
        rate: Valid calls a second, and as many invalid ones.
        on_disk: A folder on a disk, for the file whose reads stall.

    Raises:
        LabError: Something could not be started, or ended by itself.
    """
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    print(
        f"{platform.release()}, {os.cpu_count()} cores, {memory_mib} MiB: {rate} valid and {rate} "
        f"invalid updates a second for {seconds:g} s",
        flush=True,
    )
    figures = run(seconds, rate, on_disk)
    print(table(figures))
    missed = verdicts(figures, rate)
    for line in missed:
        print(f"not reached: {line}")
    return 1 if missed else 0


def run(seconds: float, rate: int, on_disk: str | None) -> Figures:
    """One storm; without a folder on a disk nothing stalls.

    Raises:
        LabError: Something could not be started, or ended by itself.
    """
    # In memory, where a guest's /run is.
    root = tempfile.mkdtemp(prefix="storm", dir="/dev/shm")
    guest = StormGuest(root)
    try:
        with _pressure_of(on_disk is not None) as cgroup:
            return _Storm(guest, seconds, rate, on_disk, cgroup).figures()
    finally:
        guest.close()
        shutil.rmtree(root)


@contextmanager
def _pressure_of(a_cgroup: bool) -> Iterator[str | None]:  # noqa: FBT001  # of ours alone
    """A new cgroup, or none."""
    mount = find_cgroup2("") if a_cgroup else None
    if not a_cgroup:
        yield None
        return
    if mount is None:
        raise LabError("cgroup v2 is not mounted here")
    folder = f"{mount.path}/memreact-storm-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        raise LabError(f"{folder}: {error.strerror}") from error
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(cgroup: str) -> None:
    """Remove a cgroup, once the last of those in it has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            os.rmdir(cgroup)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


class _Storm:
    """The processes of one storm."""

    def __init__(
        self,
        guest: StormGuest,
        seconds: float,
        rate: int,
        on_disk: str | None,
        cgroup: str | None,
    ) -> None:
        self._guest = guest
        self._seconds = seconds
        self._rate = rate
        self._on_disk = on_disk
        self._cgroup = cgroup
        self._files = [_pressure_file(cgroup, resource) for resource in _RESOURCES]
        self._usage: list[Usage] = []

    def figures(self) -> Figures:
        """Start all, storm, and end all."""
        journal = f"{self._guest.root}/journal"
        with open(journal, "wb") as lines, self._daemon(lines) as daemon:
            self._wait_for_sockets(daemon)
            with _program(self._listener()) as listener, ExitStack() as connections:
                _first_line(listener)
                self._wait_for_looks(2)
                asking = VarlinkStream(self._guest.socket("io.memreact"))
                connections.enter_context(asking.stream)
                before, stalled = _Seen(asking), self._stalled_us()
                callers = self._callers(connections)
                self._run(callers, daemon.pid)
                self._wait_for_looks(1)  # at what stalled last
                after = _Seen(asking)
                ended = {each: us - stalled[each] for each, us in self._stalled_us().items()}
                listened = json.loads(_ended(listener))
            heard = msgspec.json.decode(_ended(daemon), type=Heard)
        changed, trouble = _read_journal(journal)
        said = {key: value for each in callers.values() for key, value in each.said.items()}
        return Figures(
            seconds=self._seconds,
            streams={name: _told(each) for name, each in callers.items()},
            usage=tuple(self._usage),
            changes=after.revision - before.revision,
            evictions=after.evictions - before.evictions,
            not_in_force={
                key: f"{after.value(key)}, not {value}"
                for key, value in said.items()
                if after.value(key) != value
            },
            audited=changed,
            heard=heard,
            listened={each: listened[str(n)] for n, each in enumerate(_RESOURCES)},
            stalled_us=ended,
            trouble=trouble,
        )

    def _wait_for_sockets(self, daemon: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not all(os.path.exists(self._guest.socket(each.socket)) for each in KINDS.values()):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise LabError("the daemon does not listen")
            time.sleep(_POLL_S)

    def _daemon(self, lines: IO[bytes]) -> AbstractContextManager[subprocess.Popen[bytes]]:
        words = ("lab.storm_daemon", self._guest.settings, self._guest.root)
        return _program(words, stderr=lines, files=self._files)

    def _listener(self) -> tuple[str, ...]:
        armed = ("--stall-us", str(STALL_US), "--window-us", str(WINDOW_US))
        return ("lab.workloads.listen", *armed, *self._files)

    def _stalled_us(self) -> dict[str, int]:
        """What was stalled so far where the triggers are."""
        totals = {}
        for resource, path in zip(_RESOURCES, self._files, strict=True):
            with open(path) as file:
                totals[resource] = int(file.readline().rpartition("=")[2])
        return totals

    def _wait_for_looks(self, looks: int) -> None:
        if self._on_disk is not None:
            time.sleep(looks * _LOOK_S)

    def _callers(self, connections: ExitStack) -> dict[str, Caller]:
        callers = {}
        for name, kind in KINDS.items():
            connection = kind.opened(self._guest.socket(kind.socket))
            connections.enter_context(connection.stream)
            callers[name] = Caller(connection, kind.calls(), self._rate // 2)
        return callers

    def _run(self, callers: Mapping[str, Caller], pid: int) -> None:
        """Make the calls, each stream on a thread, and look at the daemon's process meanwhile."""
        threads = [
            threading.Thread(target=each.run, args=(self._seconds,)) for each in callers.values()
        ]
        with _stalls(self._on_disk, self._cgroup):
            self._usage.append(_usage(pid))
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(_SAMPLE_S)
                self._usage.append(_usage(pid))


class _Seen:
    """What the daemon tells of itself."""

    def __init__(self, stream: VarlinkStream) -> None:
        settings = json.loads(stream.ask("GetSettings"))
        self._tables = settings["settings"]
        self.revision: int = settings["revision"]
        status = json.loads(stream.ask("GetStatus"))["status"]
        self.evictions: int = status["counters"]["evictions"]

    def value(self, key: str) -> object:
        """What is in force."""
        table, _, name = key.partition(".")
        return self._tables[table].get(name)


@contextmanager
def _program(
    words: Sequence[str], stderr: IO[bytes] | None = None, files: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """One of ours, that is killed in the end if it has not ended."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "STORM_STALL_US": str(STALL_US),
        "STORM_WINDOW_US": str(WINDOW_US),
        "STORM_FILES": os.pathsep.join(files),
    }
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def _first_line(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    if not process.stdout.readline():
        raise CommandFailed(str(process.args), process.wait(), "it told nothing")


def _ended(process: subprocess.Popen[bytes]) -> bytes:
    """End it as systemd does, and give the rest of what it told."""
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=_PATIENCE_S)
    if process.returncode:
        raise CommandFailed(str(process.args), process.returncode, "")
    return told


@contextmanager
def _stalls(on_disk: str | None, cgroup: str | None) -> Iterator[None]:
    if on_disk is None or cgroup is None:
        yield
        return
    with (
        tempfile.TemporaryDirectory(dir=on_disk) as folder,
        _program(("lab.workloads.direct", f"{folder}/direct", "--cgroup", cgroup)) as process,
    ):
        _first_line(process)
        try:
            yield
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)


def _pressure_file(cgroup: str | None, resource: str) -> str:
    return f"/proc/pressure/{resource}" if cgroup is None else f"{cgroup}/{resource}.pressure"


def _usage(pid: int) -> Usage:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        held = {row[0]: int(row[1]) << 10 for row in map(str.split, file) if row[0].endswith(":")}
    with open(f"/proc/{pid}/stat") as file:
        ticks = file.read().rpartition(")")[2].split()[11:13]
    cpu_s = sum(map(int, ticks)) / _TICKS
    return Usage(time.monotonic(), held["Rss:"], held["Anonymous:"], cpu_s)


def _read_journal(path: str) -> tuple[int, tuple[str, ...]]:
    """How many lines tell of a change, and those that nobody expects."""
    changed, trouble = 0, []
    with open(path, errors="replace") as file:
        for line in file:
            what = line.partition(" ")[0]
            changed += what == "changed"
            if what not in {
                "changed",
                "refused",
                "refused_more",
                "memory_not_locked",
                "not_watched",
            }:
                trouble.append(line.rstrip("\n"))
    return changed, tuple(trouble[:20])


def _told(caller: Caller) -> Stream:
    return Stream(caller.answered, caller.wrong_total, tuple(caller.wrong), tuple(caller.waited_us))
