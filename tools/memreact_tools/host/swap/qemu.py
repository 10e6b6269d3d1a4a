"""Disks of a QEMU guest that runs, by QMP.

Source: QEMU's qapi/block-core.json, qapi/qdev.json and qapi/qom.json
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import msgspec

from memreact_tools.deadline import Deadline
from memreact_tools.host.qmp import Lines, QmpRefused, QmpTrouble, peer_pid, shake_hands, told
from memreact_tools.host.swap.monitor import MARK, Disk, is_ours
from memreact_tools.host.swap.trouble import StillHeld, SwapTrouble

__all__ = ["QemuMonitor", "open_qemu"]

_T = TypeVar("_T")
_NAMED = "/machine/peripheral"
_PORTS = frozenset({"child<pcie-root-port>", "child<ioh3420>"})
_ROOT_BUS = "/pcie.0"
_GONE = "DeviceNotFound"
_LET_GO_S = 0.02
_SLOT_SHIFT = 3  # of a devfn; the function is below


class _Image(msgspec.Struct):
    size: int = msgspec.field(name="virtual-size", default=0)


class _Node(msgspec.Struct):
    name: str = msgspec.field(name="node-name", default="")
    file: str = ""
    image: _Image = msgspec.field(default_factory=_Image)


class _Requests(msgspec.Struct):
    failed_reads: int = msgspec.field(name="failed_rd_operations", default=0)
    failed_writes: int = msgspec.field(name="failed_wr_operations", default=0)


class _Counted(msgspec.Struct):
    stats: _Requests
    device: str = msgspec.field(name="qdev", default="")


class _Property(msgspec.Struct):
    name: str
    type: str


class _Memory(msgspec.Struct):
    base: int = msgspec.field(name="base-memory")
    plugged: int = msgspec.field(name="plugged-memory", default=0)


class _Called(msgspec.Struct):
    name: str = ""


class _Port(NamedTuple):
    """A root port: its place in QEMU's tree, and the name of the bus behind it."""

    path: str
    bus: str


class QemuMonitor:
    """One conversation with a QEMU.

    Args:
        path: Of its socket, for messages.
        lines: After the handshake.
        pid: Of the process.
        timeout_s: How long one answer may take.
        patience_s: How long the guest may take to let a disk go.
    """

    def __init__(  # one for each thing that it talks by
        self, path: str, lines: Lines, pid: int, timeout_s: float, patience_s: float
    ) -> None:
        self._path = path
        self._lines = lines
        self._pid = pid
        self._timeout_s = timeout_s
        self._patience_s = patience_s

    @property
    def pid(self) -> int:
        """The process that runs the guest."""
        return self._pid

    @property
    def called(self) -> str:
        """How the guest is called."""
        return self._call("query-name", _Called).name

    def memory_bytes(self) -> int:
        """Return what memory the guest has, with what was plugged in."""
        memory = self._call("query-memory-size-summary", _Memory)
        return memory.base + memory.plugged

    def disks(self) -> list[Disk]:
        """Return every block node of ours, with a device before it or without."""
        nodes = self._call("query-named-block-nodes", list[_Node], flat=True)
        plugged = {each.name for each in self._list(_NAMED)}
        failed = self._failed() if any(node.name in plugged for node in nodes) else {}
        return [
            Disk(
                name=node.name.removeprefix(MARK),
                path=node.file,
                size_bytes=node.image.size,
                pci_path=self._pci_path(node.name) if node.name in plugged else "",
                plugged=node.name in plugged,
                failed=failed.get(node.name, 0),
            )
            for node in nodes
            if is_ours(node.name)
        ]

    def _failed(self) -> dict[str, int]:
        """Return how many requests failed, by the name of the device."""
        counted = self._call("query-blockstats", list[_Counted])
        return {
            each.device.removeprefix(f"{_NAMED}/").partition("/")[0]: each.stats.failed_reads
            + each.stats.failed_writes
            for each in counted
        }

    def add(self, name: str, path: str, *, direct: bool) -> None:
        """Plug a file in, behind a root port that is free."""
        port = self._free_port()
        node = MARK + name
        self._call("blockdev-add", dict, **_node(node, path, direct=direct))
        try:
            self._call("device_add", dict, **_device(node, port.bus))
        except SwapTrouble:
            self._forget(node)
            raise

    def remove(self, name: str) -> None:
        """Ask the guest to let a disk go, wait until QEMU says that it has, and forget the file."""
        node = MARK + name
        with self._told():
            if self._ask_to_let_go(node):
                self._await_deleted(node)
        self._forget(node)

    def _ask_to_let_go(self, device: str) -> bool:
        """Return whether there is something to be waited for."""
        self._renew()
        try:
            self._lines.call("device_del", dict, id=device)
        except QmpRefused as refusal:
            if refusal.kind == _GONE:
                return False
            if "already in the process of unplug" not in str(refusal):
                raise
        return True

    def _await_deleted(self, device: str) -> None:
        self._lines.deadline = Deadline(self._patience_s)
        while True:
            try:
                event = self._lines.event()
            except TimeoutError as error:
                raise StillHeld(
                    f"{self._path}: the guest has not let {device} go in {self._patience_s:g} s; "
                    "it was asked to, and may be asked again"
                ) from error
            if event.data.get("device") != device:
                continue
            if event.name == "DEVICE_DELETED":
                return
            if event.name == "DEVICE_UNPLUG_GUEST_ERROR":
                raise StillHeld(f"{self._path}: the guest refuses to let {device} go")

    def _forget(self, node: str) -> None:
        """Close the file; that QEMU does not know it any more is as good.

        QEMU tells that a device is deleted a moment before it lets the file go, and does not tell
        that: what it says next, or a short while without a word, is when it is asked again.
        """
        until = time.monotonic() + self._patience_s
        while True:
            try:
                self._call("blockdev-del", dict, **{"node-name": node})
            except SwapTrouble as trouble:
                if "Failed to find node" in str(trouble):
                    return
                if "is in use" not in str(trouble) or time.monotonic() > until:
                    raise
            else:
                return
            self._lines.deadline = Deadline(_LET_GO_S)
            with self._told(), contextlib.suppress(TimeoutError):
                self._lines.event()

    def _free_port(self) -> _Port:
        ports = list(self._ports())
        for port in ports:
            behind = self._list(f"{port.path}/{port.bus}")
            if not any(each.name.startswith("child[") for each in behind):
                return port
        why = f"all {len(ports)} are taken" if ports else "it has none"
        raise SwapTrouble(
            f"{self._path}: a disk is plugged into a pcie-root-port of its own, and {why} "
            "(-device pcie-root-port,id=swap-port0,chassis=100,slot=100)"
        )

    def _ports(self) -> Iterator[_Port]:
        """Yield every root port that takes devices while the guest runs.

        One without an id is none of them: the bus behind it is called pcie.0, as the root bus is.
        """
        for each in sorted(self._list(_NAMED), key=lambda each: each.name):
            path = f"{_NAMED}/{each.name}"
            if each.type in _PORTS and self._get(path, "hotplug", bool):
                buses = [prop.name for prop in self._list(path) if prop.type == "child<PCIE>"]
                yield from (_Port(path, bus) for bus in buses)

    def _pci_path(self, device: str) -> str:
        """Return slot of the port, slot of the device; empty where the port is not at the root."""
        bus = self._get(f"{_NAMED}/{device}", "parent_bus", str)
        port = bus.rpartition("/")[0]
        with contextlib.suppress(SwapTrouble):
            if self._get(port, "parent_bus", str).endswith(_ROOT_BUS):
                slots = (self._get(each, "addr", int) for each in (port, f"{_NAMED}/{device}"))
                return "/".join(f"{devfn >> _SLOT_SHIFT:02x}" for devfn in slots)
        return ""

    def _list(self, path: str) -> list[_Property]:
        return self._call("qom-list", list[_Property], path=path)

    def _get(self, path: str, name: str, kind: type[_T]) -> _T:
        return self._call("qom-get", kind, path=path, property=name)

    def _call(self, command: str, kind: type[_T], **arguments: object) -> _T:
        with self._told():
            self._renew()
            return self._lines.call(command, kind, **arguments)

    def _renew(self) -> None:
        self._lines.deadline = Deadline(self._timeout_s)

    def _told(self) -> contextlib.AbstractContextManager[None]:
        return _told(self._path)


def _node(node: str, path: str, *, direct: bool) -> dict[str, object]:
    """What opens a file: what the guest discards becomes a hole in it."""
    cache = {"direct": direct, "no-flush": False}
    file = {"driver": "file", "filename": path, "discard": "unmap", "cache": cache}
    return {"driver": "raw", "node-name": node, "discard": "unmap", "cache": cache, "file": file}


def _device(node: str, bus: str) -> dict[str, object]:
    """What the guest sees.

    A full disk is told to the guest, which then keeps its page; QEMU would stop the guest instead.
    """
    return {
        "driver": "virtio-blk-pci",
        "id": node,
        "drive": node,
        "serial": node,
        "bus": bus,
        "werror": "report",
        "rerror": "report",
    }


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Say which socket it was that something went wrong with."""
    try:
        with told(path):
            yield
    except QmpTrouble as trouble:
        raise SwapTrouble(str(trouble)) from trouble


@contextlib.contextmanager
def open_qemu(
    path: str, *, timeout_s: float, patience_s: float | None = None
) -> Iterator[QemuMonitor]:
    """Begin a conversation with a QEMU; its socket has one client at a time.

    Args:
        path: Of its socket.
        timeout_s: How long one answer may take.
        patience_s: How long the guest may take to let a disk go; as long as an answer unless given.

    Raises:
        SwapTrouble: Nobody answers there, or no QEMU does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        with _told(path):
            stream.settimeout(timeout_s)
            stream.connect(path)
            lines = Lines(stream, Deadline(timeout_s))
            shake_hands(lines)
        patience_s = timeout_s if patience_s is None else patience_s
        yield QemuMonitor(path, lines, peer_pid(stream), timeout_s, patience_s)
