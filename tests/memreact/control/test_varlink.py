"""Varlink on one connection, however its bytes are cut and whatever they say."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from memreact.control.peer import Peer
from memreact.control.sharing import Sharing
from memreact.control.varlink import (
    About,
    Answer,
    Last,
    Service,
    VarlinkError,
    VarlinkProtocol,
    invalid_parameter,
)
from memreact_schemas import varlink
from memreact_schemas.control import Method
from tests.conftest import LOOPS
from tests.memreact.control.wire import Client, call, serve, settled

ROOT = Peer("root", may_read=True, may_write=True)
READER = Peer("uid 1000", may_read=True, may_write=False)
SERVICE = "org.varlink.service"
INFO = b'{"method":"org.varlink.service.GetInfo"}\0'


class Say(Struct, forbid_unknown_fields=True):
    """Asks for its text."""

    text: str
    times: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class Said(Struct):
    """Its text."""

    text: str


class Wait(Struct, forbid_unknown_fields=True):
    """Asks to wait until it is let go."""


class Count(Struct, forbid_unknown_fields=True):
    """Asks for a row of answers."""


class Counted(Struct):
    """One of them."""

    number: int
    padding: str = ""


class Numbers:
    """A stream that the test fills."""

    def __init__(self) -> None:
        self.items: deque[Counted | Last] = deque()
        self.closed = False
        self.taken = 0
        self.wake: Callable[[], None] = lambda: None

    def start(self, wake: Callable[[], None]) -> None:
        """Keep it."""
        self.wake = wake

    def take(self) -> Counted | Last | None:
        """Give the oldest."""
        self.taken += bool(self.items)
        return self.items.popleft() if self.items else None

    def close(self) -> None:
        """Remember that."""
        self.closed = True


class Echo:
    """A service with a method of each kind."""

    name = "io.test"
    methods: Mapping[str, Method] = {
        "Say": Method(Say, Said, writes=False),
        "Set": Method(Say, Said, writes=True),
        "Wait": Method(Wait, Said, writes=False),
        "Count": Method(Count, Counted, writes=False, streams=True),
    }

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.go = asyncio.Event()
        self.numbers = Numbers()

    def answer(self, method: str, call: Struct, peer: Peer) -> Answer:
        """Answer."""
        del peer
        self.heard.append(method)
        if isinstance(call, Wait):
            return self._wait()
        if isinstance(call, Count):
            return self.numbers
        assert isinstance(call, Say)
        if call.text == "no":
            raise VarlinkError(varlink.MethodNotImplemented(call.text))
        return Said(call.text * call.times)

    def _wait(self) -> Coroutine[Any, Any, Said]:
        async def waited() -> Said:
            await self.go.wait()
            return Said("waited")

        return waited()


class Refusals(list[tuple[str, str, str]]):
    """Who was refused what, and why."""

    def __call__(self, peer: Peer, verb: str, why: str) -> None:
        """Remember it."""
        self.append((peer.name, verb, why))


class Served:
    """A protocol with a service behind it."""

    def __init__(self, peer: Peer = ROOT, **how: Any) -> None:  # noqa: ANN401  # as it takes them
        self.echo = Echo()
        self.refusals = Refusals()
        services: dict[str, Service] = {"io.test": self.echo, SERVICE: About((self.echo,))}
        self.protocol = VarlinkProtocol(services, peer, self.refusals, **how)


@pytest.mark.asyncio
async def test_a_call_is_answered() -> None:
    async with serve(Served().protocol) as client:
        assert await client.ask("io.test.Say", text="hello") == {"text": "hello"}


@pytest.mark.asyncio
async def test_a_call_that_comes_one_byte_at_a_time_is_answered() -> None:
    async with serve(Served().protocol) as client:
        for byte in call("io.test.Say", {"text": "slow"}):
            await client.send(bytes([byte]))
            await settled()
        assert await client.message() == {"parameters": {"text": "slow"}}


@pytest.mark.asyncio
async def test_calls_that_come_together_are_answered_in_their_order() -> None:
    async with serve(Served().protocol) as client:
        texts = [str(number) for number in range(300)]
        await client.send(b"".join(call("io.test.Say", {"text": text}) for text in texts))
        assert [await client.message() for _ in texts] == [
            {"parameters": {"text": text}} for text in texts
        ]


@pytest.mark.asyncio
async def test_a_call_waits_for_the_one_before_it() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Wait") + call("io.test.Say", {"text": "after"}))
        await settled()
        assert served.echo.heard == ["Wait"]
        assert served.protocol.busy
        served.echo.go.set()
        assert await client.message() == {"parameters": {"text": "waited"}}
        assert await client.message() == {"parameters": {"text": "after"}}


@pytest.mark.asyncio
async def test_a_client_that_leaves_while_it_waits_harms_nobody() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Wait"))
        await settled()
    served.echo.go.set()
    await settled()


@pytest.mark.asyncio
async def test_a_oneway_call_is_not_answered_whatever_comes_of_it() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Say", {"text": "a"}, oneway=True))
        await client.send(call("io.test.Say", {"text": "no"}, oneway=True))
        await client.send(call("io.test.Nothing", oneway=True))
        await client.send(call("io.test.Count", oneway=True, more=True))
        assert await client.ask("io.test.Say", text="b") == {"text": "b"}
    assert served.echo.heard == ["Say", "Say", "Say"]


@pytest.mark.asyncio
async def test_a_half_closed_connection_is_answered_and_then_closed() -> None:
    async with serve(Served().protocol) as client:
        await client.send(call("io.test.Say", {"text": "1"}) + call("io.test.Say", {"text": "2"}))
        client.stream.shutdown(socket.SHUT_WR)
        assert await client.message() == {"parameters": {"text": "1"}}
        assert await client.message() == {"parameters": {"text": "2"}}
        assert await client.message() is None


@pytest.mark.asyncio
async def test_half_a_call_and_an_end_is_just_an_end() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(b'{"method":"io.test')
        client.stream.shutdown(socket.SHUT_WR)
        assert await client.message() is None
    assert served.refusals == []


@pytest.mark.parametrize(
    ("method", "parameters", "error", "told"),
    [
        ("io.test.No", {}, "MethodNotFound", {"method": "io.test.No"}),
        ("io.other.Say", {}, "InterfaceNotFound", {"interface": "io.other"}),
        ("Say", {}, "InterfaceNotFound", {"interface": ""}),
        ("io.test.Say", {}, "InvalidParameter", {"parameter": "text"}),
        ("io.test.Say", {"text": 1}, "InvalidParameter", {"parameter": "text"}),
        ("io.test.Say", {"text": "", "x": 1}, "InvalidParameter", {"parameter": "x"}),
        ("io.test.Say", {"text": "no"}, "MethodNotImplemented", {"method": "no"}),
        ("io.test.Count", {}, "ExpectedMore", {}),
    ],
)
@pytest.mark.asyncio
async def test_a_call_that_cannot_be_answered_is_told_why(
    method: str, parameters: dict[str, object], error: str, told: dict[str, str]
) -> None:
    async with serve(Served().protocol) as client:
        assert await client.fail(method, **parameters) == (f"{SERVICE}.{error}", told)
        assert await client.ask("io.test.Say", text="on") == {"text": "on"}


@pytest.mark.asyncio
async def test_another_protocol_is_not_spoken() -> None:
    async with serve(Served().protocol) as client:
        await client.send(call("io.test.Say", {"text": "a"}, upgrade=True))
        answer = await client.message()
        assert answer == {
            "parameters": {"parameter": "upgrade"},
            "error": f"{SERVICE}.InvalidParameter",
        }


@pytest.mark.parametrize("parameters", [b"[]", b"1", b'"text"'])
@pytest.mark.asyncio
async def test_parameters_that_are_no_object_are_invalid(parameters: bytes) -> None:
    async with serve(Served().protocol) as client:
        await client.send(b'{"method":"io.test.Say","parameters":%s}\0' % parameters)
        answer = await client.message()
        assert answer is not None
        assert answer["error"] == f"{SERVICE}.InvalidParameter"


@pytest.mark.parametrize("parameters", [b"null", b"{}"])
@pytest.mark.asyncio
async def test_no_parameters_can_be_said_in_two_ways(parameters: bytes) -> None:
    async with serve(Served().protocol) as client:
        await client.send(
            b'{"method":"%s.GetInfo","parameters":%s}\0' % (SERVICE.encode(), parameters)
        )
        answer = await client.message()
        assert answer is not None
        assert answer["parameters"]["interfaces"] == [SERVICE, "io.test"]


@pytest.mark.parametrize(
    "frame",
    [
        b"\0",
        b"hello\0",
        b"[]\0",
        b"{}\0",
        b'{"method":1}\0',
        b'{"method":"a.b","parameters":NaN}\0',
        b'{"method":"a.b","oneway":2}\0',
        b'{"method":"\xff"}\0',
        b'{"method":"\\ud800"}\0',
        b'{"method":"a.b","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}\0",
        b'{"method":"a.b"} and more\0',
        INFO.rstrip(b"\0") * 2 + b"\0",
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_call_closes_the_connection(frame: bytes) -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(frame + INFO)
        assert await client.message() is None
    assert [(who, verb) for who, verb, _ in served.refusals] == [("root", "")]


@pytest.mark.parametrize(
    "value", [b"1e400", b"-1e400", b'"\xff"', b"[" * 50_000 + b"]" * 50_000, b"9" * 5000]
)
@pytest.mark.asyncio
async def test_a_value_that_cannot_be_read_is_an_invalid_parameter(value: bytes) -> None:
    async with serve(Served().protocol) as client:
        await client.send(b'{"method":"io.test.Say","parameters":{"text":%s}}\0' % value)
        answer = await client.message()
        # Depth is found out before anybody asks what the value is for.
        if answer is not None:
            assert answer["error"] == f"{SERVICE}.InvalidParameter"


@pytest.mark.parametrize("peer", [ROOT, READER])
@pytest.mark.asyncio
async def test_a_call_over_the_limit_closes_the_connection(peer: Peer) -> None:
    served = Served(peer)
    async with serve(served.protocol) as client:
        sending = asyncio.ensure_future(client.send(b'{"method":"' + b"x" * (2 << 20)))
        assert await client.message() is None
        await sending
    assert "more than" in served.refusals[0][2]


@pytest.mark.asyncio
async def test_a_call_just_under_the_limit_is_answered() -> None:
    async with serve(Served().protocol) as client:
        text = "x" * (varlink.CALL_BYTES_MAX - 100)
        assert await client.ask("io.test.Say", text=text) == {"text": text}


@pytest.mark.asyncio
async def test_many_calls_together_may_be_longer_than_one_may_be() -> None:
    async with serve(Served(READER).protocol) as client:
        text = "x" * 30_000
        sending = asyncio.ensure_future(client.send(call("io.test.Say", {"text": text}) * 20))
        assert [await client.message() for _ in range(20)] == [{"parameters": {"text": text}}] * 20
        await sending


@pytest.mark.asyncio
async def test_a_reader_may_not_write() -> None:
    served = Served(READER)
    async with serve(served.protocol) as client:
        assert await client.fail("io.test.Set", text="a") == (f"{SERVICE}.PermissionDenied", {})
        assert await client.ask("io.test.Say", text="a") == {"text": "a"}
    assert served.refusals == [("uid 1000", "Set", "permission denied")]
    assert served.echo.heard == ["Say"]


@pytest.mark.asyncio
async def test_who_may_nothing_may_not_even_ask_who_serves() -> None:
    nobody = Peer("uid 1", may_read=False, may_write=False)
    async with serve(Served(nobody).protocol) as client:
        assert (await client.fail(f"{SERVICE}.GetInfo"))[0] == f"{SERVICE}.PermissionDenied"


@pytest.mark.asyncio
async def test_a_long_name_does_not_come_back_whole() -> None:
    async with serve(Served().protocol) as client:
        _, told = await client.fail("io.test." + "x" * 100_000)
        assert len(told["method"]) == 200


@pytest.mark.asyncio
async def test_answers_that_nobody_reads_stop_the_calls() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        one = call("io.test.Say", {"text": "x" * 1000, "times": 1000})  # a megabyte back
        await client.send(one * 30)
        await settled()
        heard = len(served.echo.heard)
        assert heard < 10
        for _ in range(30):
            answer = await client.message()
            assert answer is not None
            assert len(answer["parameters"]["text"]) == 1_000_000
    assert len(served.echo.heard) == 30


@pytest.mark.asyncio
async def test_who_never_reads_is_left() -> None:
    served = Served(unread_secs=0.02)
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Say", {"text": "x" * 1000, "times": 5000}) * 2)
        lost = asyncio.Event()
        served.protocol.connection_lost = lambda _: lost.set()  # type: ignore[assignment,method-assign]
        await asyncio.wait_for(lost.wait(), 20)


@pytest.mark.asyncio
async def test_an_answer_that_is_too_long_for_any_client_is_not_sent() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Say", {"text": "x" * 1000, "times": 20_000}))
        assert await client.message() is None
    assert served.refusals[0][2].startswith("an answer of 20000")


def _readers(number: int, sharing: Sharing) -> list[Served]:
    return [Served(READER, sharing=sharing) for _ in range(number)]


@pytest.mark.asyncio
async def test_readers_are_answered_one_in_each_turn_of_the_loop() -> None:
    readers = _readers(8, Sharing())
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(serve(each.protocol)) for each in readers]
        for each in readers:
            each.protocol.data_received(call("io.test.Say", {"text": "x"}))
        heard = []
        for _ in range(8):
            await asyncio.sleep(0)
            heard.append(sum(len(each.echo.heard) for each in readers))
        assert heard == [1, 2, 3, 4, 5, 6, 7, 8]
        for client in clients:
            assert await client.message() == {"parameters": {"text": "x"}}


@pytest.mark.asyncio
async def test_a_reader_that_leaves_gives_its_turn_to_the_next_one() -> None:
    gone, stays = _readers(2, Sharing())
    async with serve(gone.protocol), serve(stays.protocol) as client:
        gone.protocol.data_received(call("io.test.Say", {"text": "gone"}))
        gone.protocol.connection_lost(None)
        assert await client.ask("io.test.Say", text="stays") == {"text": "stays"}
    assert gone.echo.heard == []


@pytest.mark.asyncio
async def test_readers_that_do_not_read_share_a_budget_and_writers_are_not_left() -> None:
    sharing = Sharing(unread_max=4_500_000)
    root = Served(ROOT, sharing=sharing)
    readers = _readers(4, sharing)
    async with AsyncExitStack() as stack:
        for number, each in enumerate((root, *readers)):
            client = await stack.enter_async_context(serve(each.protocol))
            await client.send(call("io.test.Say", {"text": "x" * 1000, "times": 1800 + number}))
            await settled()
            await settled()
        assert [len(each.refusals) for each in (root, *readers)] == [0, 0, 1, 1, 1]
        assert root.protocol.unread + readers[0].protocol.unread > 3_000_000


@pytest.mark.asyncio
async def test_a_reader_that_never_reads_is_left_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memreact.control.varlink._READER_UNREAD_SECS", 0.02)
    served = Served(READER)
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Say", {"text": "x" * 1000, "times": 5000}))
        lost = asyncio.Event()
        served.protocol.connection_lost = lambda _: lost.set()  # type: ignore[assignment,method-assign]
        await asyncio.wait_for(lost.wait(), 20)


@pytest.mark.asyncio
async def test_an_answer_that_nobody_waits_for_any_more_is_not_made() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Wait"))
        await settled()
        assert served.protocol.busy
    assert not served.protocol.busy


async def _watch(served: Served, client: Client) -> Numbers:
    await client.send(call("io.test.Count", more=True))
    await settled()
    assert served.protocol.streaming
    return served.echo.numbers


@pytest.mark.asyncio
async def test_a_stream_gives_what_there_is_as_it_comes() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        numbers = await _watch(served, client)
        for number in range(100):
            numbers.items.append(Counted(number))
        numbers.wake()
        for number in range(100):
            answer = await client.message()
            assert answer is not None
            assert (answer["parameters"]["number"], answer["continues"]) == (number, True)
    assert numbers.closed


@pytest.mark.asyncio
async def test_a_stream_that_nobody_reads_is_not_taken_from() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        numbers = await _watch(served, client)
        numbers.items.extend(Counted(number, "x" * 1000) for number in range(5000))
        numbers.wake()
        await asyncio.sleep(0.05)
        assert numbers.taken < 1500
        for number in range(5000):
            answer = await client.message()
            assert answer is not None
            assert answer["parameters"]["number"] == number


@pytest.mark.asyncio
async def test_a_stream_ends_when_its_reader_leaves() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        numbers = await _watch(served, client)
        client.stream.close()
        await settled()
        assert numbers.closed
        numbers.wake()


@pytest.mark.asyncio
async def test_a_stream_for_one_who_says_no_more_ends_at_once() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await client.send(call("io.test.Count", more=True))
        client.stream.shutdown(socket.SHUT_WR)
        assert await client.message() is None
    assert served.echo.numbers.closed


@pytest.mark.asyncio
async def test_calls_after_a_stream_wait_within_their_limit() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        await _watch(served, client)
        sending = asyncio.ensure_future(client.send(call("io.test.Say", {"text": "x"}) * 100_000))
        await asyncio.sleep(0.05)
        assert not sending.done()
        assert served.echo.heard == ["Count"]
        sending.cancel()


@pytest.mark.asyncio
async def test_what_was_asked_by_one_who_may_not_any_more_is_not_done() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        say = served.echo.answer

        def say_and_show_out(method: str, call: Struct, peer: Peer) -> Answer:
            served.protocol._loop.call_soon(served.protocol._transport.close)
            return say(method, call, peer)

        served.echo.answer = say_and_show_out  # type: ignore[method-assign]
        await client.send(call("io.test.Set", {"text": "a"}) + call("io.test.Set", {"text": "b"}))
        assert await client.message() == {"parameters": {"text": "a"}}
        assert await client.message() is None
    assert served.echo.heard == ["Set"]


@pytest.mark.asyncio
async def test_a_stream_of_one_who_was_shown_out_ends() -> None:
    served = Served()
    async with serve(served.protocol) as client:
        numbers = await _watch(served, client)
        numbers.items.extend(Counted(number, "x" * 1000) for number in range(5000))
        numbers.wake()
        await settled()
        served.protocol._transport.close()
        numbers.wake()
        await settled()
        taken = numbers.taken
        while await client.some():
            pass
        assert numbers.closed
    assert taken == numbers.taken < 5000


@pytest.mark.parametrize("says_no_more", [False, True])
@pytest.mark.asyncio
async def test_a_row_that_ends_by_itself_is_followed_by_the_next_answer(
    says_no_more: bool,  # noqa: FBT001
) -> None:
    served = Served()
    async with serve(served.protocol) as client:
        numbers = await _watch(served, client)
        await client.send(call("io.test.Say", {"text": "after"}))
        numbers.items.extend([Counted(1), Last(Counted(2)), Counted(3)])
        numbers.wake()
        row = [await client.message() for _ in range(3)]
        assert row[0] == {"parameters": {"number": 1, "padding": ""}, "continues": True}
        assert row[1] == {"parameters": {"number": 2, "padding": ""}}
        assert row[2] == {"parameters": {"text": "after"}}
        assert numbers.closed
        assert not served.protocol.streaming
        if says_no_more:
            client.stream.shutdown(socket.SHUT_WR)
            assert await client.message() is None
        else:
            assert await client.ask("io.test.Say", text="more") == {"text": "more"}


@pytest.mark.asyncio
async def test_a_bug_in_a_method_is_not_hidden() -> None:
    served = Served()
    wrong: asyncio.Queue[BaseException] = asyncio.Queue()
    async with serve(served.protocol) as client:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: wrong.put_nowait(what["exception"]))
        served.echo.go = None  # type: ignore[assignment]
        await client.send(call("io.test.Wait"))
        assert isinstance(await wrong.get(), AttributeError)


@pytest.mark.asyncio
async def test_the_service_describes_itself_and_the_others() -> None:
    echo = Echo()
    echo.name = "io.memreact"
    about = About((echo,))
    async with serve(VarlinkProtocol({SERVICE: about}, READER, Refusals())) as client:
        info = await client.ask(f"{SERVICE}.GetInfo")
        assert info["product"] == "memreact"
        for name in info["interfaces"]:
            told = await client.ask(f"{SERVICE}.GetInterfaceDescription", interface=name)
            assert f"\ninterface {name}\n" in told["description"]
        assert await client.fail(f"{SERVICE}.GetInterfaceDescription", interface="../x") == (
            f"{SERVICE}.InterfaceNotFound",
            {"interface": "../x"},
        )


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("Object contains unknown field `a`", "a"),
        ("Object missing required field `a`", "a"),
        ("Expected `int`, got `str` - at `$.numa[0]`", "numa[0]"),
        ("Object contains unknown field `b` - at `$.a`", "a.b"),
        ("Expected `object`, got `array`", "parameters"),
        ("JSON is malformed: invalid character (byte 19)", "parameters"),
        ("Object contains unknown field `" + "x" * 500 + "`", "x" * 200),
    ],
)
def test_the_parameter_that_is_wrong_is_named(message: str, named: str) -> None:
    assert invalid_parameter(message).error == varlink.InvalidParameter(named)


VALID = [
    INFO,
    call("io.test.Say", {"text": "a"}),
    call("io.test.Say", {"text": "a"}, oneway=True),
    call("io.test.Set", {"text": "a", "times": 2}),
    call("io.test.Count"),
    call(f"{SERVICE}.GetInterfaceDescription", {"interface": SERVICE}),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Valid calls with bytes changed, taken away and put in."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
        if not data:
            return b""
    return bytes(data)


@pytest.mark.parametrize("loop", LOOPS)
@given(data=st.one_of(st.binary(max_size=200), mutated()), cuts=st.lists(st.integers(1, 50)))
def test_any_bytes_are_answered_or_close_the_connection(
    loop: str, data: bytes, cuts: list[int]
) -> None:
    async def main() -> None:
        served = Served(READER)
        async with serve(served.protocol) as client:
            rest = data
            for cut in cuts:
                await client.send(rest[:cut])
                await settled()
                rest = rest[cut:]
            await client.send(rest)
            client.stream.shutdown(socket.SHUT_WR)
            while (answer := await client.message()) is not None:
                assert {"parameters"} <= answer.keys() <= {"parameters", "error", "continues"}
        async with serve(Served(READER).protocol) as client:
            assert await client.ask("io.test.Say", text="next") == {"text": "next"}

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
