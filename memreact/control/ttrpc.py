"""What Kata's own client speaks: ttRPC, with the calls of Kata's agent that concern us.

    grpc.AgentService  MemAgentMemcgSet, MemAgentCompactSet, AddSwap, AddSwapPath;
                       all its other methods: UNIMPLEMENTED
    grpc.Health        Check, Version

Each frame is answered as soon as it is whole, so that calls of one connection are answered in
their order, and a caller that leaves takes nothing along that is half done. A disk that is to be
swap may have to be waited for: what comes after that call waits too, and a caller that leaves
ends it. What a connection can
cost is bounded: its frames (see `ttrpc_frames`), the calls answered in one turn of the loop, and
the answers that nobody reads.

Source: containerd/ttrpc, PROTOCOL.md; Kata's agent.proto and health.proto; grpc's status codes
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from msgspec import Struct
from msgspec.structs import asdict

from memreact import __version__
from memreact.control.peer import Peer
from memreact.control.ttrpc_frames import DATA, LENGTH_MAX, REQUEST, RESPONSE, Frame, Framer, framed
from memreact.settings.errors import SettingsError
from memreact.settings.tables import config_from
from memreact.swap_trouble import SwapTrouble
from memreact_schemas.agent import (
    ADD_SWAP,
    ADD_SWAP_PATH,
    COMPACT_CONFIG,
    HEALTH_CHECK_REQUEST,
    HEALTH_CHECK_RESPONSE,
    MEMCG_CONFIG,
    SERVING,
    VERSION_CHECK_RESPONSE,
    HealthCheckResponse,
    MemAgentCompactConfig,
    MemAgentMemcgConfig,
    Request,
    Response,
    Status,
    VersionCheckResponse,
)
from memreact_schemas.agent import REQUEST as REQUEST_TABLE
from memreact_schemas.agent import RESPONSE as RESPONSE_TABLE
from memreact_schemas.config import Compact, Config, Memcg
from memreact_schemas.protobuf import ProtobufError, Table, decode, encode, raw_fields
from memreact_schemas.swap import AlreadySwap, SwapRefused

__all__ = ["Agent", "Audit", "ttrpc_protocol"]

UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED = 2, 3, 4
PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 7, 8, 12, 13

_GRPC_VERSION = "0.0.1"  # Kata's agent says so
_AT_ONCE = 4  # calls in one turn of the loop: between them a stall is heard of
_OUTPUT_MAX = 64 << 10  # bytes of answers that wait to be read; past it nothing more is read
_HELD_MAX = 64 << 10  # bytes that came while a call lasts; past it nothing more is read
_UNREAD_SECS = 10.0
_EMPTY = b""  # google.protobuf.Empty
_WHY_MAX = 400  # characters: names that callers send come back to them

_SLOT_MAX = 31
_TOO_LONG = "timeout"

# What is not answered at once; it is begun when it is called.
_Later: TypeAlias = Callable[[], Coroutine[Any, Any, bytes]]
_Message = TypeVar("_Message", bound=Struct)
# Told of each call that was refused for what it asks or who asks, with the call's name and why.
Audit: TypeAlias = Callable[[Peer, str, str], None]


class Agent(Protocol):
    """What the calls act on."""

    def set_memcg(self, keys: Memcg, peer: Peer) -> None:
        """Put keys of `[memcg]` in force before it returns; None means unchanged.

        Raises:
            SettingsError: They cannot be taken beside the others.
            OSError: They cannot be kept, and so are not in force.
        """

    def set_compact(self, keys: Compact, peer: Peer) -> None:
        """Do the same for `[compact]`."""

    async def add_swap(self, pci_path: str, peer: Peer) -> None:
        """Take the disk at a PCI path, slots in hexadecimal, into use as swap.

        Raises:
            SwapTrouble: It cannot be done.
        """

    async def add_swap_path(self, path: str, peer: Peer) -> None:
        """Take the disk that a path leads to into use as swap.

        Raises:
            SwapTrouble: It cannot be done.
        """


def ttrpc_protocol(
    agent: Agent, peer: Peer, audit: Audit, *, unread_secs: float = _UNREAD_SECS
) -> asyncio.Protocol:
    """Make what serves one connection.

    Args:
        agent: What its calls act on.
        peer: Who is at the other end, and may do what.
        audit: Told of refused calls; changes are the agent's to tell.
        unread_secs: Seconds after which a peer that does not read its answers is left.
    """
    return _Connection(_Calls(agent, peer, audit), unread_secs)


class _RefusedError(Exception):
    """A call that is answered with an error.

    Args:
        code: Of gRPC's.
        why: In words.
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.status = Status(code=code, message=why[:_WHY_MAX])


class _Calls:
    """Answers frames: a frame in, a frame out, and no I/O."""

    def __init__(self, agent: Agent, peer: Peer, audit: Audit) -> None:
        self.agent = agent
        self.peer = peer
        self.audit = audit

    def answer(self, frame: Frame, waited_us: int) -> bytes | Coroutine[Any, Any, bytes]:
        """Answer one frame, now or later; nothing comes back for a kind that is not known."""
        if frame.kind not in (REQUEST, DATA):
            return b""
        try:
            payload = self._call(frame, waited_us)
        except _RefusedError as refused:
            return _answer_to(frame, refused)
        if isinstance(payload, bytes):
            return _answer_to(frame, payload)
        return self._answer_later(frame, payload, waited_us)

    async def _answer_later(self, frame: Frame, doing: _Later, waited_us: int) -> bytes:
        """Wait until it is done, for as long as the caller does."""
        request = _request_of(frame)
        left_s = request.timeout_nano / 1e9 - waited_us / 1e6 if request.timeout_nano > 0 else None
        try:
            async with asyncio.timeout(left_s):
                return _answer_to(frame, await doing())
        except TimeoutError:
            refused = _RefusedError(DEADLINE_EXCEEDED, _TOO_LONG)
        except _RefusedError as error:
            refused = error
        self.audit(self.peer, request.method, str(refused))
        return _answer_to(frame, refused)

    def _call(self, frame: Frame, waited_us: int) -> bytes | _Later:
        request = _request_of(frame)
        method = _method_of(request)
        if len(frame.body) < frame.length:
            raise _RefusedError(RESOURCE_EXHAUSTED, f"a call of {frame.length} bytes")
        if 0 < request.timeout_nano <= waited_us * 1000:
            raise _RefusedError(DEADLINE_EXCEEDED, _TOO_LONG)
        try:
            self._permit(method)
            return method.run(self, request.payload)
        except _RefusedError as refused:
            self.audit(self.peer, request.method, str(refused))
            raise

    def _permit(self, method: _Method) -> None:
        """Let only those pass who may."""
        allowed, verb = (
            (self.peer.may_write, "change") if method.changes else (self.peer.may_read, "ask")
        )
        if not allowed:
            raise _RefusedError(PERMISSION_DENIED, f"{self.peer.name} may not {verb} anything")


def _answer_to(frame: Frame, what: bytes | _RefusedError) -> bytes:
    if isinstance(what, bytes):
        response = Response(status=Status(), payload=what)
    else:
        response = Response(status=what.status)
    return framed(frame.stream, RESPONSE, encode(RESPONSE_TABLE, response))


def _request_of(frame: Frame) -> Request:
    """Read the call that a frame holds; of one that is not whole, as much as is there."""
    if frame.length > LENGTH_MAX:
        why = f"message length {frame.length} exceeds maximum message size of {LENGTH_MAX}"
        raise _RefusedError(INVALID_ARGUMENT, why)
    if frame.kind == DATA:
        raise _RefusedError(INVALID_ARGUMENT, "Stream is no longer active")
    if frame.stream % 2 == 0:
        raise _RefusedError(INVALID_ARGUMENT, "stream id must be odd")
    if len(frame.body) < frame.length:
        return _beginning_of(frame.body)
    return _decoded(REQUEST_TABLE, frame.body, INVALID_ARGUMENT)


def _beginning_of(body: bytes) -> Request:
    """Read service and method of a call that was not kept to its end: they come first."""
    names = {1: "", 2: ""}
    with suppress(ProtobufError):
        for number, _, value in raw_fields(body):
            if number in names and isinstance(value, bytes):
                names[number] = value.decode(errors="replace")
    return Request(service=names[1], method=names[2])


def _decoded(table: Table[_Message], data: bytes, code: int) -> _Message:
    try:
        return decode(table, data)
    except ProtobufError as error:
        raise _RefusedError(code, f"cannot be decoded: {error}") from error


class _Method(NamedTuple):
    """What a method does.

    Args:
        run: Takes the payload and gives the answer's, now or later.
        changes: Whether it needs the permission to write.
    """

    run: Callable[[_Calls, bytes], bytes | _Later]
    changes: bool


def _method_of(request: Request) -> _Method:
    methods = _SERVICES.get(request.service)
    if methods is None:
        why = f"{request.service[: _WHY_MAX // 2]} service does not exist"
        raise _RefusedError(INVALID_ARGUMENT, why)
    method = methods.get(request.method)
    if method is None:
        raise _RefusedError(UNIMPLEMENTED, f"{request.method[: _WHY_MAX // 2]} method")
    return method


def _set_memcg(calls: _Calls, payload: bytes) -> bytes:
    sent = _decoded(MEMCG_CONFIG, payload, UNKNOWN)
    with _told_why():
        calls.agent.set_memcg(_checked("memcg", sent, calls.peer).memcg, calls.peer)
    return _EMPTY


def _set_compact(calls: _Calls, payload: bytes) -> bytes:
    sent = _decoded(COMPACT_CONFIG, payload, UNKNOWN)
    with _told_why():
        calls.agent.set_compact(_checked("compact", sent, calls.peer).compact, calls.peer)
    return _EMPTY


def _add_swap(calls: _Calls, payload: bytes) -> _Later:
    slots = _decoded(ADD_SWAP, payload, UNKNOWN).pci_path
    if not slots:
        raise _RefusedError(INVALID_ARGUMENT, "PCI path must have at least one element")
    if max(slots) > _SLOT_MAX:
        why = f"PCI slot {max(slots)} should be in range [0..{_SLOT_MAX}]"
        raise _RefusedError(INVALID_ARGUMENT, why)
    pci_path = "/".join(f"{slot:02x}" for slot in slots)
    return partial(_swapped, partial(calls.agent.add_swap, pci_path, calls.peer))


def _add_swap_path(calls: _Calls, payload: bytes) -> _Later:
    path = _decoded(ADD_SWAP_PATH, payload, UNKNOWN).path
    if not path.startswith("/"):
        raise _RefusedError(INVALID_ARGUMENT, f"{path!r} is no absolute path")
    return partial(_swapped, partial(calls.agent.add_swap_path, path, calls.peer))


async def _swapped(doing: Callable[[], Coroutine[Any, Any, None]]) -> bytes:
    try:
        await doing()
    except SwapTrouble as trouble:
        raise _RefusedError(INTERNAL, _as_kata_says(trouble)) from trouble
    return _EMPTY


def _as_kata_says(trouble: SwapTrouble) -> str:
    """What the kernel refused is told in the words of Kata's agent, with the number."""
    said = trouble.answer
    if isinstance(said, SwapRefused) and said.doing == "swapon" and said.errno:
        return f"libc::swapon get error {os.strerror(said.errno)} (os error {said.errno})"
    if isinstance(said, AlreadySwap):
        return f"libc::swapon get error {os.strerror(errno.EBUSY)} (os error {errno.EBUSY})"
    return str(trouble)


@contextmanager
def _told_why() -> Iterator[None]:
    """Turn what may go wrong with settings into an answer."""
    try:
        yield
    except SettingsError as error:
        raise _RefusedError(INVALID_ARGUMENT, str(error)) from error
    except OSError as error:
        raise _RefusedError(INTERNAL, str(error)) from error


def _checked(table: str, sent: MemAgentMemcgConfig | MemAgentCompactConfig, peer: Peer) -> Config:
    """Check the keys that were sent as those of any other layer.

    Raises:
        SettingsError: One is out of its range.
    """
    said = {key: value for key, value in asdict(sent).items() if value is not None}
    return config_from({table: said}, f"pushed by {peer.name}")


def _check(_: _Calls, payload: bytes) -> bytes:
    _decoded(HEALTH_CHECK_REQUEST, payload, UNKNOWN)
    return encode(HEALTH_CHECK_RESPONSE, HealthCheckResponse(status=SERVING))


def _version(_: _Calls, payload: bytes) -> bytes:
    _decoded(HEALTH_CHECK_REQUEST, payload, UNKNOWN)
    said = VersionCheckResponse(grpc_version=_GRPC_VERSION, agent_version=__version__)
    return encode(VERSION_CHECK_RESPONSE, said)


_SERVICES: Mapping[str, Mapping[str, _Method]] = {
    "grpc.AgentService": {
        "MemAgentMemcgSet": _Method(_set_memcg, changes=True),
        "MemAgentCompactSet": _Method(_set_compact, changes=True),
        "AddSwap": _Method(_add_swap, changes=True),
        "AddSwapPath": _Method(_add_swap_path, changes=True),
    },
    "grpc.Health": {
        "Check": _Method(_check, changes=False),
        "Version": _Method(_version, changes=False),
    },
}


class _Connection(asyncio.Protocol):
    """Carries frames between one transport and `_Calls`.

    It reads only while nothing waits: no frames that are there already, no answers unread. While a
    call lasts it reads a little, for it would not hear otherwise that its caller is gone.
    """

    def __init__(self, calls: _Calls, unread_secs: float) -> None:
        self._calls = calls
        self._unread_secs = unread_secs
        self._framer = Framer()
        self._frames: Iterator[Frame] = iter(())
        self._arrived = 0.0
        self._behind = False
        self._reading = True
        self._turn: asyncio.Handle | None = None
        self._unread: asyncio.Handle | None = None
        self._later: asyncio.Task[bytes] | None = None
        self._held = bytearray()
        self._held_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._transport.set_write_buffer_limits(_OUTPUT_MAX)

    def data_received(self, data: bytes) -> None:
        """Answer the frames that `data` ends; what comes while a call lasts waits for its end."""
        now = self._loop.time()
        if self._later:
            self._held_since = self._held_since if self._held else now
            self._held += data
            self._read_or_wait()
        else:
            self._answer(data, now)

    def _answer(self, data: bytes, arrived: float) -> None:
        self._arrived = arrived
        self._frames = self._framer.feed(data)
        self._answer_some()

    def pause_writing(self) -> None:
        """Stop reading too: who does not read is not answered further, and in the end left."""
        self._unread = self._loop.call_later(self._unread_secs, self._leave)
        self._read_or_wait()

    def resume_writing(self) -> None:
        """Go on where it stopped."""
        if self._unread:
            self._unread.cancel()
        self._unread = None
        self._read_or_wait()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's word
        """Forget what was still to be answered."""
        for handle in (self._turn, self._unread, self._later):
            if handle:
                handle.cancel()
        self._frames = iter(())

    def _answer_some(self) -> None:
        """Answer as many frames as one turn of the loop may take."""
        self._turn = None
        if self._transport.is_closing():
            return  # shown out: what is left in their frames is not done any more
        if not self._behind and self._held:
            data = bytes(self._held)
            self._held.clear()
            self._answer(data, self._held_since)
            return
        waited_us = int((self._loop.time() - self._arrived) * 1_000_000)
        taken, answers = 0, b""
        for frame in islice(self._frames, _AT_ONCE):
            taken += 1
            answer = self._calls.answer(frame, waited_us)
            if not isinstance(answer, bytes):
                self._wait_for(answer)
                break
            answers += answer
        self._behind = taken == _AT_ONCE or self._later is not None
        if answers:
            self._transport.write(answers)
        self._read_or_wait()

    def _wait_for(self, answer: Coroutine[Any, Any, bytes]) -> None:
        """Answer nothing else, and read nothing, until this is."""
        self._later = self._loop.create_task(answer)
        self._later.add_done_callback(self._answered)

    def _answered(self, later: asyncio.Task[bytes]) -> None:
        self._later = None
        if later.cancelled() or self._transport.is_closing():
            return
        self._transport.write(later.result())  # a bug is the loop's to tell
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        if self._transport.is_closing():
            return
        if (self._behind or self._held) and not (self._unread or self._turn or self._later):
            self._turn = self._loop.call_soon(self._answer_some)
        # While a call lasts it reads on, to hear that its caller leaves.
        listens = self._later is not None and len(self._held) < _HELD_MAX
        read = listens or not (self._behind or self._held or self._unread)
        if read != self._reading:
            self._reading = read
            (self._transport.resume_reading if read else self._transport.pause_reading)()

    def _leave(self) -> None:
        self._calls.audit(
            self._calls.peer, "connection", f"answers unread for {self._unread_secs:g} s"
        )
        self._transport.abort()
