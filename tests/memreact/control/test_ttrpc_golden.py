"""The bytes that Kata's client and agent exchange, to the last one."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from memreact.control.ttrpc import INTERNAL
from memreact.control.ttrpc_frames import RESPONSE, framed
from memreact_schemas.agent import (
    COMPACT_CONFIG,
    MEMCG_CONFIG,
    MemAgentCompactConfig,
    MemAgentMemcgConfig,
    Response,
    Status,
)
from memreact_schemas.agent import RESPONSE as RESPONSE_TABLE
from memreact_schemas.config import Memcg
from memreact_schemas.protobuf import Table, decode, encode
from tests.memreact.control.ttrpc_ends import Agent, call, calling

MEMCG_SET_SWAP_TRUE = bytes.fromhex(
    "00000029 00000001 01 00"
    "0a11 677270632e4167656e7453657276696365"
    "1210 4d656d4167656e744d656d63675365 74"
    "1a02 1001"
)
# agent-ctl's `auto-values`, 30 bytes more: field 5, a key of 13 bytes and a value of 11.
WITH_METADATA = (
    bytes.fromhex("00000047")
    + MEMCG_SET_SWAP_TRUE[4:]
    + bytes.fromhex("2a1c 0a0d")
    + b"agent-ctl-cfg"
    + bytes.fromhex("120b")
    + b"auto-values"
)
OK_STREAM_1 = bytes.fromhex("00000002 00000001 02 00 0a00")
MEM_AGENT_IS_DISABLED = (
    bytes.fromhex("0000001b 00000001 02 00 0a19 080d 1215") + b"mem-agent is disabled"
)
UNKNOWN_METHOD = bytes.fromhex("00000013 00000001 02 00 0a11 080c 120d") + b"NoSuch method"
PAYLOADS: list[tuple[str, Table[Any], Struct]] = [
    ("0800 20ac02", MEMCG_CONFIG, MemAgentMemcgConfig(disabled=False, period_secs=300)),
    (
        "40 ffffffffffffffffff01",
        COMPACT_CONFIG,
        MemAgentCompactConfig(compact_force_times=2**64 - 1),
    ),
    ("28 ffffffffffffffffff01", COMPACT_CONFIG, MemAgentCompactConfig(compact_sec_max=-1)),
]


def test_a_call_is_written_as_the_client_writes_it() -> None:
    payload = encode(MEMCG_CONFIG, MemAgentMemcgConfig(swap=True))
    assert call("MemAgentMemcgSet", payload) == MEMCG_SET_SWAP_TRUE


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(MEMCG_SET_SWAP_TRUE, id="without metadata"),
        pytest.param(WITH_METADATA, id="with auto-values"),
    ],
)
async def test_the_client_s_call_is_answered_with_the_very_bytes(sent: bytes) -> None:
    agent = Agent()
    async with calling(agent) as caller:
        await caller.sends(sent)
        assert await caller.receives() == OK_STREAM_1
    assert agent.seen == [Memcg(swap=True)]


@pytest.mark.parametrize(
    ("hexed", "table", "message"), PAYLOADS, ids=["explicit false", "never", "a negative limit"]
)
def test_a_payload_is_these_bytes_both_ways(hexed: str, table: Table[Any], message: Struct) -> None:
    data = bytes.fromhex(hexed)
    assert encode(table, message) == data
    assert decode(table, data) == message


@pytest.mark.asyncio
async def test_an_unknown_method_is_answered_with_the_very_bytes() -> None:
    async with calling(Agent()) as caller:
        await caller.sends(call("NoSuch"))
        assert await caller.receives() == UNKNOWN_METHOD


@pytest.mark.asyncio
async def test_an_error_of_the_agent_is_answered_with_the_very_bytes() -> None:
    async with calling(Agent(error=OSError("mem-agent is disabled"))) as caller:
        await caller.sends(MEMCG_SET_SWAP_TRUE)
        assert await caller.receives() == MEM_AGENT_IS_DISABLED


def test_an_error_is_written_as_the_agent_writes_it() -> None:
    status = Status(code=INTERNAL, message="mem-agent is disabled")
    body = encode(RESPONSE_TABLE, Response(status=status))
    assert framed(1, RESPONSE, body) == MEM_AGENT_IS_DISABLED
