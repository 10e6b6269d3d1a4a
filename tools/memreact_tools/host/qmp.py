"""QEMU's own socket: which process it is, how its guest is called, and how much memory it has.

Source: QEMU's docs/interop/qmp-spec, and qapi/machine.json
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from memreact_tools.deadline import Deadline
from memreact_tools.decoding import decoded

__all__ = [
    "Event",
    "Lines",
    "Qemu",
    "QmpRefused",
    "QmpTrouble",
    "ask_qemu",
    "peer_pid",
    "shake_hands",
    "told",
]

_T = TypeVar("_T")
_CHUNK = 1 << 16
_LINE_BYTES_MAX = 1 << 20
_EVENTS_MAX = 1024  # a guest makes some of them, and nobody may hear them for long
_UCRED = struct.Struct("=iII")


class QmpTrouble(Exception):  # noqa: N818  # reads as what happened
    """QEMU could not be asked, or did not answer as it should; the message is for people."""


class QmpRefused(QmpTrouble):
    """QEMU understood and said no.

    Args:
        text: Which command, and why.
        kind: QEMU's class of the error, as DeviceNotFound.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Qemu(NamedTuple):
    """What QEMU says of itself.

    Args:
        pid: Of the process that listens on the socket.
        name: Of the guest; empty where it has none.
        memory_bytes: What the guest has, with what was plugged in.
        plugged: Sizes of what was plugged in.
    """

    pid: int
    name: str
    memory_bytes: int
    plugged: tuple[int, ...]


class _Greeting(Struct):
    about: dict[str, object] = msgspec.field(name="QMP")


class _Error(Struct):
    desc: str = "no reason given"
    kind: str = msgspec.field(name="class", default="GenericError")


class Event(NamedTuple):
    """Something that QEMU told without being asked.

    Args:
        name: As DEVICE_DELETED.
        data: What it says, by name.
    """

    name: str
    data: dict[str, object]


class _Reply(Struct):
    return_: Raw | msgspec.UnsetType = msgspec.field(name="return", default=msgspec.UNSET)
    error: _Error | None = None
    event: str = ""
    data: dict[str, object] = msgspec.field(default_factory=dict)


class _Name(Struct):
    name: str = ""


class _Sizes(Struct):
    base: int = msgspec.field(name="base-memory")
    plugged: int = msgspec.field(name="plugged-memory", default=0)


class _Plugged(Struct):
    size: int = 0


class _Device(Struct):
    data: _Plugged = msgspec.field(default_factory=_Plugged)


def ask_qemu(path: str, *, timeout_s: float) -> Qemu:
    """Ask one QEMU.

    A socket takes one client at a time: where another program, such as libvirt, has it, there is no
    greeting.

    Raises:
        QmpTrouble: Nobody answers there, or no QEMU does.
    """
    with told(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(timeout_s)
        stream.connect(path)
        return _ask(Lines(stream, Deadline(timeout_s)), peer_pid(stream))


@contextmanager
def told(path: str) -> Iterator[None]:
    """Say which socket it was that something went wrong with.

    Raises:
        QmpTrouble: Whatever went wrong.
    """
    try:
        yield
    except TimeoutError as error:
        raise QmpTrouble(f"{path}: no answer in time (another program may hold it)") from error
    except OSError as error:
        raise QmpTrouble(f"{path}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise QmpTrouble(f"{path}: the answer is not QEMU's: {error}") from error
    except QmpTrouble as trouble:
        raise QmpTrouble(f"{path}: {trouble}") from trouble


def peer_pid(stream: socket.socket) -> int:
    """Return the process that listens at the other end of a unix socket."""
    raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid: int = _UCRED.unpack(raw)[0]
    return pid


def shake_hands(lines: Lines) -> None:
    """Hear the greeting, and ask for nothing beyond the commands."""
    decoded(lines.next(), _Greeting)
    lines.call("qmp_capabilities", dict)


def _ask(lines: Lines, pid: int) -> Qemu:
    shake_hands(lines)
    sizes = lines.call("query-memory-size-summary", _Sizes)
    devices = lines.call("query-memory-devices", list[_Device]) if sizes.plugged else []
    name = lines.call("query-name", _Name).name
    plugged = tuple(each.data.size for each in devices if each.data.size)
    return Qemu(pid, name, sizes.base + sizes.plugged, plugged)


class Lines:
    """One JSON object a line, all of it before a deadline.

    Args:
        stream: Connected to QEMU; it stays the caller's.
        deadline: After which nothing is waited for.
    """

    def __init__(self, stream: socket.socket, deadline: Deadline) -> None:
        self._stream = stream
        self.deadline = deadline
        self._held = b""
        self._events: deque[Event] = deque(maxlen=_EVENTS_MAX)

    def call(self, command: str, kind: type[_T], **arguments: object) -> _T:
        """Ask, and keep the events that come between.

        Raises:
            QmpRefused: QEMU says no.
        """
        asked = {"execute": command} | ({"arguments": arguments} if arguments else {})
        self._stream.sendall(msgspec.json.encode(asked) + b"\n")
        while True:
            reply = self._hear()
            if reply.error is not None:
                raise QmpRefused(f"{command}: {reply.error.desc}", reply.error.kind)
            if not isinstance(reply.return_, msgspec.UnsetType):
                return decoded(reply.return_, kind)

    def event(self) -> Event:
        """Return the oldest event that was not returned yet, or wait for one.

        Raises:
            TimeoutError: None came before the deadline.
        """
        while not self._events:
            self._hear()
        return self._events.popleft()

    def _hear(self) -> _Reply:
        reply = decoded(self.next(), _Reply)
        if reply.event:
            self._events.append(Event(reply.event, reply.data))
        return reply

    def next(self) -> bytes:
        """Return the next line that says something."""
        while True:
            line, newline, rest = self._held.partition(b"\n")
            if newline:
                self._held = rest
                if line.strip():
                    return line
                continue
            if len(self._held) > _LINE_BYTES_MAX:
                raise QmpTrouble("a line without an end")
            chunk = self.deadline.receive(self._stream, _CHUNK)
            if not chunk:
                raise QmpTrouble("it hung up")
            self._held += chunk
