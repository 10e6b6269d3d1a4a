"""One request, one answer; and nobody who is silent, slow or rude is waited for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.control import scrape
from memreact.control.scrape import REQUEST_BYTES_MAX, ScrapeProtocol, Scrapes
from memreact_schemas.openmetrics import CONTENT_TYPE
from tests.memreact.control.wire import Client, serve, settled

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
TEXT = "# EOF\n"


class Teller:
    """Tells in two parts, and counts how often it was asked."""

    def __init__(self, text: str = TEXT) -> None:
        self.times = 0
        self.text = text

    def __call__(self) -> Iterator[str]:
        """Tell."""
        self.times += 1
        middle = len(self.text) // 2
        yield self.text[:middle]
        yield self.text[middle:]


async def answer(client: Client) -> bytes:
    """Read until the server has left."""
    heard = b""
    while data := await client.some():
        heard += data
    return heard


async def asked(request: bytes, teller: Teller | None = None) -> bytes:
    """Ask once."""
    async with serve(ScrapeProtocol(Scrapes(teller or Teller()))) as client:
        await client.send(request)
        return await answer(client)


def status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        GET.replace(b"\r\n", b"\n"),
        b"GET /metrics HTTP/1.0\r\n\r\n",
        b"GET /metrics?name=up HTTP/1.1\r\nAccept: text/plain\r\n\r\n",
        b"GET http://guest:9752/metrics HTTP/1.1\r\n\r\n",
        GET + b"and a body that nobody reads",
    ],
)
@pytest.mark.asyncio
async def test_whoever_asks_is_told_and_shown_out(request_: bytes) -> None:
    said = await asked(request_)
    head, _, body = said.partition(b"\r\n\r\n")
    assert status(said) == 200
    assert body.decode() == TEXT
    lines = head.decode().split("\r\n")[1:]
    assert lines == [f"Content-Type: {CONTENT_TYPE}", "Content-Length: 6", "Connection: close"]


@pytest.mark.asyncio
async def test_a_head_request_has_no_body() -> None:
    said = await asked(GET.replace(b"GET", b"HEAD"))
    assert status(said) == 200
    assert said.endswith(b"\r\n\r\n")
    assert b"Content-Length: 6\r\n" in said


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../etc HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n" + b"x: y\r\n" * REQUEST_BYTES_MAX, 431),
        (b"x" * (REQUEST_BYTES_MAX + 1), 431),
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_answered_is_refused_by_its_number(request_: bytes, code: int) -> None:
    teller = Teller()
    said = await asked(request_, teller)
    assert status(said) == code
    assert b"Connection: close" in said
    assert teller.times == 0


@pytest.mark.asyncio
async def test_a_request_may_come_in_pieces() -> None:
    async with serve(ScrapeProtocol(Scrapes(Teller()))) as client:
        for at in range(len(GET)):
            await client.send(GET[at : at + 1])
            await settled()
        assert status(await answer(client)) == 200


@pytest.mark.asyncio
async def test_who_has_closed_their_side_after_asking_is_told_all_the_same() -> None:
    async with serve(ScrapeProtocol(Scrapes(Teller()))) as client:
        await client.send(GET)
        client.stream.shutdown(socket.SHUT_WR)
        assert status(await answer(client)) == 200


@pytest.mark.asyncio
async def test_who_closes_their_side_without_asking_is_not_waited_for() -> None:
    async with serve(ScrapeProtocol(Scrapes(Teller()))) as client:
        client.stream.shutdown(socket.SHUT_WR)
        assert await answer(client) == b""


@given(st.binary(max_size=300))
def test_whatever_is_sent_is_answered_or_waited_for(data: bytes) -> None:
    async def send() -> bytes:
        async with serve(ScrapeProtocol(Scrapes(Teller()))) as client:
            await client.send(data + b"\r\n\r\n")
            return await answer(client)

    assert asyncio.run(send()).startswith(b"HTTP/1.1 ")


@pytest.mark.asyncio
async def test_who_asks_while_one_is_told_is_given_the_same_text() -> None:
    scrapes = Scrapes(teller := Teller())
    texts = await asyncio.gather(*(scrapes.text() for _ in range(5)))
    assert texts == [TEXT.encode()] * 5
    assert teller.times == 1
    await scrapes.text()
    assert teller.times == 2


@pytest.mark.asyncio
async def test_who_leaves_before_the_answer_takes_it_from_nobody_else() -> None:
    scrapes = Scrapes(Teller())
    async with serve(ScrapeProtocol(scrapes)) as client:
        await client.send(GET)
        client.stream.close()
        assert await scrapes.text() == TEXT.encode()


@pytest.mark.asyncio
async def test_who_is_silent_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "_PATIENCE_SECS", 0.01)
    async with serve(ScrapeProtocol(Scrapes(Teller()))) as client:
        await client.send(GET[:-1])
        assert await answer(client) == b""


@pytest.mark.asyncio
async def test_who_does_not_read_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "_PATIENCE_SECS", 0.01)
    protocol = ScrapeProtocol(Scrapes(Teller("x" * (8 << 20))))
    async with serve(protocol) as client:
        await client.send(GET)
        assert await ended(protocol, within_s=20)
        assert len(await answer(client)) < 8 << 20


async def ended(protocol: ScrapeProtocol, *, within_s: float) -> bool:
    """Wait until a connection is lost, and say whether it was."""
    gone = asyncio.Event()
    lost = protocol.connection_lost

    def told(exc: Exception | None) -> None:
        lost(exc)
        gone.set()

    protocol.connection_lost = told  # type: ignore[method-assign]
    await asyncio.wait_for(gone.wait(), within_s)
    return protocol._transport is None


@pytest.mark.asyncio
async def test_nothing_is_waited_for_once_they_are_gone() -> None:
    protocol = ScrapeProtocol(Scrapes(Teller()))
    async with serve(protocol) as client:
        await client.send(GET)
        await answer(client)
        await settled()
    assert protocol._deadline is not None
    assert protocol._deadline.cancelled()
