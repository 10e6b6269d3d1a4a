"""Hybrid vsock to a guest without a vsock of the host: the lab stands in for the guest's monitor.

Clients connect to a unix socket and say `CONNECT port`, as to Firecracker, Cloud Hypervisor and
Dragonball. The bytes go over a virtio-serial port, added while the guest runs, to a relay in the
guest that connects to its AF_VSOCK port by loop-back; so the peer is CID 1, which settings must
allow.

Source: Firecracker docs/vsock.md, "Host-Initiated Connections"
"""

from __future__ import annotations

import asyncio
import itertools
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.channel import Refusal
from lab.guest import Guest
from lab.host import remove
from lab.workload import Cgroup, Workload
from lab.workloads.streams import Bundle, Frame, Kind, read_frame

__all__ = ["Bridge", "monitor"]

_PORT = "io.memreact.lab.bridge"
_RELAY_GROUP = "/lab.slice/bridge"
_ASKED = re.compile(rb"CONNECT ([0-9]{1,10})\n")
_LINE_MAX = 32
_START_S = 10.0
_POLL_S = 0.05


class Bridge:
    """A guest's vsock ports behind one unix socket of this machine, until its `with` block is left.

    Args:
        guest: Which; it has one bridge at a time.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._folder = Path(tempfile.mkdtemp(prefix="memreact-bridge-"))
        self.path = self._folder / "vm.hvsock"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bridge")

    def __enter__(self) -> Self:
        """Add the port, start the relay, and listen."""
        try:
            carrier = self._add_port()
            self._thread.start()
            listening = threading.Event()
            self._serving = asyncio.run_coroutine_threadsafe(
                monitor(self.path, carrier, listening.set), self._loop
            )
            if not listening.wait(_START_S):
                self._serving.result(0)
            self._relay = Workload(Cgroup(self._guest, _RELAY_GROUP), "relay", _PORT)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the relay, take the port away, and say what went wrong between, if anything did."""
        try:
            if self._serving.done():
                self._serving.result()
            self._relay.stop()
            self._guest.qmp("device_del", {"id": _PORT})
        finally:
            self._close()
        self._remove_backend()

    def _add_port(self) -> Path:
        carrier = self._folder / "carrier"
        address = {"type": "unix", "data": {"path": str(carrier)}}
        backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        self._guest.qmp("chardev-add", {"id": _PORT, "backend": backend})
        port = {"driver": "virtserialport", "bus": "serial.0", "chardev": _PORT, "name": _PORT}
        self._guest.qmp("device_add", {**port, "id": _PORT})
        return carrier

    def _remove_backend(self) -> None:
        """Remove what was behind the port, which QEMU lets go of a moment later."""
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self._guest.qmp("chardev-remove", {"id": _PORT})
            except Refusal:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _close(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result(_START_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        remove(self._folder)


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def monitor(path: Path, carrier: Path, listening: Callable[[], None]) -> None:
    """Stand in for a guest's monitor, until the relay's side is gone.

    Args:
        path: The socket to listen on.
        carrier: The socket behind which the relay is.
        listening: Called once clients can connect.
    """
    reader, writer = await asyncio.open_unix_connection(carrier)
    doors = _Doors(Bundle(writer))
    try:
        async with await asyncio.start_unix_server(doors.enter, path):
            listening()
            while True:
                doors.take(await read_frame(reader))
    except asyncio.IncompleteReadError:
        return
    finally:
        await doors.close()
        writer.close()


class _Doors:
    """Clients that come in, each to a port of its choice."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._clients: set[asyncio.Task[None]] = set()

    def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def close(self) -> None:
        """Show everybody out."""
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def take(self, frame: Frame) -> None:
        """Take what the relay says."""
        if frame.kind in (Kind.OPENED, Kind.REFUSED):
            self._answers[frame.number].set_result(frame.kind is Kind.OPENED)
        else:
            self._bundle.take(frame)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask a client for its port, and copy between the two."""
        number = next(self._numbers)
        stream = self._bundle.stream(number)
        try:
            asked = await _asked_port(reader)
            if asked is not None and await self._opened(number, asked):
                writer.write(b"OK %d\n" % number)
                await stream.copy(reader, writer)
        finally:  # without an answer where nobody listens, as Firecracker does
            self._bundle.forget(number)
            writer.close()

    async def _opened(self, number: int, port: int) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._bundle.send(Kind.OPEN, number, port)
        try:
            return await answer
        finally:
            del self._answers[number]


async def _asked_port(reader: asyncio.StreamReader) -> int | None:
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return None
    found = _ASKED.fullmatch(line[: _LINE_MAX + 1])
    port = int(found[1]) if found else None
    return port if port is not None and port < 2**32 else None
