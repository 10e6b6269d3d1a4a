"""ttRPC's frames: bytes in, frames out, and no I/O.

A frame is ten bytes of header, big endian, and a body:

    length u32 | stream u32 | kind u8 | flags u8 | body of `length` bytes

Bodies are kept up to `KEPT_MAX`, however many bytes are announced: a guest's memory is not the
caller's to fill. A body over `LENGTH_MAX` is not kept at all. What is not kept is counted off, and
the frame is given once it has passed: the next one begins where it should.

Source: containerd/ttrpc, PROTOCOL.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from memreact.value import Struct

__all__ = [
    "DATA",
    "HEADER_BYTES",
    "KEPT_MAX",
    "LENGTH_MAX",
    "REQUEST",
    "RESPONSE",
    "Frame",
    "Framer",
    "framed",
]

LENGTH_MAX = 4 << 20
# Hundreds of times what any of our calls needs, and yet little for every connection to hold.
KEPT_MAX = 64 << 10

REQUEST, RESPONSE, DATA = 1, 2, 3
_HEADER = struct.Struct(">IIBB")
HEADER_BYTES = _HEADER.size


class Frame(Struct, frozen=True):
    """One frame.

    Args:
        stream: Of the call; an answer carries the same.
        kind: REQUEST, RESPONSE, DATA, or something unknown.
        flags: Of streams; 0 for a plain call.
        length: Bytes of the body as announced.
        body: What was kept of it, from its beginning.
    """

    stream: int
    kind: int
    flags: int
    length: int
    body: bytes


def framed(stream: int, kind: int, body: bytes) -> bytes:
    """Write a frame."""
    return _HEADER.pack(len(body), stream, kind, 0) + body


class Framer:
    """Cuts what arrives on one connection into frames."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._body = bytearray()
        self._passing = 0  # bytes of the body that are still to come

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Give each frame that `data` ends, as it is asked for.

        The next `data` may be fed only when this one was asked for until its end.
        """
        view = memoryview(data)
        while view:
            if len(self._header) < HEADER_BYTES:
                view = self._take_header(view)
            if len(self._header) == HEADER_BYTES:
                view = self._take_body(view)
                if not self._passing:
                    yield self._whole()

    def _take_header(self, view: memoryview) -> memoryview:
        missing = HEADER_BYTES - len(self._header)
        self._header += view[:missing]
        if len(self._header) == HEADER_BYTES:
            self._passing = _HEADER.unpack(self._header)[0]
        return view[missing:]

    def _take_body(self, view: memoryview) -> memoryview:
        here = view[: self._passing]
        length = _HEADER.unpack(self._header)[0]
        if length <= LENGTH_MAX:
            self._body += here[: KEPT_MAX - len(self._body)]
        self._passing -= len(here)
        return view[len(here) :]

    def _whole(self) -> Frame:
        length, stream, kind, flags = _HEADER.unpack(self._header)
        frame = Frame(stream, kind, flags, length, bytes(self._body))
        self._header, self._body = bytearray(), bytearray()
        return frame
