"""Varlink on one connection: calls in, answers out, in the order in which they came.

A call is a JSON object and a NUL. One call is answered in each turn of the loop, however many came
together, and none while its peer does not read; then nothing more is read from it either. So what
one connection costs is its limit of input, and one answer.

What is no call at all closes the connection. Of a key that a call says twice the last one counts.

Source: varlink.org, "Protocol" and "Service"
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

import msgspec
from msgspec import Raw, Struct

import memreact_schemas
from memreact import __version__
from memreact.control.peer import Peer
from memreact.control.sharing import Sharing, Turn
from memreact_schemas import varlink
from memreact_schemas.control import Method
from memreact_schemas.varlink import (
    ANSWER_BYTES_MAX,
    CALL_BYTES_MAX,
    SERVICE_INTERFACE,
    Call,
    Reply,
)

__all__ = [
    "About",
    "Answer",
    "Encoded",
    "Last",
    "Lasting",
    "Refused",
    "Service",
    "Stream",
    "VarlinkError",
    "VarlinkProtocol",
    "invalid_parameter",
]

_READER_CALL_BYTES_MAX = 64 << 10  # whoever may only read has nothing long to say
_ITEMS_AT_ONCE = 32  # of a stream, in one turn of the loop
_UNREAD_SECS = 60.0
_READER_UNREAD_SECS = 5.0
_SHOWN_MAX = 200  # characters of a name that goes back to whoever said it
_NUL = b"\0"

Refused: TypeAlias = Callable[[Peer, str, str], None]
"""Told of each call that was refused for who asks: the peer, the method, and why."""


class VarlinkError(Exception):
    """An answer that is an error.

    Args:
        error: Its parameters; its name is that of the struct.
        interface: That it belongs to.
    """

    def __init__(self, error: Struct, interface: str = SERVICE_INTERFACE) -> None:
        super().__init__(f"{interface}.{type(error).__name__}")
        self.error = error
        self.interface = interface


class Last(NamedTuple):
    """The answer that ends a row."""

    answer: Struct


@runtime_checkable
class Stream(Protocol):
    """A row of answers to one call."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begin; `wake` is to be called whenever there is something to take."""

    def take(self) -> Struct | Last | None:
        """Give the next answer, None while there is none; after the last one it is closed."""

    def close(self) -> None:
        """End: nobody listens any more."""


class Encoded:
    """An answer that is written already: many who ask can be given the very same bytes.

    Args:
        parameters: What it says.
    """

    __slots__ = ("frame",)

    def __init__(self, parameters: Struct) -> None:
        frame = bytearray(b'{"parameters":')
        _ENCODER.encode_into(parameters, frame, -1)
        frame += b"}\0"
        self.frame = bytes(frame)


_ENCODER = msgspec.json.Encoder()

_Later: TypeAlias = Coroutine[Any, Any, Struct | Encoded]


class Lasting(NamedTuple):
    """An answer that comes later, to a call that ends when its caller leaves."""

    later: _Later


Answer: TypeAlias = Struct | Encoded | Stream | _Later | Lasting


class Service(Protocol):
    """One interface."""

    name: str
    methods: Mapping[str, Method]

    def answer(self, method: str, call: Struct, peer: Peer) -> Answer:
        """Answer a call that whoever asks may make.

        Raises:
            VarlinkError: The answer is an error.
        """


class VarlinkProtocol(asyncio.Protocol):
    """Serves one connection.

    Args:
        services: Interfaces by their names.
        peer: Who is at the other end.
        refused: Told of refused calls.
        unread_secs: Seconds after which a peer that does not read its answers is left; far fewer
            for whoever may only read, where none are given.
        sharing: What it shares with other connections.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        peer: Peer,
        refused: Refused,
        *,
        unread_secs: float | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self._services = services
        self._peer = peer
        self._refused = refused
        usual_secs = _UNREAD_SECS if peer.may_write else _READER_UNREAD_SECS
        self._unread_secs = usual_secs if unread_secs is None else unread_secs
        self._sharing = sharing or Sharing()
        self._limit = CALL_BYTES_MAX if peer.may_write else _READER_CALL_BYTES_MAX
        self._input = bytearray()
        self._searched = 0  # bytes of input that hold no NUL
        self._next_call: asyncio.Handle | Turn | None = None
        self._next_items: asyncio.Handle | None = None
        self._answering: asyncio.Task[None] | None = None
        self._lasting = False
        self._stream: Stream | None = None
        self._writable = True
        self._left_alone: asyncio.TimerHandle | None = None
        self._ended = False  # they say no more
        self._closed = False

    @property
    def streaming(self) -> bool:
        """Whether a row of answers is under way: silence is then no idleness."""
        return self._stream is not None

    @property
    def busy(self) -> bool:
        """Whether a call is being answered."""
        return self._stream is not None or self._answering is not None

    @property
    def unread(self) -> int:
        """Bytes of answers that wait to be read."""
        return self._transport.get_write_buffer_size()

    @property
    def may_be_left(self) -> bool:
        """Whether others come first: whoever may write is never left for another one's sake."""
        return not self._peer.may_write

    def leave(self) -> None:
        """End at once, with what is not read yet."""
        self._closed = True
        self._refused(self._peer, "", f"{self.unread} bytes unread, and no room for them")
        self._transport.abort()

    @property
    def _gone(self) -> bool:
        """Whether nothing more is heard or said, ended from here or by whoever let them in."""
        return self._closed or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """Take bytes in, however they are cut."""
        if self._closed:
            return
        self._input += data
        if len(self._input) > self._limit:
            self._transport.pause_reading()
        self._first_call()

    def eof_received(self) -> bool:
        """Answer what was asked before; a stream that they may not read any more ends."""
        self._ended = True
        if not self._stream:
            self._first_call()
        return not (self._closed or self.streaming or self._lasting)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        del exc  # they are gone, however they went
        self._closed = True
        for handle in (self._next_call, self._next_items, self._left_alone):
            if handle is not None:
                handle.cancel()
        self._input.clear()
        self._sharing.forget(self)
        if self._answering is not None:
            self._answering.cancel()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def pause_writing(self) -> None:
        """They do not read: ask and answer no more until they do."""
        self._writable = False
        if self._stream is None:
            self._left_alone = self._loop.call_later(self._unread_secs, self._transport.abort)

    def resume_writing(self) -> None:
        """They read again."""
        self._writable = True
        if self._left_alone is not None:
            self._left_alone.cancel()
            self._left_alone = None
        self._wake()
        self._go_on()

    def _first_call(self) -> None:
        """Look for a call: at once for whoever may write, and in their turn for all others."""
        if self._peer.may_write and self._next_call is None:
            self._one_call()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Look for the next call in the loop's next turn: others come in between."""
        if self._next_call is None and not self._closed:
            soon = self._loop.call_soon if self._peer.may_write else self._sharing.soon
            self._next_call = soon(self._one_call)

    def _one_call(self) -> None:
        self._next_call = None
        if self._gone or self.busy or not self._writable:
            return
        end = self._input.find(_NUL, self._searched)
        if max(end, 0) > self._limit or (end < 0 and len(self._input) > self._limit):
            self._no_call(f"a call of more than {self._limit} bytes")
        elif end >= 0:
            frame = bytes(self._input[:end])
            del self._input[: end + 1]
            self._searched = 0
            if len(self._input) <= self._limit:
                self._transport.resume_reading()
            self._call(frame)
        elif self._ended:
            self._close()
        else:
            self._searched = len(self._input)

    def _call(self, frame: bytes) -> None:
        try:
            call = msgspec.json.decode(frame, type=Call)
        except _NOT_JSON as error:
            self._no_call(f"no call: {error}")
            return
        self._answer(call)
        self._go_on()

    def _no_call(self, why: str) -> None:
        self._refused(self._peer, "", why)
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._input.clear()
        self._transport.close()  # what was answered is still written, if they read it in time
        if self._transport.get_write_buffer_size() and self._left_alone is None:
            self._left_alone = self._loop.call_later(self._unread_secs, self._transport.abort)

    def _answer(self, call: Call) -> None:
        try:
            answer = self._asked(call)
        except VarlinkError as error:
            self._send_error(call, error)
            return
        if isinstance(answer, Struct | Encoded):
            self._send(call, answer)
        elif isinstance(answer, Stream):
            self._follow(answer)
        else:
            self._lasting = isinstance(answer, Lasting)
            later = answer.later if isinstance(answer, Lasting) else answer
            self._answering = self._loop.create_task(self._answer_later(call, later))
            self._answering.add_done_callback(partial(self._answered, later))
            if self._lasting and self._ended:  # nobody would notice that they are gone
                self._close()

    def _follow(self, stream: Stream) -> None:
        self._stream = stream
        stream.start(self._wake)
        if self._ended:  # nobody would notice that they are gone
            self._close()

    def _asked(self, call: Call) -> Answer:
        if call.upgrade:
            raise VarlinkError(varlink.InvalidParameter("upgrade"))
        interface, _, name = call.method.rpartition(".")
        service = self._services.get(interface)
        if service is None:
            raise VarlinkError(varlink.InterfaceNotFound(interface[:_SHOWN_MAX]))
        method = service.methods.get(name)
        if method is None:
            raise VarlinkError(varlink.MethodNotFound(call.method[:_SHOWN_MAX]))
        self._permit(method, name)
        if method.streams and (call.oneway or not call.more):
            raise VarlinkError(varlink.ExpectedMore())
        return service.answer(name, _parameters_of(call, method), self._peer)

    def _permit(self, method: Method, name: str) -> None:
        """Let only those pass who may."""
        if not (self._peer.may_write if method.writes else self._peer.may_read):
            self._refused(self._peer, name, "permission denied")
            raise VarlinkError(varlink.PermissionDenied())

    async def _answer_later(self, call: Call, answer: _Later) -> None:
        try:
            parameters = await answer
        except VarlinkError as error:
            self._send_error(call, error)
        else:
            self._send(call, parameters)

    def _answered(self, answer: _Later, task: asyncio.Task[None]) -> None:
        answer.close()  # they may have left before it began
        self._answering = None
        self._lasting = False
        self._go_on()
        if not task.cancelled():
            task.result()  # a bug is the loop's to tell

    def _wake(self) -> None:
        """Write items of the stream in the loop's next turn: the one who made them goes on."""
        if self._stream is not None and self._next_items is None and not self._closed:
            self._next_items = self._loop.call_soon(self._items)

    def _items(self) -> None:
        self._next_items = None
        for _ in range(_ITEMS_AT_ONCE):
            if self._stream is None or self._gone or not self._writable:
                return
            item = self._stream.take()
            if item is None:
                return
            if isinstance(item, Last):
                self._end_row(self._stream, item)
                return
            self._write(Reply(parameters=_json(item), continues=True))
        self._wake()

    def _end_row(self, stream: Stream, last: Last) -> None:
        self._stream = None
        stream.close()
        self._write(Reply(parameters=_json(last.answer)))
        self._go_on()

    def _send(self, call: Call, parameters: Struct | Encoded) -> None:
        if call.oneway:
            return
        if isinstance(parameters, Encoded):
            self._write_frame(parameters.frame)
        else:
            self._write(Reply(parameters=_json(parameters)))

    def _send_error(self, call: Call, error: VarlinkError) -> None:
        if not call.oneway:
            self._write(Reply(parameters=_json(error.error), error=str(error)))

    def _write(self, reply: Reply) -> None:
        if not self._gone:
            self._write_frame(msgspec.json.encode(reply) + _NUL)

    def _write_frame(self, frame: bytes) -> None:
        if self._gone:
            return
        if len(frame) > ANSWER_BYTES_MAX:
            self._no_call(f"an answer of {len(frame)} bytes")
            return
        self._transport.write(frame)
        if self.unread:
            self._sharing.wrote(self)


class About:
    """org.varlink.service: what is served here.

    Args:
        services: The other interfaces.
    """

    name = SERVICE_INTERFACE
    methods: Mapping[str, Method] = {
        "GetInfo": Method(varlink.GetInfo, varlink.Info, writes=False),
        "GetInterfaceDescription": Method(
            varlink.GetInterfaceDescription, varlink.Description, writes=False
        ),
    }

    def __init__(self, services: Iterable[Service]) -> None:
        self._names = (SERVICE_INTERFACE, *(service.name for service in services))

    def answer(self, method: str, call: Struct, peer: Peer) -> Struct:
        """Say who serves here, or what an interface is."""
        del method, peer
        if not isinstance(call, varlink.GetInterfaceDescription):
            return varlink.Info("memreact", "memreact", __version__, "", self._names)
        if call.interface not in self._names:
            raise VarlinkError(varlink.InterfaceNotFound(call.interface[:_SHOWN_MAX]))
        return varlink.Description(_description(call.interface))


def invalid_parameter(message: str) -> VarlinkError:
    """Take the name of a parameter out of msgspec's sentence."""
    what, _, at = message.rpartition(" - at `$.")
    name = _FIELD.search(what or message)
    inner = name[1] if name else ""
    path = ".".join(part for part in (at.rstrip("`") if what else "", inner) if part)
    return VarlinkError(varlink.InvalidParameter((path or "parameters")[:_SHOWN_MAX]))


_FIELD = re.compile(r"^Object (?:contains unknown|missing required) field `(.*)`$", re.DOTALL)
# What msgspec raises for what is no JSON, or JSON of another shape.
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def _parameters_of(call: Call, method: Method) -> Struct:
    data = bytes(call.parameters)
    data = b"{}" if data in (b"", b"null") else data
    try:
        return msgspec.json.decode(data, type=method.call)
    except _NOT_JSON as error:
        raise invalid_parameter(str(error)) from error


def _json(parameters: Struct) -> Raw:
    return Raw(msgspec.json.encode(parameters))


def _description(interface: str) -> str:
    """Read an interface's file; it is needed rarely, so nobody keeps it."""
    folder = os.path.dirname(memreact_schemas.__file__)
    with open(f"{folder}/{interface}.varlink", encoding="utf-8") as file:
        return file.read()
