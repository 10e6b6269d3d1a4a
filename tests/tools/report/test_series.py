"""What a picture shows is what the recording says, and it is bounded."""

from __future__ import annotations

import io

import msgspec
from msgspec import Raw

from memreact_schemas.recording import read_lines
from memreact_schemas.status import Counters, LedgerStatus, LedgerTally, NextEviction, Status
from memreact_schemas.trace import (
    FORMAT,
    VERSION,
    Checkpoint,
    Decided,
    Header,
    Line,
    StatusLine,
    Stepped,
    Why,
)
from memreact_tools.report.series import POINTS_MAX, Row, Series, series_of
from tests.memreact.replay.simulated import RecordedGuest
from tests.memreact.replay.test_verify import PERIOD, busy

SECOND = 1_000_000
MIB = 1 << 20


def status(**ledger: int) -> Status:
    return Status(
        version="1",
        revision=1,
        now_us=1,
        started_at_us=0,
        doing="resting",
        next_eviction=NextEviction(waits_for="x", text="x"),
        counters=Counters(),
        ledger=LedgerStatus(since_start=LedgerTally(), **ledger),  # type: ignore[arg-type]  # its fields
    )


def stepped(at_s: int, event: object = None, *decisions: Decided) -> Stepped:
    raw = Raw(msgspec.json.encode(event or {"type": "TimerFired"}))
    return Stepped(at=at_s * SECOND, event=raw, decisions=decisions)


def gathered(*lines: Line) -> Series:
    return series_of(enumerate(lines, 1))


HEADER = Header(at=0, format=FORMAT, version=VERSION, memreact="9", source="record", wall_us=0)
STATE = Raw(b'{"guest":{"page_bytes":65536}}')
BEGIN = Checkpoint(at=10 * SECOND, revision=1, settings=Raw(b"{}"), state=STATE)


def pressure(at_s: int, guest_us: int, own_us: int = 0) -> dict[str, object]:
    return {"at": at_s * SECOND, "guest": {"guest_us": guest_us, "own_us": own_us, "others_us": {}}}


def test_held_memory_is_what_was_not_reported_beside_what_the_host_said() -> None:
    told = status(total_bytes=100 * MIB, reported_bytes=30 * MIB, host_holds_bytes=80 * MIB)
    found = gathered(HEADER, BEGIN, StatusLine(at=12 * SECOND, status=told))
    assert found.held.points == [(2.0, 70 * MIB)]
    assert found.host_held.points == [(2.0, 80 * MIB)]
    assert found.title == "memreact 9, record"


def test_pressure_is_the_guests_less_our_own_between_two_readings() -> None:
    found = gathered(
        HEADER,
        BEGIN,
        stepped(11, {"type": "StallSeen", "pressure": pressure(11, 0)}),
        stepped(12, {"type": "BatchEnded", "after": {"pressure": pressure(12, 600_000, 100_000)}}),
        stepped(14, {"type": "Inspected", "inspection": {"pressure": pressure(14, 600_000)}}),
    )
    assert found.stall.points == [(2.0, 50.0), (4.0, 5.0)]


def test_a_pause_lasts_until_its_resume_or_the_end() -> None:
    pause, resume = Decided("pause", Why("oom")), Decided("resume", Why("quiet_window"))
    found = gathered(
        HEADER,
        BEGIN,
        stepped(11, None, pause),
        stepped(13, None, resume),
        stepped(14, None, pause),
        stepped(20),
    )
    assert found.pauses == [(1.0, 3.0), (4.0, 10.0)]
    assert found.decisions[0][0] == "pause: oom"
    assert [at for at, _ in found.decisions[0][1].points] == [1.0, 4.0]


def test_evictions_add_up_in_bytes_of_this_guests_pages() -> None:
    end = Decided("end", Why("cold_gone", {"evicted_pages": 16}), "/a", 0)
    found = gathered(HEADER, BEGIN, stepped(11, None, end), stepped(12, None, end))
    assert found.evicted.points == [(1.0, MIB), (2.0, 2 * MIB)]


def test_events_of_another_shape_say_nothing() -> None:
    found = gathered(HEADER, BEGIN, stepped(11, {"type": "StallSeen", "pressure": "high"}))
    assert found.stall.points == []


def test_a_row_keeps_so_many_points_however_many_there_were() -> None:
    row = Row()
    for at in range(50_000):
        row.add(at, at)
    assert POINTS_MAX // 2 <= len(row.points) <= POINTS_MAX
    assert row.points[-1][0] > 49_000


def test_a_whole_recording_has_evictions_decisions_and_its_length() -> None:
    data = busy(RecordedGuest(PERIOD)).recording()
    found = series_of(read_lines(io.BytesIO(data)))
    assert found.until_s > 600
    assert found.evicted.points
    assert any(name.startswith("turn: ") for name, _ in found.decisions)
