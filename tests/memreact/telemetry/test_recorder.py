"""Lines for the flight recorder, for a file and for whoever follows."""

from __future__ import annotations

import gzip
import io

import pytest

from memreact.events import (
    CapabilitiesRead,
    Event,
    GuestPressure,
    Instant,
    MemcgAppeared,
    MemcgGone,
    MemcgView,
    PressureSample,
    RunAsked,
    Surveyed,
    TimerFired,
)
from memreact.policy.state import State, Step
from memreact.policy.step import step
from memreact.replay.moments import moments
from memreact.replay.verify import verify
from memreact.telemetry import recorder as module
from memreact.telemetry.recorder import About, Follower, Recorder
from memreact.telemetry.trace import Trace
from memreact_schemas.recording import CutOff, read_lines
from memreact_schemas.status import Counters, NextEviction, Status
from memreact_schemas.trace import Checkpoint, End, Gap, Header, Line, SettingsLine, Stepped
from tests.fake_guest import FakeGuest
from tests.memreact.policy.simulated_guest import SECOND
from tests.memreact.replay.simulated import MINUTE, RecordedGuest, settings_from

ABOUT = About("9", "6.12", None, lambda: 5)
NOTHING = Step(State())
STATUS = Status(
    version="1",
    revision=1,
    now_us=1,
    started_at_us=0,
    doing="resting",
    next_eviction=NextEviction(waits_for="x", text="x"),
    counters=Counters(),
)


def lines_of(data: bytes) -> list[Line]:
    """The lines of what is not over yet."""
    found: list[Line] = []
    lines = (line for _, line in read_lines(io.BytesIO(data)))
    with pytest.raises(CutOff):
        found.extend(lines)
    return found


def kinds(data: bytes) -> list[type]:
    return [type(line) for line in lines_of(data)]


class Wakes:
    """Counts how often a follower was woken."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        """Something waits."""
        self.count += 1


def recorder(text: str = "", trace: Trace | None = None) -> Recorder:
    return Recorder(ABOUT, settings_from(text), Instant(0), trace)


def follow(made: Recorder) -> tuple[Follower, Wakes]:
    wakes = Wakes()
    return made.follow(wakes, Instant(1)), wakes


def test_whoever_follows_is_given_a_header_and_a_checkpoint_then_each_step() -> None:
    made = recorder()
    follower, _ = follow(made)
    made.observe(TimerFired(), NOTHING, Instant(2), made._settings)
    assert kinds(follower.take(1 << 20)) == [Header, Checkpoint, Stepped]
    assert follower.take(1 << 20) == b""


def test_a_follower_is_woken_when_something_waits_and_nothing_did() -> None:
    made = recorder()
    follower, wakes = follow(made)
    assert wakes.count == 1
    follower.take(1 << 20)
    for at in (2, 3):
        made.observe(TimerFired(), NOTHING, Instant(at), made._settings)
    assert wakes.count == 2


def test_lines_are_given_whole_and_no_more_than_asked_for() -> None:
    made = recorder()
    follower, _ = follow(made)
    first = follower.take(1)
    assert first.endswith(b"\n")
    assert first.count(b"\n") == 1
    second = follower.take(1)
    assert second.startswith(b'{"line":"checkpoint"')


def test_settings_are_told_before_the_first_step_that_went_by_them() -> None:
    made = recorder()
    follower, _ = follow(made)
    fresh = settings_from("[memcg]\nperiod_secs = 5\n", 2)
    made.observe(TimerFired(), NOTHING, Instant(2), fresh)
    made.observe(TimerFired(), NOTHING, Instant(3), fresh)
    data = follower.take(1 << 20)
    assert kinds(data)[2:] == [SettingsLine, Stepped, Stepped]
    assert b'"period_secs":5' in data


def test_who_does_not_read_loses_lines_and_goes_on_behind_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FOLLOWER_BYTES_MAX", 20_000)
    guest = RecordedGuest("[memcg]\nperiod_secs = 60\n")
    guest.fill(guest.add("/shop"), "file", 300)
    first = guest.follower.take(1 << 40)
    guest.run_for(60 * MINUTE)
    second = guest.follower.take(1 << 40)
    assert [type(line) for line in lines_of(first + second)][-2:] == [Gap, Checkpoint]
    guest.run_for(SECOND)
    guest.add("/late")
    done = verify(moments(read_lines(io.BytesIO(first + second + guest.recording()))))
    assert done.difference is None
    assert done.missed > 10


def test_who_left_is_given_nothing_more() -> None:
    made = recorder()
    follower, _ = follow(made)
    follower.close()
    made.observe(TimerFired(), NOTHING, Instant(2), made._settings)
    assert made.followers == 0
    assert follower.take(1 << 20) == b""


def test_a_trace_is_a_recording_from_its_first_line_to_its_last(guest: FakeGuest) -> None:
    made = recorder(trace=Trace(guest.path("trace")))
    made.observe(MemcgAppeared("/a", 7), NOTHING, Instant(2), made._settings)
    made.close()
    data = guest.received("trace")
    found = [line for _, line in read_lines(io.BytesIO(data))]
    assert [type(line) for line in found] == [Header, Checkpoint, Stepped, End]
    assert isinstance(found[0], Header)
    assert (found[0].source, found[0].wall_us) == ("trace", 5)


def test_a_status_is_for_the_flight_recorder_alone() -> None:
    made = recorder()
    follower, _ = follow(made)
    follower.take(1 << 20)
    made.add_status(STATUS, Instant(4))
    assert follower.take(1 << 20) == b""
    flight = gzip.decompress(b"".join(made.packed("limit", Instant(5))))
    assert b'"line":"status"' in flight
    assert flight.endswith(b'{"line":"end","at":5,"because":"limit"}\n')


def test_a_flight_recorder_that_is_switched_off_and_on_begins_with_a_checkpoint() -> None:
    made = recorder()
    off = settings_from("[log]\nflight_kib = 0\n", 2)
    made.keep(off.config.log)
    made.observe(TimerFired(), NOTHING, Instant(2), off)
    assert made.flight.held_bytes == 0
    made.keep(settings_from("[log]\nflight_kib = 8\n").config.log)
    assert made.flight.held_bytes > 0


def test_while_something_is_written_no_checkpoint_holds_the_interpreter_up() -> None:
    guest = RecordedGuest("[memcg]\nperiod_secs = 60\n[log]\nflight_minutes = 1\n")
    guest.fill(guest.add("/shop"), "file", 300)
    guest.run_until_write("/shop")
    newest = guest.recorder.flight._segments[-1]
    guest.recorder.observe(
        MemcgGone("/none"),
        Step(guest.watched.state),
        Instant(guest.now + 60 * MINUTE),
        guest.settings,
    )
    assert guest.recorder.flight._segments[-1] is newest


def test_a_name_that_is_no_text_is_recorded_and_decided_again() -> None:
    made, state, path = recorder(), State(), "/a\udcff"
    follower, _ = follow(made)
    events: tuple[Event, ...] = (
        CapabilitiesRead(4096, "mglru", privileged_psi=True, own_path="/m", boot_phase=0.5),
        MemcgAppeared(path, 7),
        RunAsked(path, "uid 0"),
        Surveyed((MemcgView(path, 7, 3, 0, 0),), PressureSample(Instant(3), GuestPressure(0))),
        MemcgGone(path),
    )
    for at, event in enumerate(events):
        step_made = step(state, event, made._settings.rules, Instant(at))
        state = step_made.state
        made.observe(event, step_made, Instant(at), made._settings)
    data = follower.take(1 << 20)
    assert b"\\\\udcff" in data
    lines = ((number, line) for number, line in enumerate(lines_of(data), 1))
    assert verify(moments(lines)).difference is None
