"""HTTP for whoever reads the metrics: one GET /metrics on a connection, and then it is closed.

A peer has a few seconds to ask and as many to read the answer, a request has a few thousand bytes,
and nothing wakes up while nobody is connected. It is imported with the first connection.

Source: RFC 9112, "HTTP/1.1"
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import cast

from memreact_schemas.openmetrics import CONTENT_TYPE

__all__ = ["REQUEST_BYTES_MAX", "ScrapeProtocol", "Scrapes"]

REQUEST_BYTES_MAX = 8192
"""Of one request's line and headers; Prometheus sends 300."""

_PATIENCE_SECS = 10.0
_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"([!-~]{1,32}) ([!-~]{1,4096}) HTTP/(\d)\.\d\r?", re.ASCII)
# As a proxy is asked: the name of the machine comes first.
_TARGET = re.compile(rb"(?:https?://[^/?#]*)?/metrics(?:\?.*)?")
_PLAIN = "text/plain; charset=utf-8"


class Scrapes:
    """One text at a time: who asks while one is written is given that one.

    Args:
        tell: Begins to write all metrics, in parts.
    """

    def __init__(self, tell: Callable[[], Iterator[str]]) -> None:
        self._tell = tell
        self._writing: asyncio.Task[bytes] | None = None

    async def text(self) -> bytes:
        """Write all metrics; between two parts a stall is heard of."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
            self._writing.add_done_callback(self._written)
        return await asyncio.shield(self._writing)

    async def _write(self) -> bytes:
        parts = []
        for part in self._tell():
            parts.append(part)
            await asyncio.sleep(0)
        return "".join(parts).encode()

    def _written(self, _: object) -> None:
        self._writing = None


class ScrapeProtocol(asyncio.Protocol):
    """Answers one request.

    Args:
        scrapes: Where the answer comes from.
    """

    def __init__(self, scrapes: Scrapes) -> None:
        self._scrapes = scrapes
        self._heard = bytearray()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._answering: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._answering is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give them some time to ask."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._give_time()

    def data_received(self, data: bytes) -> None:
        """Wait for the whole head of the request; what comes behind it is passed over."""
        if self._answering is not None or self._transport is None or self._transport.is_closing():
            return
        self._heard += data
        end = _END.search(self._heard)
        if end is not None and end.start() <= REQUEST_BYTES_MAX:
            self._asked(bytes(self._heard[: end.start()]))
        elif len(self._heard) > REQUEST_BYTES_MAX:
            self._refuse("431 Request Header Fields Too Large")

    def eof_received(self) -> bool:
        """Answer whoever has closed their side after asking; else there is nothing to wait for."""
        return self.busy

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget them."""
        del exc
        if self._deadline is not None:
            self._deadline.cancel()
        if self._answering is not None:
            self._answering.cancel()
        self._transport = None

    def _give_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(_PATIENCE_SECS, self._give_up)

    def _give_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _asked(self, head: bytes) -> None:
        asked = _LINE.fullmatch(head.split(b"\n", 1)[0])
        if asked is None:
            self._refuse("400 Bad Request")
        elif asked[3] != b"1":
            self._refuse("505 HTTP Version Not Supported")
        elif _TARGET.fullmatch(asked[2]) is None:
            self._refuse("404 Not Found", say="there is /metrics\n")
        elif asked[1] not in {b"GET", b"HEAD"}:
            self._refuse("405 Method Not Allowed", "Allow: GET, HEAD\r\n")
        else:
            self._give_time()
            telling = self._answer(with_body=asked[1] == b"GET")
            self._answering = asyncio.get_running_loop().create_task(telling)

    async def _answer(self, *, with_body: bool) -> None:
        text = await self._scrapes.text()
        self._send("200 OK", CONTENT_TYPE, text, with_body=with_body)

    def _refuse(self, status: str, more: str = "", say: str = "") -> None:
        self._give_time()
        self._send(status, _PLAIN, (say or f"{status}\n").encode(), more)

    def _send(
        self, status: str, kind: str, body: bytes, more: str = "", *, with_body: bool = True
    ) -> None:
        """Answer, and close when it is written; the deadline ends whoever does not read it."""
        if self._transport is None or self._transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"{more}Connection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + (body if with_body else b""))
        self._transport.close()
