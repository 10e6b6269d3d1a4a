"""Containerd's own ttRPC client, in Go, against ours as a server; this needs no guest."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from memreact import __version__
from memreact.control.peer import Peer
from memreact.control.ttrpc import ttrpc_protocol
from memreact_schemas.config import Compact, Memcg
from tests.memreact.control.ttrpc_ends import HOST, Agent, Refusals
from tests.system.go_client import Answer, answers_of, built, words

MEMCG_SET = "grpc.AgentService/MemAgentMemcgSet"
COMPACT_SET = "grpc.AgentService/MemAgentCompactSet"
READER = Peer("uid 1000", may_read=True, may_write=False)
OUT_OF_RANGE = "memcg.swappiness_max: found 201, expected a whole number from 0 to 200"
PATIENCE_S = 60


@asynccontextmanager
async def served(path: os.PathLike[str], agent: Agent, peer: Peer = HOST) -> AsyncIterator[str]:
    """Serve an agent on a unix socket, and give its address."""
    socket = os.path.join(path, "agent.sock")
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: ttrpc_protocol(agent, peer, Refusals()), socket)
    async with server:
        yield f"unix:{socket}"


async def called(address: str, *calls: str, at_once: bool = False) -> list[Answer]:
    """Let the Go client call."""
    done = await asyncio.to_thread(
        subprocess.run,
        [str(built()), *words(address, *calls, at_once=at_once)],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return answers_of(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def client() -> None:
    """Build it before a loop runs: that may take a minute."""
    built()


@pytest.mark.asyncio
async def test_go_s_client_sets_every_key_of_memcg(tmp_path: os.PathLike[str]) -> None:
    agent = Agent()
    said = (
        '{"disabled":false,"swap":true,"swappiness_max":60,"period_secs":300,'
        '"period_psi_percent_limit":2,"eviction_psi_percent_limit":3,'
        '"eviction_run_aging_count_min":"18446744073709551615"}'
    )
    async with served(tmp_path, agent) as address:
        assert await called(address, f"{MEMCG_SET}={said}") == [Answer(MEMCG_SET, 0, "", {})]
    assert agent.seen == [
        Memcg(
            disabled=False,
            swap=True,
            swappiness_max=60,
            period_secs=300,
            period_psi_percent_limit=2.0,
            eviction_psi_percent_limit=3.0,
            eviction_run_aging_count_min=2**64 - 1,
        )
    ]


@pytest.mark.asyncio
async def test_go_s_client_sets_every_key_of_compact(tmp_path: os.PathLike[str]) -> None:
    agent = Agent()
    said = (
        '{"disabled":true,"period_secs":1,"period_psi_percent_limit":0,'
        '"compact_psi_percent_limit":100,"compact_sec_max":"-1","compact_order":9,'
        '"compact_threshold":1024,"compact_force_times":"9223372036854775807"}'
    )
    async with served(tmp_path, agent) as address:
        assert await called(address, f"{COMPACT_SET}={said}") == [Answer(COMPACT_SET, 0, "", {})]
    assert agent.seen == [
        Compact(
            disabled=True,
            period_secs=1,
            period_psi_percent_limit=0.0,
            compact_psi_percent_limit=100.0,
            compact_sec_max=-1,
            compact_order=9,
            compact_threshold=1024,
            compact_force_times=2**63 - 1,
        )
    ]


@pytest.mark.asyncio
async def test_go_s_client_asks_for_health_and_version(tmp_path: os.PathLike[str]) -> None:
    async with served(tmp_path, Agent(), READER) as address:
        health, version = await called(address, "grpc.Health/Check", "grpc.Health/Version")
    assert health == Answer("grpc.Health/Check", 0, "", {"status": 1})
    assert version.answer == {"grpc_version": "0.0.1", "agent_version": __version__}


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("grpc.AgentService/NoSuch", 12, "NoSuch method"),
        (
            'grpc.AgentService/AddSwap={"PCIPath":[1,32]}',
            3,
            "PCI slot 32 should be in range [0..31]",
        ),
        ('grpc.AgentService/AddSwapPath={"path":"vdb"}', 3, "'vdb' is no absolute path"),
        ("no.Such/Check", 3, "no.Such service does not exist"),
        (
            f'{MEMCG_SET}={{"swappiness_max":201}}',
            3,
            f"pushed by host: {OUT_OF_RANGE}",
        ),
    ],
)
@pytest.mark.asyncio
async def test_go_s_client_understands_a_refusal_and_calls_on(
    tmp_path: os.PathLike[str], call: str, code: int, message: str
) -> None:
    async with served(tmp_path, agent := Agent()) as address:
        refused, taken = await called(address, call, f'{MEMCG_SET}={{"swap":true}}')
    assert (refused.code, refused.message, taken.code) == (code, message, 0)
    assert agent.seen == [Memcg(swap=True)]


@pytest.mark.asyncio
async def test_go_s_client_adds_swap_by_place_and_by_path(tmp_path: os.PathLike[str]) -> None:
    calls = (
        'grpc.AgentService/AddSwap={"PCIPath":[2,31]}',
        'grpc.AgentService/AddSwapPath={"path":"/dev/vdb"}',
    )
    async with served(tmp_path, agent := Agent()) as address:
        agent.may_end.set()
        assert [(each.code, each.answer) for each in await called(address, *calls)] == [(0, {})] * 2
    assert agent.swaps == ["02/1f", "/dev/vdb"]


@pytest.mark.asyncio
async def test_go_s_client_that_may_only_read_is_told_so(tmp_path: os.PathLike[str]) -> None:
    async with served(tmp_path, agent := Agent(), READER) as address:
        (refused,) = await called(address, f'{MEMCG_SET}={{"swap":true}}')
    assert refused.code == 7
    assert agent.seen == []


@pytest.mark.asyncio
async def test_go_s_client_has_many_calls_in_flight(tmp_path: os.PathLike[str]) -> None:
    calls = [f'{MEMCG_SET}={{"period_secs":{n}}}' for n in range(1, 201)]
    async with served(tmp_path, agent := Agent()) as address:
        answers = await called(address, *calls, "grpc.AgentService/No", at_once=True)
    assert [answer.code for answer in answers] == [0] * 200 + [12]
    assert {keys.period_secs for keys in agent.seen} == set(range(1, 201))
