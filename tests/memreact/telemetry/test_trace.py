"""Every event and its step, one JSON object a line, and the file that they are appended to."""

from __future__ import annotations

import os

import msgspec

from memreact.actions import Because, BreakOff, Decision
from memreact.events import Instant, MemcgGone, TimerFired
from memreact.telemetry.trace import Entry, Trace, encoded, entries_in
from memreact_schemas.trace import Stepped
from tests.fake_guest import FakeGuest

ENTRY = Entry(
    Instant(1),
    TimerFired(),
    (BreakOff(),),
    (Decision("pause", Because("oom", {"path": "/a", "times": 3}), "/a", 1),),
    Instant(9),
)


def test_what_is_written_reads_back_as_the_same_values() -> None:
    assert list(entries_in(encoded(ENTRY) + b"\n")) == [ENTRY]


def test_lines_that_are_no_steps_are_passed_over() -> None:
    lines = b'{"line":"header","at":1}\n' + encoded(ENTRY) + b'\n{"line":"end","at":2}\n'
    assert list(entries_in(lines)) == [ENTRY]


def test_the_step_that_is_written_is_the_one_that_others_read() -> None:
    assert Entry.__struct_fields__[1:] == Stepped.__struct_fields__[1:]
    read = msgspec.json.decode(encoded(ENTRY), type=Stepped)
    assert (read.at, read.wake_at) == (1, 9)
    assert (bytes(read.event), bytes(read.actions[0])) == (
        b'{"type":"TimerFired"}',
        b'{"type":"BreakOff"}',
    )
    decided = msgspec.json.decode(msgspec.json.encode(read.decisions[0]), type=Decision)
    assert decided == ENTRY.decisions[0]


def test_a_name_that_is_no_text_is_still_written() -> None:
    (entry,) = entries_in(encoded(Entry(Instant(1), MemcgGone("/a\udcff\n"))))
    assert entry.event == MemcgGone("/a\\udcff\n")


def test_a_trace_is_appended_to(guest: FakeGuest) -> None:
    for line in (b"one\n", b"two\n"):
        trace = Trace(guest.path("trace"))
        trace.add(line)
        trace.close()
    assert guest.received("trace") == b"one\ntwo\n"


def test_a_full_disk_ends_the_trace_and_nothing_else() -> None:
    trace = Trace("/dev/full")
    trace.add(b"one\n")
    assert trace.failed is not None
    trace.add(b"two\n")
    trace.close()


def test_a_trace_is_for_its_owner_alone(guest: FakeGuest) -> None:
    Trace(guest.path("trace")).close()
    assert os.stat(guest.path("trace")).st_mode & 0o777 == 0o600
