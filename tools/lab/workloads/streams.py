"""Many streams over one: between the lab's bridge on the host and its relay in a guest.

A frame is its kind, the number of its stream, a length, and so many bytes. Of each stream a side
has at most a window of bytes under way that the other has not handed on yet, so that a stream that
nobody reads stands still alone.
"""

from __future__ import annotations

import asyncio
import enum
import struct
from contextlib import suppress
from typing import NamedTuple

__all__ = ["Bundle", "Frame", "Kind", "Stream", "read_frame"]

_HEAD = struct.Struct("!BIH")
_NUMBER = struct.Struct("!I")
_PIECE = 16 << 10
_WINDOW = 256 << 10


class Kind(enum.IntEnum):
    """What a frame says of its stream."""

    OPEN = 1
    """Connect to the port in the data: four bytes."""
    OPENED = 2
    REFUSED = 3
    DATA = 4
    TAKEN = 5
    """So many bytes, four bytes, were handed on."""
    END = 6
    """No more in this direction."""
    RESET = 7
    """No more in either."""


class Frame(NamedTuple):
    """One frame; `amount` is its data read as a number."""

    kind: Kind
    number: int
    data: bytes = b""

    @property
    def amount(self) -> int:
        """What four bytes of data say."""
        found: int = _NUMBER.unpack(self.data)[0]
        return found


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Read the next frame.

    Raises:
        asyncio.IncompleteReadError: The other side is gone.
    """
    kind, number, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    return Frame(Kind(kind), number, await reader.readexactly(length))


class Bundle:
    """One side of all streams.

    Args:
        writer: What carries them to the other side.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._streams: dict[int, Stream] = {}

    def stream(self, number: int) -> Stream:
        """Begin one, whose number nobody has."""
        made = self._streams[number] = Stream(self, number)
        return made

    def take(self, frame: Frame) -> None:
        """Take a frame of a stream that is open; one that is not any more stays without answer."""
        if stream := self._streams.get(frame.number):
            stream.take(frame)

    def send(self, kind: Kind, number: int, data: bytes | int = b"") -> None:
        """Send a frame."""
        body = _NUMBER.pack(data) if isinstance(data, int) else data
        self._writer.write(_HEAD.pack(kind, number, len(body)) + body)

    async def drain(self) -> None:
        """Wait until the other side has taken most of what was sent."""
        await self._writer.drain()

    def forget(self, number: int) -> None:
        """Take no more of a stream."""
        self._streams.pop(number, None)


class Stream:
    """One side of one stream.

    Args:
        bundle: To which it belongs.
        number: Of it.
    """

    def __init__(self, bundle: Bundle, number: int) -> None:
        self._bundle = bundle
        self._number = number
        self._came: asyncio.Queue[bytes | None] = asyncio.Queue()  # b"" is the end, None a reset
        self._room = _WINDOW
        self._has_room = asyncio.Event()

    def take(self, frame: Frame) -> None:
        """Take one of its frames."""
        match frame.kind:
            case Kind.DATA:
                self._came.put_nowait(frame.data)
            case Kind.TAKEN:
                self._room += frame.amount
                self._has_room.set()
            case Kind.END:
                self._came.put_nowait(b"")
            case Kind.RESET:
                self._came.put_nowait(None)

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy in both directions until both have ended, or one of them breaks, and close."""
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._send(reader))
                ways.create_task(self._hand_on(writer))
        except* OSError:
            self._bundle.send(Kind.RESET, self._number)
            writer.transport.abort()
        finally:
            self._bundle.forget(self._number)
            writer.close()

    async def _send(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_PIECE):
            while self._room < len(data):
                self._has_room.clear()
                await self._has_room.wait()
            self._room -= len(data)
            self._bundle.send(Kind.DATA, self._number, data)
            await self._bundle.drain()
        self._bundle.send(Kind.END, self._number)

    async def _hand_on(self, writer: asyncio.StreamWriter) -> None:
        while data := await self._came.get():
            writer.write(data)
            await writer.drain()
            self._bundle.send(Kind.TAKEN, self._number, len(data))
        if data is None:
            raise ConnectionResetError
        with suppress(OSError):  # they are gone already
            writer.write_eof()
