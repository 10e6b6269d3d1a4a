"""The guest's end of the lab's bridge: connects to AF_VSOCK ports of this guest, by loop-back.

relay NAME    NAME is that of the virtio-serial port by which the host is reached
"""

from __future__ import annotations

import asyncio
import glob
import os
import select
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from lab.workloads.lines import say
from lab.workloads.streams import Bundle, Frame, Kind, Stream, read_frame

__all__ = ["Connect", "relay"]

_LOOP_BACK = 1  # VMADDR_CID_LOCAL
_CONNECT_S = 5
_APPEARS_S = 30
_POLL_S = 0.02

Connect: TypeAlias = Callable[[int], Awaitable[socket.socket]]
"""Makes a connected socket of a port; raises OSError where nobody listens."""


async def vsock(port: int) -> socket.socket:
    """Connect to a port of this guest."""
    stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    stream.settimeout(0)
    try:
        wanted = asyncio.get_running_loop().sock_connect(stream, (_LOOP_BACK, port))
        await asyncio.wait_for(wanted, _CONNECT_S)
    except OSError:
        stream.close()
        raise
    return stream


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connect: Connect = vsock
) -> None:
    """Serve the bridge until it is gone.

    Args:
        reader: What carries its frames to us.
        writer: What carries ours to it.
        connect: Connects to a port.
    """
    bundle = Bundle(writer)
    serving: set[asyncio.Task[None]] = set()
    while True:
        try:
            frame = await read_frame(reader)
        except asyncio.IncompleteReadError:
            break
        if frame.kind is Kind.OPEN:
            # Here, not in the task: what the host sends next may be there already.
            stream = bundle.stream(frame.number)
            task = asyncio.create_task(_serve(bundle, stream, frame, connect))
            serving.add(task)
            task.add_done_callback(serving.discard)
        else:
            bundle.take(frame)
    for task in tuple(serving):
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def _serve(bundle: Bundle, stream: Stream, asked: Frame, connect: Connect) -> None:
    try:
        ends = await asyncio.open_connection(sock=await connect(asked.amount))
    except OSError:
        bundle.forget(asked.number)
        bundle.send(Kind.REFUSED, asked.number)
        return
    bundle.send(Kind.OPENED, asked.number)
    await stream.copy(*ends)


def opened_port(name: str) -> int:
    """Open the virtio-serial port of this name, once it is there and its host is connected."""
    deadline = time.monotonic() + _APPEARS_S
    while (path := _port_path(name)) is None or not os.path.exists(path):
        _wait(deadline, f"no virtio-serial port is named {name}")
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(fd, 0)
    while poll.poll(0):  # POLLHUP, which is always told: nobody holds the other end
        _wait(deadline, f"{path}: the host does not come")
    return fd


def _port_path(name: str) -> str | None:
    for said in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(said) as file:
            if file.read().strip() == name:
                return f"/dev/{os.path.basename(os.path.dirname(said))}"
    return None


def _wait(deadline: float, why: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(why)
    time.sleep(_POLL_S)


async def main(name: str) -> None:
    """Serve the bridge over a port."""
    loop = asyncio.get_running_loop()
    fd = opened_port(name)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    flow = asyncio.StreamReaderProtocol(asyncio.StreamReader())  # tells a writer when to wait
    out, _ = await loop.connect_write_pipe(lambda: flow, os.fdopen(os.dup(fd), "wb", buffering=0))
    say("ready")
    await relay(reader, asyncio.StreamWriter(out, flow, None, loop))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
