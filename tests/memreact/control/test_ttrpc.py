"""Kata's calls over a connection: answered, refused, bounded, and never in the way of the next."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memreact import __version__
from memreact.control import ttrpc
from memreact.control.peer import Peer
from memreact.control.ttrpc_frames import (
    DATA,
    KEPT_MAX,
    LENGTH_MAX,
    REQUEST,
    Frame,
    framed,
)
from memreact.settings.errors import SettingsError
from memreact.swap_trouble import SwapTrouble
from memreact_schemas.agent import (
    ADD_SWAP,
    ADD_SWAP_PATH,
    COMPACT_CONFIG,
    HEALTH_CHECK_RESPONSE,
    MEMCG_CONFIG,
    SERVING,
    VERSION_CHECK_RESPONSE,
    AddSwapPathRequest,
    AddSwapRequest,
    HealthCheckResponse,
    MemAgentCompactConfig,
    MemAgentMemcgConfig,
    Response,
    Status,
    VersionCheckResponse,
)
from memreact_schemas.agent import RESPONSE as RESPONSE_TABLE
from memreact_schemas.config import Compact, Memcg
from memreact_schemas.protobuf import decode, encode
from memreact_schemas.swap import AlreadySwap, NoSuchDevice, SwapArea, SwapRefused
from tests.conftest import LOOPS
from tests.effort import examples
from tests.memreact.control.ttrpc_ends import AGENT, HEALTH, Agent, Refusals, call, calling

READER = Peer("uid 1000", may_read=True, may_write=False)
NOBODY = Peer("uid 1001", may_read=False, may_write=False)
OK = Response(status=Status())
EVERYTHING_MEMCG = MemAgentMemcgConfig(
    disabled=True,
    swap=False,
    swappiness_max=200,
    period_secs=60,
    period_psi_percent_limit=100,
    eviction_psi_percent_limit=0,
    eviction_run_aging_count_min=2**64 - 1,
)
EVERYTHING_COMPACT = MemAgentCompactConfig(
    disabled=False,
    period_secs=1,
    period_psi_percent_limit=0,
    compact_psi_percent_limit=100,
    compact_sec_max=-1,
    compact_order=9,
    compact_threshold=0,
    compact_force_times=2**64 - 1,
)
# What a client of Kata's agent may also send.
ELSEWHERE = (
    "CreateContainer",
    "StartContainer",
    "RemoveContainer",
    "ExecProcess",
    "SignalProcess",
    "WaitProcess",
    "UpdateContainer",
    "UpdateEphemeralMounts",
    "StatsContainer",
    "PauseContainer",
    "ResumeContainer",
    "RemoveStaleVirtiofsShareMounts",
    "GetDiagnosticData",
    "WriteStdin",
    "ReadStdout",
    "ReadStderr",
    "CloseStdin",
    "TtyWinResize",
    "UpdateInterface",
    "UpdateRoutes",
    "ListInterfaces",
    "ListRoutes",
    "AddARPNeighbors",
    "GetIPTables",
    "SetIPTables",
    "GetMetrics",
    "CreateSandbox",
    "DestroySandbox",
    "OnlineCPUMem",
    "ReseedRandomDev",
    "GetGuestDetails",
    "MemHotplugByProbe",
    "SetGuestDateTime",
    "CopyFile",
    "GetOOMEvent",
    "GetVolumeStats",
    "ResizeVolume",
    "SetPolicy",
)


def memcg(**keys: Any) -> bytes:  # noqa: ANN401  # as the struct has them
    """The call that sets keys of `[memcg]`."""
    return call("MemAgentMemcgSet", encode(MEMCG_CONFIG, MemAgentMemcgConfig(**keys)))


def compact(**keys: Any) -> bytes:  # noqa: ANN401  # as the struct has them
    """The call that sets keys of `[compact]`."""
    return call("MemAgentCompactSet", encode(COMPACT_CONFIG, MemAgentCompactConfig(**keys)))


def refusal(code: int, why: str) -> Response:
    return Response(status=Status(code=code, message=why))


@pytest.mark.asyncio
async def test_every_key_of_memcg_arrives() -> None:
    agent = Agent()
    async with calling(agent) as caller:
        sent = call("MemAgentMemcgSet", encode(MEMCG_CONFIG, EVERYTHING_MEMCG))
        assert await caller.calls(sent) == OK
    assert agent.seen == [
        Memcg(
            disabled=True,
            swap=False,
            swappiness_max=200,
            period_secs=60,
            period_psi_percent_limit=100.0,
            eviction_psi_percent_limit=0.0,
            eviction_run_aging_count_min=2**64 - 1,
        )
    ]


@pytest.mark.asyncio
async def test_every_key_of_compact_arrives() -> None:
    agent = Agent()
    async with calling(agent) as caller:
        sent = call("MemAgentCompactSet", encode(COMPACT_CONFIG, EVERYTHING_COMPACT))
        assert await caller.calls(sent) == OK
    assert agent.seen == [
        Compact(
            disabled=False,
            period_secs=1,
            period_psi_percent_limit=0.0,
            compact_psi_percent_limit=100.0,
            compact_sec_max=-1,
            compact_order=9,
            compact_threshold=0,
            compact_force_times=2**64 - 1,
        )
    ]


@pytest.mark.asyncio
async def test_a_call_that_says_nothing_changes_nothing_and_is_fine() -> None:
    agent = Agent()
    async with calling(agent) as caller:
        assert await caller.calls(call("MemAgentMemcgSet")) == OK
    assert agent.seen == [Memcg()]


@pytest.mark.asyncio
async def test_health_is_serving() -> None:
    async with calling(Agent(), READER) as caller:
        answer = await caller.calls(call("Check", service=HEALTH))
    assert decode(HEALTH_CHECK_RESPONSE, answer.payload) == HealthCheckResponse(status=SERVING)


@pytest.mark.asyncio
async def test_the_version_is_ours() -> None:
    async with calling(Agent(), READER) as caller:
        answer = await caller.calls(call("Version", service=HEALTH))
    assert decode(VERSION_CHECK_RESPONSE, answer.payload) == VersionCheckResponse(
        grpc_version="0.0.1", agent_version=__version__
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ELSEWHERE)
async def test_the_agent_s_other_methods_are_unimplemented(method: str) -> None:
    async with calling(Agent()) as caller:
        assert await caller.calls(call(method, b"\xff")) == refusal(12, f"{method} method")


@pytest.mark.asyncio
async def test_an_unknown_service_is_named() -> None:
    async with calling(Agent()) as caller:
        assert await caller.calls(call("Check", service="MemAgent.Control")) == refusal(
            3, "MemAgent.Control service does not exist"
        )


@pytest.mark.asyncio
async def test_a_long_name_does_not_come_back_whole() -> None:
    async with calling(Agent()) as caller:
        for answer in (
            await caller.calls(call("x" * 50_000)),
            await caller.calls(call("x", service="y" * 50_000)),
        ):
            assert answer.status
            assert len(answer.status.message) < 300


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("sent", "key", "found", "expected"),
    [
        (memcg(swappiness_max=201), "memcg.swappiness_max", "201", "from 0 to 200"),
        (memcg(swappiness_max=256), "memcg.swappiness_max", "256", "from 0 to 200"),
        (memcg(swappiness_max=2**32 + 60), "memcg.swappiness_max", "4294967356", "from 0 to 200"),
        (memcg(period_secs=0), "memcg.period_secs", "0", "from 1 to 315360000"),
        (memcg(period_secs=2**64 - 1), "memcg.period_secs", f"{2**64 - 1}", "from 1 to"),
        (memcg(period_psi_percent_limit=101), "memcg.period_psi_percent_limit", "101", "to 100"),
        (memcg(eviction_psi_percent_limit=300), "memcg.eviction_psi_percent_limit", "300", "100"),
        (compact(compact_order=256), "compact.compact_order", "256", "from 0 to 255"),
        (compact(compact_psi_percent_limit=101), "compact.compact_psi_percent_limit", "101", "100"),
    ],
)
async def test_a_value_out_of_range_is_refused_with_key_value_and_range(
    sent: bytes, key: str, found: str, expected: str
) -> None:
    agent, audit = Agent(), Refusals()
    async with calling(agent, audit=audit) as caller:
        status = (await caller.calls(sent)).status
    assert status
    assert status.code == 3
    assert re.search(rf"{re.escape(key)}: found {found}, expected .*{expected}", status.message)
    assert agent.seen == []
    assert [line[:1] + line[2:] for line in audit.lines] == [("host", status.message)]


@pytest.mark.asyncio
async def test_what_the_settings_refuse_is_refused() -> None:
    agent = Agent(error=SettingsError("pushed by host", "the moon", found="the sun"))
    async with calling(agent) as caller:
        answer = await caller.calls(memcg(swap=True))
    assert answer == refusal(3, "pushed by host: found the sun, expected the moon")


@pytest.mark.asyncio
async def test_what_cannot_be_kept_is_an_internal_error() -> None:
    async with calling(Agent(error=OSError(28, "No space left on device"))) as caller:
        answer = await caller.calls(memcg(swap=True))
    assert answer == refusal(13, "[Errno 28] No space left on device")


@pytest.mark.asyncio
@pytest.mark.parametrize("sent", [memcg(swap=True), compact(disabled=True), memcg(period_secs=0)])
async def test_who_may_only_read_changes_nothing(sent: bytes) -> None:
    agent, audit = Agent(), Refusals()
    async with calling(agent, READER, audit) as caller:
        assert await caller.calls(sent) == refusal(7, "uid 1000 may not change anything")
        assert await caller.calls(call("Check", service=HEALTH)) != refusal(7, "")
    assert agent.seen == []
    assert [(who, why) for who, _, why in audit.lines] == [
        ("uid 1000", "uid 1000 may not change anything")
    ]


@pytest.mark.asyncio
async def test_who_may_nothing_is_not_told_anything() -> None:
    audit = Refusals()
    async with calling(Agent(), NOBODY, audit) as caller:
        answer = await caller.calls(call("Version", service=HEALTH))
    assert answer == refusal(7, "uid 1001 may not ask anything")
    assert audit.lines == [("uid 1001", "Version", "uid 1001 may not ask anything")]


UNDECODABLE = framed(1, REQUEST, b"\xff")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("sent", "code", "why"),
    [
        pytest.param(UNDECODABLE, 3, "cannot be decoded", id="request"),
        pytest.param(call("MemAgentMemcgSet", b"\x08"), 2, "cannot be decoded", id="memcg"),
        pytest.param(call("MemAgentCompactSet", b"\x0b\x0c"), 2, "a group", id="compact"),
        pytest.param(call("Check", b"\x0a\x01\xff", service=HEALTH), 2, "UTF-8", id="health"),
        pytest.param(call("Check", service=HEALTH, stream=2), 3, "stream id must be odd", id="2"),
        pytest.param(call("Check", service=HEALTH, stream=0), 3, "stream id must be odd", id="0"),
        pytest.param(framed(1, DATA, b"x"), 3, "Stream is no longer active", id="data"),
        pytest.param(framed(1, REQUEST, b""), 3, " service does not exist", id="empty"),
        pytest.param(
            struct.pack(">IIBB", LENGTH_MAX + 1, 1, REQUEST, 0) + bytes(LENGTH_MAX + 1),
            3,
            "message length 4194305 exceeds maximum message size of 4194304",
            id="over the limit",
        ),
        pytest.param(
            call("MemAgentMemcgSet", bytes(KEPT_MAX)), 8, "a call of 65\\d+ bytes", id="large"
        ),
        pytest.param(call("SetPolicy", bytes(1 << 20)), 12, "SetPolicy method", id="elsewhere"),
        pytest.param(
            framed(1, REQUEST, b"\x1a\x80\x80\x08" + bytes(1 << 17)),
            3,
            "^ service does not exist",
            id="large, without a name",
        ),
    ],
)
async def test_a_bad_frame_is_answered_and_the_connection_stays(
    sent: bytes, code: int, why: str
) -> None:
    agent = Agent()
    async with calling(agent) as caller:
        frame, _ = await asyncio.gather(caller.next_frame(), caller.sends(sent))
        status = decode(RESPONSE_TABLE, frame.body).status
        assert status
        assert status.code == code
        assert re.search(why, status.message)
        assert await caller.calls(memcg(swap=True)) == OK
    assert agent.seen == [Memcg(swap=True)]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [0, 2, 4, 255])
async def test_an_unknown_kind_of_frame_gets_no_answer(kind: int) -> None:
    async with calling(Agent()) as caller:
        await caller.sends(framed(1, kind, b"what"))
        await caller.sends(call("Check", service=HEALTH, stream=5))
        assert (await caller.next_frame()).stream == 5


@pytest.mark.asyncio
async def test_many_calls_in_flight_are_answered_with_their_streams() -> None:
    streams = range(1, 401, 2)
    async with calling(agent := Agent()) as caller:
        await caller.sends(
            b"".join(call("MemAgentMemcgSet", b"\x10\x01", stream=each) for each in streams)
        )
        answered = [(await caller.next_frame()).stream for _ in streams]
    assert answered == list(streams)
    assert agent.seen == [Memcg(swap=True)] * 200


@pytest.mark.asyncio
async def test_a_call_that_comes_one_byte_at_a_time_is_answered() -> None:
    async with calling(Agent()) as caller:
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for byte in memcg(swap=True):
            await caller.sends(bytes([byte]))
        assert await caller.next_answer() == OK


@pytest.mark.asyncio
async def test_calls_are_answered_though_the_caller_has_said_its_last() -> None:
    async with calling(Agent()) as caller:
        await caller.sends(b"".join(call("NoSuch", stream=each) for each in range(1, 101, 2)))
        caller.socket.shutdown(socket.SHUT_WR)
        answers = await caller.receives_all()
    assert answers.count(b"NoSuch method") == 50


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "left",
    [
        pytest.param(b"\0\0", id="within a header"),
        pytest.param(memcg(swap=True)[:-1], id="within a call"),
        pytest.param(memcg(swap=True) * 50, id="with answers unread"),
    ],
)
async def test_a_caller_that_goes_away_harms_nobody(left: bytes) -> None:
    agent = Agent()
    async with calling(agent) as leaving:
        await leaving.sends(left)
        leaving.socket.close()
    async with calling(agent) as caller:
        assert await caller.calls(compact(disabled=True)) == OK
    assert agent.seen[-1] == Compact(disabled=True)


@pytest.mark.asyncio
async def test_who_was_shown_out_changes_nothing_more() -> None:
    agent = Agent()
    protocol = ttrpc.ttrpc_protocol(agent, Peer("host", may_read=True, may_write=True), Refusals())
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
    with theirs:
        transport.close()
        protocol.data_received(memcg(swap=True))
        await asyncio.sleep(0)
    assert agent.seen == []


@pytest.mark.asyncio
async def test_a_slow_reader_gets_every_answer() -> None:
    count = 3000
    async with calling(Agent()) as caller:
        calls = b"".join(call("No" * 100, stream=2 * each + 1) for each in range(count))
        sending = asyncio.create_task(caller.sends(calls))
        answered = [(await caller.next_frame()).stream for _ in range(count)]
        await sending
    assert answered == list(range(1, 2 * count, 2))


@pytest.mark.asyncio
async def test_who_never_reads_is_left_and_has_cost_little() -> None:
    agent, audit = Agent(), Refusals()
    async with calling(agent, audit=audit, unread_secs=0.05) as caller:
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            await caller.sends(memcg(swap=True) * 200_000)
    answers_max = (ttrpc._OUTPUT_MAX + (256 << 10)) // 12  # what waits here and in the socket
    assert 0 < len(agent.seen) < answers_max
    assert audit.lines == [("host", "connection", "answers unread for 0.05 s")]


def answered(frame: Frame, waited_us: int) -> bytes:
    """The text of an answer."""
    answer = ttrpc._Calls(Agent(), READER, Refusals()).answer(frame, waited_us)
    assert isinstance(answer, bytes)
    return answer


@pytest.mark.parametrize(
    ("timeout_nano", "waited_us", "late"),
    [
        (1, 0, False),
        (1_000, 1, True),
        (1_001, 1, False),
        (0, 10**9, False),
        (-5, 10**9, False),
        (2**63 - 1, 10**9, False),
    ],
)
def test_a_call_is_not_carried_out_after_its_caller_has_given_up(
    timeout_nano: int, waited_us: int, *, late: bool
) -> None:
    body = call("Check", service=HEALTH, timeout_nano=timeout_nano)[10:]
    answer = answered(Frame(1, REQUEST, 0, len(body), body), waited_us)
    assert (b"timeout" in answer) == late


def add_swap(*slots: int, timeout_nano: int = 0) -> bytes:
    """The call that takes what is plugged in there into use."""
    payload = encode(ADD_SWAP, AddSwapRequest(pci_path=slots))
    return call("AddSwap", payload, timeout_nano=timeout_nano)


def add_swap_path(path: str) -> bytes:
    """The call that takes what a path leads to."""
    return call("AddSwapPath", encode(ADD_SWAP_PATH, AddSwapPathRequest(path=path)))


@pytest.mark.asyncio
async def test_a_disk_is_named_by_its_slots_packed_or_not_or_by_its_path() -> None:
    agent = Agent()
    agent.may_end.set()
    async with calling(agent) as caller:
        assert await caller.calls(add_swap(2, 0)) == OK
        assert await caller.calls(call("AddSwap", b"\x0a\x02\x1f\x0a")) == OK
        assert await caller.calls(call("AddSwap", b"\x08\x03\x08\x00")) == OK
        assert await caller.calls(add_swap_path("/dev/vdb")) == OK
    assert agent.swaps == ["02/00", "1f/0a", "03/00", "/dev/vdb"]


@pytest.mark.parametrize(
    ("sent", "code", "why"),
    [
        (add_swap(), 3, "PCI path must have at least one element"),
        (add_swap(2, 32), 3, "PCI slot 32 should be in range [0..31]"),
        (add_swap(2**32 - 1), 3, "PCI slot 4294967295 should be in range [0..31]"),
        (add_swap_path(""), 3, "'' is no absolute path"),
        (add_swap_path("dev/vdb"), 3, "'dev/vdb' is no absolute path"),
        (call("AddSwap", b"\x0a\xff"), 2, None),
    ],
)
@pytest.mark.asyncio
async def test_what_names_no_disk_is_refused_before_anything_is_done(
    sent: bytes, code: int, why: str | None
) -> None:
    agent, audit = Agent(), Refusals()
    async with calling(agent, audit=audit) as caller:
        status = (await caller.calls(sent)).status
    assert status is not None
    assert (status.code, why or status.message) == (code, status.message)
    assert agent.swaps == []
    assert len(audit.lines) == 1


AREA = SwapArea(path="/dev/vdc", kind="partition", size_bytes=1, used_bytes=0, priority=-2)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            SwapRefused(path="/dev/vdc", doing="swapon", errno=22, why="x"),
            "libc::swapon get error Invalid argument (os error 22)",
        ),
        (AlreadySwap(area=AREA), "libc::swapon get error Device or resource busy (os error 16)"),
        (SwapRefused(path="/dev/vdc", doing="opening it", errno=16, why="x"), "in our words"),
        (NoSuchDevice(wanted="PCI path 02/00", waited_us=3), "in our words"),
    ],
)
@pytest.mark.asyncio
async def test_why_no_disk_became_swap_is_told_as_katas_agent_tells_it(
    answer: Any,  # noqa: ANN401  # any of the answers
    why: str,
) -> None:
    agent, audit = Agent(error=SwapTrouble(answer, "in our words")), Refusals()
    agent.may_end.set()
    async with calling(agent, audit=audit) as caller:
        assert await caller.calls(add_swap(2, 0)) == refusal(ttrpc.INTERNAL, why)
        assert (await caller.calls(call("Check", service=HEALTH, stream=3))).payload
    assert audit.lines == [("host", "AddSwap", why)]


@pytest.mark.asyncio
async def test_what_comes_after_a_disk_waits_for_it_and_others_do_not() -> None:
    agent = Agent()
    async with calling(agent) as caller, calling(agent) as other:
        await caller.sends(add_swap(2, 0) + call("Check", service=HEALTH, stream=3))
        assert await other.calls(call("Check", service=HEALTH))
        assert agent.swaps == ["02/00"]
        await caller.sends(call("Version", service=HEALTH, stream=5))
        agent.may_end.set()
        streams = [(await caller.next_frame()).stream for _ in range(3)]
    assert streams == [1, 3, 5]


@pytest.mark.asyncio
async def test_of_what_comes_while_a_call_lasts_no_more_is_held_than_it_may() -> None:
    agent = Agent()
    count = 30_000
    async with calling(agent) as caller:
        await caller.sends(add_swap(2, 0))
        checks = (call("No", stream=2 * each + 3) for each in range(count))
        sending = asyncio.create_task(caller.sends(b"".join(checks)))
        async with asyncio.timeout(40):
            while not agent.swaps:  # noqa: ASYNC110  # the bytes come when they come
                await asyncio.sleep(0)
        agent.may_end.set()
        streams = [(await caller.next_frame()).stream for _ in range(count + 1)]
        await sending
    assert streams == list(range(1, 2 * count + 3, 2))


@pytest.mark.asyncio
async def test_a_caller_that_gives_up_is_told_so_and_ends_it() -> None:
    agent, audit = Agent(), Refusals()
    async with calling(agent, audit=audit) as caller:
        late = refusal(ttrpc.DEADLINE_EXCEEDED, "timeout")
        assert await caller.calls(add_swap(2, 0, timeout_nano=1_000_000)) == late
        assert agent.ended == ["02/00"]
        agent.may_end.set()
        assert await caller.calls(add_swap(3, 0, timeout_nano=2**63 - 1)) == OK
    assert audit.lines == [("host", "AddSwap", "timeout")]


@pytest.mark.asyncio
async def test_a_caller_that_leaves_ends_it() -> None:
    agent = Agent()
    async with calling(agent) as caller:
        await caller.sends(add_swap(2, 0) + memcg(swap=True))
        async with asyncio.timeout(40):
            while not agent.swaps:  # noqa: ASYNC110  # the bytes come when they come
                await asyncio.sleep(0)
        caller.socket.close()
        async with asyncio.timeout(40):
            while not agent.ended:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0)
    assert agent.seen == []


@pytest.mark.asyncio
async def test_who_may_only_read_takes_no_disk_into_use() -> None:
    agent = Agent()
    async with calling(agent, READER) as caller:
        for sent in (add_swap(2, 0), add_swap_path("/dev/vdb")):
            status = (await caller.calls(sent)).status
            assert status is not None
            assert status.code == ttrpc.PERMISSION_DENIED
    assert agent.swaps == []


ANY_CALL = st.builds(
    call,
    st.sampled_from(
        ["MemAgentMemcgSet", "MemAgentCompactSet", "Check", "Version", "AddSwap", "AddSwapPath"]
    ),
    st.binary(max_size=40),
    service=st.sampled_from([AGENT, HEALTH, ""]),
    stream=st.integers(0, 2**32 - 1),
    timeout_nano=st.integers(-(2**63), 2**63 - 1),
)
ANY_FRAME = st.builds(
    lambda length, stream, kind, body: struct.pack(">IIBB", length, stream, kind, 0) + body,
    st.integers(0, 60) | st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 4),
    st.binary(max_size=60),
)
ANYTHING = st.lists(ANY_CALL | ANY_FRAME | st.binary(max_size=60), max_size=8)


async def sends_and_ends(agent: Agent, pieces: list[bytes]) -> None:
    """Send it all, read what comes, and see the next caller served."""
    async with calling(agent) as caller:
        for piece in pieces:
            await caller.sends(piece)
        caller.socket.shutdown(socket.SHUT_WR)
        await caller.receives_all()
    async with calling(agent) as caller:
        assert await caller.calls(memcg(swap=True)) == OK


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
@given(pieces=ANYTHING)
@settings(max_examples=examples(60))
def test_whatever_arrives_the_next_caller_is_served(
    loop: Callable[[], asyncio.AbstractEventLoop], pieces: list[bytes]
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(sends_and_ends(Agent(), pieces))
