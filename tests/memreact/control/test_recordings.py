"""Record over io.memreact: rows of answers that are recordings, on both loops."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from memreact.control.audit import Audit
from memreact.control.guest import Guest
from memreact.control.peer import Peer
from memreact.control.recordings import RecordRow
from memreact.control.service import FOLLOWERS_MAX, MemreactService
from memreact.control.store import SettingsStore
from memreact.control.varlink import VarlinkProtocol
from memreact.events import Instant
from memreact.replay.moments import moments
from memreact.replay.verify import verify
from memreact.run_dir import PushedFile
from memreact.settings.layers import DEFAULT_ORIGIN, Layer
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact_schemas.config import DEFAULTS
from memreact_schemas.recording import read_lines
from memreact_schemas.status import CgroupStatus, Counters, NextEviction, Status
from memreact_schemas.trace import Header, StatusLine
from tests.memreact.control.wire import Client, call, serve, settled
from tests.memreact.replay.simulated import MINUTE, RecordedGuest
from tests.whole_status import whole_status_of

READER = Peer("uid 1000", may_read=True, may_write=False)
HOST = Peer("host", may_read=True, may_write=True)
IO = "io.memreact"
NEXT = NextEviction(waits_for="x", text="x")
END = b'{"line":"end","at":9,"because":"asked"}\n'


class Recorded:
    """A service over the simulated guest."""

    def __init__(self, folder: str, text: str = "[memcg]\nperiod_secs = 60\n") -> None:
        nothing: Any = None
        self.sim = RecordedGuest(text)
        self.turns = 0
        guest = Guest(
            status=self._status,
            whole_status=whole_status_of(self._status, self._cgroups),
            cgroups=self._cgroups,
            doctor=nothing,
            handle=self.sim.tell,
            why_not_run=nothing,
            clock=lambda: Instant(self.sim.now),
            recorder=self.sim.recorder,
        )
        layers = [Layer(DEFAULT_ORIGIN, DEFAULTS)]
        store = SettingsStore(lambda: layers, lambda _: None, PushedFile(f"{folder}/pushed"))
        self.audit = Audit(Journal(write=lambda _: None), lambda: Instant(0))
        self.service = MemreactService(store, guest, Hub(), self.audit)

    def _status(self, cgroups: tuple[CgroupStatus, ...] = ()) -> Status:
        return Status(
            version="1",
            revision=1,
            now_us=1,
            started_at_us=0,
            doing="resting",
            next_eviction=NEXT,
            counters=Counters(),
            turns=self.turns,
            cgroups=cgroups,
        )

    def _cgroups(self, _path: str | None) -> Any:  # noqa: ANN401  # an iterator of many
        for number in range(150):
            yield CgroupStatus(
                path=f"/{number}",
                populated=True,
                frozen=False,
                counters=Counters(),
                next_eviction=NEXT,
            )

    @asynccontextmanager
    async def serve(self, peer: Peer = READER) -> AsyncIterator[Client]:
        """Serve somebody who may only read, or another one."""
        protocol = VarlinkProtocol({IO: self.service}, peer, self.audit.refused)
        async with serve(protocol) as client:
            yield client


@pytest.fixture
def recorded(tmp_path: object) -> Recorded:
    return Recorded(str(tmp_path))


async def lines_of(client: Client) -> tuple[bytes, bool]:
    """The lines of the next answer, and whether more follow."""
    answer = await client.message()
    assert answer is not None
    assert "error" not in answer, answer
    lines = answer["parameters"]["lines"]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines), bool(
        answer.get("continues")
    )


async def record(client: Client, **parameters: object) -> None:
    await client.send(call(f"{IO}.Record", parameters, more=True))
    await settled()


@pytest.mark.asyncio
async def test_what_happens_is_told_from_a_checkpoint_on_and_can_be_decided_again(
    recorded: Recorded,
) -> None:
    recorded.sim.fill(recorded.sim.add("/shop"), "file", 300)
    recorded.sim.run_for(5 * MINUTE)
    data = b""
    async with recorded.serve() as client:
        await record(client, status_seconds=0)
        recorded.sim.run_for(5 * MINUTE)
        while data.count(b'"TimerFired"') < 5:
            more, continues = await lines_of(client)
            data += more
            assert continues
    done = verify(moments(read_lines(io.BytesIO(data + END))))
    assert done.difference is None
    assert done.steps >= 10
    assert recorded.sim.recorder.followers == 1  # the test's own: who left is followed no more


@pytest.mark.asyncio
async def test_what_the_flight_recorder_holds_ends_by_itself(recorded: Recorded) -> None:
    recorded.sim.fill(recorded.sim.add("/shop"), "file", 300)
    recorded.sim.run_for(10 * MINUTE)
    data, continues = b"", True
    async with recorded.serve() as client:
        await record(client, flight=True)
        while continues:
            more, continues = await lines_of(client)
            data += more
    found = [line for _, line in read_lines(io.BytesIO(data))]
    assert isinstance(found[0], Header)
    assert found[0].source == "flight"
    assert verify(moments(read_lines(io.BytesIO(data)))).difference is None


@pytest.mark.asyncio
async def test_status_comes_with_cgroups_at_first_and_again_after_a_turn(
    recorded: Recorded,
) -> None:
    slept: list[float] = []
    tick = asyncio.Event()

    async def until_tick(seconds: float) -> None:
        slept.append(seconds)
        await tick.wait()
        tick.clear()

    row = RecordRow(recorded.sim.recorder, recorded.service._guest, 7, until_tick)
    row.start(lambda: None)
    told: list[int] = []
    for turns in (0, 1):
        recorded.turns = turns
        tick.set()
        await settled()
        while (item := row.take()) is not None:
            lines = [msgspec.json.decode(msgspec.json.encode(each)) for each in item.lines]
            told += [len(line["status"]["cgroups"]) for line in lines if line["line"] == "status"]
    row.close()
    assert told[:3] == [150, 0, 150]
    assert set(slept) == {7}
    assert row.take() is None


@pytest.mark.asyncio
async def test_only_so_many_record_at_a_time(recorded: Recorded) -> None:
    for _ in range(FOLLOWERS_MAX - 1):
        recorded.sim.recorder.follow(lambda: None, Instant(0))
    async with recorded.serve(HOST) as client:
        await client.send(call(f"{IO}.Record", {}, more=True))
        answer = await client.message()
    assert answer is not None
    assert answer["parameters"] == {"why": f"{FOLLOWERS_MAX} record already"}


@pytest.mark.asyncio
async def test_readers_that_record_leave_a_place_to_those_who_may_write(recorded: Recorded) -> None:
    follow = recorded.sim.recorder.follow
    for _ in range(FOLLOWERS_MAX - 1 - recorded.sim.recorder.followers):
        follow(lambda: None, Instant(0))
    async with recorded.serve() as client:
        await client.send(call(f"{IO}.Record", {}, more=True))
        answer = await client.message()
    assert answer is not None
    assert answer["parameters"] == {"why": f"{FOLLOWERS_MAX - 1} record already"}
    async with recorded.serve(HOST) as client:
        await record(client, status_seconds=0)
        assert await lines_of(client)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[log]\nflight_kib = 0\n", "the flight recorder is off: log.flight_kib = 0"),
        ("[log]\nflight_kib = 1\n", "log.flight_kib is too small: a checkpoint alone takes 0 KiB"),
    ],
)
async def test_where_there_is_no_flight_recorder_it_says_why(
    tmp_path: object, text: str, why: str
) -> None:
    recorded = Recorded(str(tmp_path), text)
    async with recorded.serve() as client:
        await client.send(call(f"{IO}.Record", {"flight": True}, more=True))
        answer = await client.message()
    assert answer is not None
    assert answer["parameters"] == {"why": why}


def test_a_status_line_is_what_the_schema_says(recorded: Recorded) -> None:
    line = StatusLine(at=1, status=recorded._status())
    assert msgspec.json.decode(msgspec.json.encode(line), type=StatusLine) == line
