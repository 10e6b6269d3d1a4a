"""Every event and its step, one JSON object a line."""

from __future__ import annotations

import os

import msgspec

from memreact.actions import Because, BreakOff, Decision
from memreact.events import Event, Instant, MemcgAppeared, MemcgGone, TimerFired
from memreact.policy.state import State, Step
from memreact.telemetry.trace import Entry, Trace
from tests.fake_guest import FakeGuest

NOTHING = Step(State())


def traced(guest: FakeGuest, *events: Event, step: Step = NOTHING) -> list[bytes]:
    trace = Trace(guest.path("trace"))
    for at, event in enumerate(events):
        trace.add(Instant(at), event, step)
    trace.close()
    return guest.received("trace").splitlines()


def test_what_is_written_reads_back_as_the_same_values(guest: FakeGuest) -> None:
    step = Step(State(), (BreakOff(),), (Decision("pause", Because("oom", {"path": "/a"})),))
    events = (MemcgAppeared("/a", 7), TimerFired())
    lines = traced(guest, *events, step=step)
    entries = [msgspec.json.decode(line, type=Entry) for line in lines]
    assert [entry.event for entry in entries] == list(events)
    assert entries[1] == Entry(Instant(1), TimerFired(), step.actions, step.decisions)


def test_a_trace_is_appended_to(guest: FakeGuest) -> None:
    traced(guest, TimerFired())
    assert len(traced(guest, TimerFired())) == 2


def test_a_name_that_is_no_text_is_still_traced(guest: FakeGuest) -> None:
    (line,) = traced(guest, MemcgGone("/a\udcff\n"))
    entry = msgspec.json.decode(line, type=Entry)
    assert entry.event == MemcgGone("/a\\udcff\n")


def test_a_full_disk_ends_the_trace_and_nothing_else() -> None:
    trace = Trace("/dev/full")
    trace.add(Instant(1), TimerFired(), NOTHING)
    assert trace.failed is not None
    trace.add(Instant(2), TimerFired(), NOTHING)
    trace.close()


def test_a_trace_is_for_its_owner_alone(guest: FakeGuest) -> None:
    traced(guest, TimerFired())
    assert os.stat(guest.path("trace")).st_mode & 0o777 == 0o600
