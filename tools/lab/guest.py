"""One guest, from power-on to the last trace of its QEMU."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from lab.accel import accelerator
from lab.agent import Agent, Result, Running
from lab.channel import Channel
from lab.errors import DeadlinePassed, GuestLost, LabError
from lab.host import cache_dir, exclusive, remove, require_packages, run
from lab.image import root_image, root_image_key
from lab.kernels import Kernel, kernel
from lab.machine import MachineOptions, qemu_command, writable_disk

__all__ = ["Guest"]

BOOT_S = 300  # a deadline, not an expectation: a busy machine translates slowly
_RESTORE_S = 60
_COMMAND_S = 60.0
_DISK = "disk.ext4"


class _Migration(msgspec.Struct):
    status: str = "none"
    error: str = msgspec.field(name="error-desc", default="")


class Guest:
    """A running guest; leaving its `with` block ends it, whatever happened inside.

    Args:
        options: The machine.
        disk: Image to boot from.
        incoming: File of a saved guest to go on with, instead of a boot.
        keep_disk: Write to the disk itself; else writes are lost with the guest.
    """

    def __init__(
        self,
        options: MachineOptions,
        disk: Path,
        *,
        incoming: Path | None = None,
        keep_disk: bool = False,
    ) -> None:
        self.options = options
        self._folder = Path(tempfile.mkdtemp(prefix="memreact-lab-"))
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._boot_kernel: Kernel = kernel(options.kernel)
            self._qemu: subprocess.Popen[bytes] | None = self._start(disk, incoming, keep_disk)
            self._open_qmp()
            self._agent = Agent(f"{self._folder}/agent")
            undo.pop_all()

    @staticmethod
    def boot(options: MachineOptions | None = None) -> Guest:
        """Boot from the root image, until systemd says that the system is running."""
        require_packages()
        with contextlib.ExitStack() as undo:
            guest = undo.enter_context(Guest(options or MachineOptions(), root_image()))
            guest.wait_running()
            undo.pop_all()
        return guest

    @staticmethod
    def restore(options: MachineOptions | None = None, package: Path | None = None) -> Guest:
        """Go on with a guest that was booted once and saved; the first time it is made.

        Its clock is set, its caches are warm, its uptime is that of the saved guest.

        Args:
            options: The machine.
            package: A .deb that was installed before the guest was saved.
        """
        require_packages()
        chosen = options or MachineOptions()
        state, disk = _saved_with(chosen, package) if package else _saved(chosen)
        with contextlib.ExitStack() as undo:
            guest = undo.enter_context(Guest(chosen, disk, incoming=state))
            guest.resume_incoming()
            undo.pop_all()
        return guest

    @staticmethod
    def restore_on(folder: Path, options: MachineOptions, package: Path) -> Guest:
        """As `restore`, on a disk of its own in `folder`, with which it can be `moved`."""
        require_packages()
        state, disk = _saved_with(options, package)
        own_disk = folder / _DISK
        _copy_disk(disk, folder, own_disk)
        return _going_on(options, own_disk, state)

    def moved(self, folder: Path) -> Guest:
        """Save it, end it, and let it go on in another QEMU, on the disk in `folder`."""
        state = folder / "state"
        self.save(state)
        self.close()
        return _going_on(self.options, folder / _DISK, state)

    def take_up(self, running: Running) -> Running:
        """A command that was started in this guest before it moved."""
        return Running(self._agent, running.pid, running.command)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the guest."""
        self.close()

    def close(self) -> None:
        """End QEMU and remove its folder; the serial log stays as last-serial.log."""
        for name in ("_agent", "_qmp"):
            if end := getattr(self, name, None):
                end.close()
        qemu: subprocess.Popen[bytes] | None = getattr(self, "_qemu", None)
        if qemu and qemu.poll() is None:
            qemu.kill()
            qemu.wait(30)
        if self._folder.exists():
            with contextlib.suppress(FileNotFoundError):
                (self._folder / "serial.log").replace(cache_dir() / "last-serial.log")
            remove(self._folder)

    @property
    def serial_log(self) -> Path:
        """What the guest printed on its console, while it lives."""
        return self._folder / "serial.log"

    @property
    def qemu_pid(self) -> int:
        """QEMU's process.

        Raises:
            GuestLost: It never started.
        """
        if self._qemu is None:
            raise GuestLost("QEMU never started")
        return self._qemu.pid

    @property
    def release(self) -> str:
        """What uname -r says."""
        return self._boot_kernel.release

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float = _COMMAND_S,
        check: bool = True,
        stdin: bytes = b"",
    ) -> Result:
        """Run a command in the guest, words or a line for sh, as root.

        Raises:
            CommandFailed: It ended with an error, and `check` is asked for.
            DeadlinePassed: It was killed after timeout_s.
            GuestLost: The guest is gone.
        """
        return self.start(command, stdin=stdin).wait(timeout_s, check=check)

    def start(self, command: str | Sequence[str], *, stdin: bytes = b"") -> Running:
        """Start a command in the guest and return at once; its output comes with its end."""
        return self._agent.start(command, stdin=stdin)

    def put(self, local: Path, remote: str) -> None:
        """Copy a file into the guest."""
        self._agent.write_file(remote, local.read_bytes())

    def put_bytes(self, data: bytes, remote: str) -> None:
        """Make a file in the guest."""
        self._agent.write_file(remote, data)

    def put_tree(self, local: Path, remote: str) -> None:
        """Copy a folder's content into a folder of the guest, without compiled Python."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            archive.add(local, arcname=".", filter=_without_caches)
        self.put_bytes(packed.getvalue(), "/run/put.tar.gz")
        self.run(f"mkdir -p '{remote}' && tar -C '{remote}' -xzf /run/put.tar.gz")

    def install(self, package: Path) -> None:
        """Install a .deb of the host with apt-get; its dependencies are in the image.

        Raises:
            CommandFailed: apt-get says why not.
        """
        remote = f"/var/cache/{package.name}"
        self.put(package, remote)
        command = f"DEBIAN_FRONTEND=noninteractive apt-get -q install -y '{remote}'"
        self.run(command, timeout_s=180)

    def get(self, remote: str) -> bytes:
        """Content of a file of the guest.

        Raises:
            FileNotFoundError: The guest cannot open it.
        """
        return self._agent.read_file(remote)

    def qmp(
        self, execute: str, arguments: dict[str, object] | None = None, *, timeout_s: float = 30
    ) -> msgspec.Raw:
        """Ask QEMU; the reply is undecoded JSON."""
        return self._qmp.call(execute, arguments, reply=msgspec.Raw, timeout_s=timeout_s)

    @contextlib.contextmanager
    def lend_qmp(self) -> Iterator[str]:
        """Let somebody else talk to QEMU, which hears one at a time; yields its socket."""
        self._qmp.close()
        try:
            yield f"{self._folder}/qmp"
        finally:
            self._open_qmp()

    def _open_qmp(self) -> None:
        self._qmp = Channel(f"{self._folder}/qmp")
        self._qmp.line(time.monotonic() + 10)  # the greeting
        self.qmp("qmp_capabilities")

    def held_bytes(self) -> int:
        """Guest memory that the host holds now.

        It is the Rss of the mappings that are as large as the guest's nodes: the process's own
        total also counts QEMU's translated code and more, hundreds of MB.

        Raises:
            GuestLost: QEMU is gone.
        """
        try:
            text = Path(f"/proc/{self.qemu_pid}/smaps").read_text()
        except OSError as error:
            raise GuestLost(f"QEMU is gone: {error}") from error
        size_kib = self.options.node_bytes // 1024
        mapping = rf"^Size: +{size_kib} kB\n(?:.*\n){{2}}Rss: +(\d+) kB$"
        held = re.findall(mapping, text, re.MULTILINE)
        if len(held) != self.options.nodes:
            raise LabError(f"QEMU has {len(held)} mappings of {size_kib} KiB")
        return sum(map(int, held)) * 1024

    def wait_held_below(self, held_bytes: int, *, timeout_s: float = 30) -> None:
        """Wait until the host holds less than this of the guest's memory.

        Raises:
            DeadlinePassed: It does not, and what it holds.
        """
        deadline = time.monotonic() + timeout_s
        while (held := self.held_bytes()) >= held_bytes:
            if time.monotonic() > deadline:
                raise DeadlinePassed(
                    f"the host holds {held >> 20} MiB after {timeout_s:.0f} s, "
                    f"not less than {held_bytes >> 20}"
                )
            time.sleep(0.2)

    def set_clock(self) -> None:
        """Give the guest the host's time of day: a restored guest still has the old one."""
        self.run(["/bin/date", "-s", f"@{time.time():.6f}"])

    def wait_running(self) -> None:
        """Wait until systemd calls the system running.

        Raises:
            LabError: It calls it degraded, and which unit failed.
            DeadlinePassed: It did not get that far.
        """
        try:
            self._agent.sync(BOOT_S)
        except (DeadlinePassed, GuestLost) as error:
            raise DeadlinePassed(f"the guest did not come up: {self._console_tail()}") from error
        state = self.run("systemctl is-system-running --wait", timeout_s=BOOT_S, check=False)
        if state.stdout.strip() != "running":
            failed = self.run("systemctl --failed --plain --no-legend", check=False)
            raise LabError(f"the guest is {state.stdout.strip()}: {failed.stdout}")

    def save(self, state: Path) -> None:
        """Stop the guest and write its memory and devices to a file; it cannot go on here."""
        self.run("sync", timeout_s=120)
        self.qmp("stop")
        # exec: is the one way to a file that QEMU 7.2 has.
        partial = state.with_suffix(".partial")
        self.qmp("migrate", {"uri": f"exec:cat > '{partial}'"})
        self._wait_migration()
        partial.rename(state)

    def resume_incoming(self) -> None:
        """Let a guest that was started from a saved one go on, once it is read."""
        self._wait_migration()
        self.qmp("cont")
        self._agent.sync(_RESTORE_S)
        self.set_clock()

    def _wait_migration(self) -> None:
        deadline = time.monotonic() + _RESTORE_S
        while True:
            state = self._qmp.call("query-migrate", reply=_Migration)
            if state.status == "completed":
                return
            if state.status in ("failed", "cancelled"):
                raise LabError(f"QEMU could not move the guest: {state.error}")
            if time.monotonic() > deadline:
                raise DeadlinePassed(f"moving the guest is still {state.status}")
            time.sleep(0.05)

    def _start(
        self,
        disk: Path,
        incoming: Path | None,
        keep_disk: bool,  # noqa: FBT001  # our own
    ) -> subprocess.Popen[bytes]:
        chosen = accelerator(self._boot_kernel)
        command = qemu_command(self.options, self._boot_kernel, disk, self._folder, chosen)
        if keep_disk:
            command = writable_disk(command)
        if incoming:
            command += ["-incoming", f"exec:cat '{incoming}'"]
        # It dies with us, even by SIGKILL; its temporary overlay goes beside the images.
        tied = ["setpriv", "--pdeathsig", "KILL", *command]
        with (self._folder / "qemu.log").open("wb") as log:
            return subprocess.Popen(
                ["env", f"TMPDIR={cache_dir()}", *tied],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _console_tail(self) -> str:
        texts = [self._folder / "qemu.log", self.serial_log]
        return " ".join(t.read_text(errors="replace")[-1500:] for t in texts if t.exists())


def _saved(options: MachineOptions) -> tuple[Path, Path]:
    """State and disk of the saved guest for these options, made first if there is none."""
    version = run(["qemu-system-x86_64", "--version"], timeout_s=30).splitlines()[0]
    boot = kernel(options.kernel)
    key = options.key(root_image_key(), boot.release, version, accelerator(boot))
    folder = cache_dir() / f"saved-{options.kernel}-{key}"
    state, disk = folder / "state", folder / _DISK
    with exclusive("saved"):
        if not state.exists():
            print(f"lab: booting a {options.kernel} guest once, to be restored later", flush=True)
            _make_saved(options, folder, state, disk)
    return state, disk


def _make_saved(options: MachineOptions, folder: Path, state: Path, disk: Path) -> None:
    _copy_disk(root_image(), folder, disk)
    with Guest(options, disk, keep_disk=True) as guest:
        guest.wait_running()
        guest.run("python3 -c 'import asyncio, ctypes, uvloop, msgspec'", timeout_s=120)
        guest.save(state)


def _saved_with(options: MachineOptions, package: Path) -> tuple[Path, Path]:
    """As _saved, of a guest that went on from there until the package was installed."""
    base_state, base_disk = _saved(options)
    content = hashlib.sha256(package.read_bytes()).hexdigest()[:16]
    folder = base_state.parent.with_name(f"{base_state.parent.name}-with-{content}")
    state, disk = folder / "state", folder / _DISK
    with exclusive("saved-with"):
        if not state.exists():
            for stale in folder.parent.glob(f"{base_state.parent.name}-with-*"):
                remove(stale)
            print(f"lab: installing {package.name} in a {options.kernel} guest once", flush=True)
            _copy_disk(base_disk, folder, disk)
            with Guest(options, disk, incoming=base_state, keep_disk=True) as guest:
                guest.resume_incoming()
                guest.install(package)
                guest.save(state)
    return state, disk


def _going_on(options: MachineOptions, disk: Path, state: Path) -> Guest:
    with contextlib.ExitStack() as undo:
        guest = undo.enter_context(Guest(options, disk, incoming=state, keep_disk=True))
        guest.resume_incoming()
        undo.pop_all()
    return guest


def _copy_disk(source: Path, folder: Path, disk: Path) -> None:
    remove(folder)
    folder.mkdir()
    copy = ["cp", "--sparse=always", "--reflink=auto", str(source), str(disk)]
    run(copy, timeout_s=120)


def _without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry
