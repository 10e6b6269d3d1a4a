"""Disks of a Cloud Hypervisor guest that runs, by its REST socket.

Written from the description of its API (vmm/src/api/openapi/cloud-hypervisor.yaml) and tested
against that; not run against a real one.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

import msgspec

from memreact_tools.host.qmp import peer_pid
from memreact_tools.host.swap.monitor import MARK, Disk, is_ours
from memreact_tools.host.swap.trouble import StillHeld, SwapTrouble

__all__ = ["CloudHypervisorMonitor", "open_cloud_hypervisor"]

_ANSWER_BYTES_MAX = 1 << 20
_OK, _NO_CONTENT, _NOT_FOUND = 200, 204, 404


class _Disk(msgspec.Struct):
    id: str | None = None
    path: str | None = None


class _Memory(msgspec.Struct):
    size: int = 0
    hotplugged_size: int | None = None


class _Config(msgspec.Struct):
    memory: _Memory = msgspec.field(default_factory=_Memory)
    disks: list[_Disk] | None = None


class _Device(msgspec.Struct):
    pci_bdf: str | None = None


class _Info(msgspec.Struct):
    config: _Config
    memory_actual_size: int | None = None
    device_tree: dict[str, _Device] | None = None


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket, a connection for each question.

    Args:
        path: Of the socket.
        timeout_s: How long one step of it may take.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._seconds = timeout_s

    def connect(self) -> None:
        """Connect to the path, not to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(self._path)


class CloudHypervisorMonitor:
    """A Cloud Hypervisor.

    Args:
        path: Of its API's socket.
        pid: Of the process.
        timeout_s: How long one answer may take.
    """

    def __init__(self, path: str, pid: int, timeout_s: float) -> None:
        self._path = path
        self._pid = pid
        self._timeout_s = timeout_s

    @property
    def pid(self) -> int:
        """The process that runs the guest."""
        return self._pid

    @property
    def called(self) -> str:
        """It gives its guests no name."""
        return ""

    def memory_bytes(self) -> int:
        """Return what memory the guest was given, with what was plugged in."""
        memory = self._info().config.memory
        return memory.size + (memory.hotplugged_size or 0)

    def disks(self) -> list[Disk]:
        """Return the disks of ours that it is set up with, or that a guest has not let go yet."""
        info = self._info()
        paths = {disk.id: disk.path or "" for disk in info.config.disks or () if disk.id}
        tree = info.device_tree or {}
        names = [name for name in {**paths, **tree} if is_ours(name)]
        return [self._disk(name, paths.get(name, ""), tree.get(name)) for name in names]

    def _disk(self, name: str, path: str, device: _Device | None) -> Disk:
        slot = (device.pci_bdf or "") if device else ""
        return Disk(
            name=name.removeprefix(MARK),
            path=path,
            size_bytes=0,  # it does not say; the file does
            pci_path=slot.rpartition(":")[2].partition(".")[0],
        )

    def add(self, name: str, path: str, *, direct: bool) -> None:
        """Plug a file in; what the guest discards becomes a hole unless it is set up otherwise."""
        mark = MARK + name
        disk = {"id": mark, "serial": mark, "path": path, "readonly": False, "direct": direct}
        self._ask("PUT", "vm.add-disk", disk)

    def remove(self, name: str) -> None:
        """Ask the guest to let a disk go.

        It tells nobody when the guest has: where it has not at once, StillHeld is raised, and who
        asks again later learns.
        """
        mark = MARK + name
        if not any(disk.name == name for disk in self.disks()):
            return
        self._ask("PUT", "vm.remove-device", {"id": mark}, also=_NOT_FOUND)
        if any(disk.name == name for disk in self.disks()):
            raise StillHeld(f"{self._path}: the guest was asked to let {mark} go; ask again")

    def _info(self) -> _Info:
        body = self._ask("GET", "vm.info")
        try:
            return msgspec.json.decode(body, type=_Info)
        except msgspec.MsgspecError as error:
            raise SwapTrouble(
                f"{self._path}: the answer is not Cloud Hypervisor's: {error}"
            ) from error

    def _ask(self, verb: str, what: str, body: object = None, *, also: int = _OK) -> bytes:
        """Return what it answers; `also` is one more status that is as good as done."""
        with _told(self._path), contextlib.closing(_Unix(self._path, self._timeout_s)) as there:
            headers = {"Accept": "*/*", "Content-Type": "application/json"}
            data = None if body is None else msgspec.json.encode(body)
            there.request(verb, f"/api/v1/{what}", body=data, headers=headers)
            answer = there.getresponse()
            said = answer.read(_ANSWER_BYTES_MAX)
        if answer.status not in (_OK, _NO_CONTENT, also):
            text = said.decode(errors="replace").strip() or answer.reason
            raise SwapTrouble(f"{self._path}: {what}: {answer.status} {text}")
        return said


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Say which socket it was that something went wrong with."""
    try:
        yield
    except TimeoutError as error:
        raise SwapTrouble(f"{path}: no answer in time") from error
    except OSError as error:
        raise SwapTrouble(f"{path}: {error.strerror or error}") from error
    except http.client.HTTPException as error:
        raise SwapTrouble(f"{path}: the answer is no HTTP: {error!r}") from error


@contextlib.contextmanager
def open_cloud_hypervisor(path: str, *, timeout_s: float) -> Iterator[CloudHypervisorMonitor]:
    """Find out who listens there.

    Args:
        path: Of its API's socket.
        timeout_s: How long one answer may take.

    Raises:
        SwapTrouble: Nobody does.
    """
    with _told(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(timeout_s)
        stream.connect(path)
        pid = peer_pid(stream)
    yield CloudHypervisorMonitor(path, pid, timeout_s)
