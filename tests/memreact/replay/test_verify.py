"""A recording of the simulated guest is decided again, and what is not the same is found."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memreact.events import ClockDisturbed, TimerFired
from memreact.replay.moments import Happened, moments
from memreact.replay.verify import Replayed, verify
from memreact.telemetry.recorder import line_of
from memreact.telemetry.trace import Entry
from memreact.value import replace
from memreact_schemas.recording import ForeignLine, read_lines
from memreact_schemas.trace import Failed
from tests.memreact.replay.simulated import MINUTE, RecordedGuest

PERIOD = "[memcg]\nperiod_secs = 60\n"


def replayed(data: bytes) -> Replayed:
    return verify(moments(read_lines(io.BytesIO(data))))


def busy(guest: RecordedGuest, minutes: int = 12) -> RecordedGuest:
    """Two memcgs with cold memory, one that stalls in the middle of it."""
    for path in ("/shop", "/batch"):
        guest.fill(guest.add(path), "file", 300)
    guest.run_for(3 * MINUTE + 1)
    guest.stall(300_000, 2_000_000, "/shop")
    guest.run_for(minutes * MINUTE)
    return guest


@pytest.fixture(scope="module")
def recording() -> bytes:
    """Twelve minutes of turns."""
    return busy(RecordedGuest(PERIOD)).recording()


def test_the_same_events_lead_to_the_same_decisions(recording: bytes) -> None:
    done = replayed(recording)
    assert done.difference is None
    assert done.steps > 40
    assert done.decisions > 20


def test_in_another_process_with_another_order_of_sets_it_is_the_same(
    recording: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "recording"
    file.write_bytes(recording)
    for seed in ("1", "77"):
        done = subprocess.run(
            [sys.executable, "-m", "memreact", "replay", str(file)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        )
        assert "the same, every one" in done.stdout


def test_settings_that_changed_in_between_are_followed() -> None:
    guest = RecordedGuest(PERIOD)
    guest.add("/shop")
    guest.run_for(2 * MINUTE)
    guest.change_settings("[memcg]\nperiod_secs = 7\nswap = true\n")
    guest.run_for(2 * MINUTE)
    done = replayed(guest.recording())
    assert done.difference is None


def test_what_the_flight_recorder_kept_begins_in_the_middle_and_is_the_same() -> None:
    guest = RecordedGuest(PERIOD + "[log]\nflight_kib = 16\nflight_minutes = 40\n")
    busy(guest, 300)
    flight = guest.flight()
    done = replayed(flight)
    assert done.difference is None
    assert done.began_at is not None
    assert done.began_at > guest.now - 45 * MINUTE
    assert done.checkpoints >= 2


def altered(recording: bytes, kind: type, **fields: object) -> bytes:
    """The recording with something else in the first step of an event of that kind."""
    lines = recording.splitlines(keepends=True)
    for moment in moments(read_lines(io.BytesIO(recording))):
        if isinstance(moment, Happened) and isinstance(moment.entry.event, kind):
            entry = moment.entry
            values = {name: getattr(entry, name) for name in entry.__struct_fields__}
            lines[moment.line - 1] = line_of(Entry(**{**values, **fields}))
            return b"".join(lines)
    raise AssertionError("no such event")


def test_an_action_that_was_not_decided_is_the_first_difference(recording: bytes) -> None:
    done = replayed(altered(recording, TimerFired, actions=()))
    assert done.difference is not None
    assert done.difference.what == "actions"
    assert done.difference.recorded == ()
    assert done.difference.replayed


def test_another_moment_to_wake_is_a_difference(recording: bytes) -> None:
    done = replayed(altered(recording, TimerFired, wake_at=None))
    assert done.difference is None  # it surveys, and nothing is due meanwhile
    done = replayed(altered(recording, TimerFired, wake_at=5))
    assert done.difference is not None
    assert done.difference.what == "wake_at"


def test_a_checkpoint_that_is_not_what_the_steps_led_to_is_a_difference(recording: bytes) -> None:
    guest = RecordedGuest(PERIOD)
    guest.add("/shop")
    first = guest.follower.take(1 << 40)
    guest.recorder._state = replace(guest.recorder._state, turns=5)
    done = replayed(first + guest.recorder.gap(1).splitlines(keepends=True)[1] + guest.recording())
    assert done.difference is not None
    assert (done.difference.what, done.difference.recorded) == ("state", {"turns": 5})


def test_after_a_gap_it_goes_on_from_the_checkpoint() -> None:
    guest = RecordedGuest(PERIOD)
    guest.add("/shop")
    first = guest.follower.take(1 << 40)
    guest.run_for(3 * MINUTE)
    lost = guest.follower.take(1 << 40)
    gap = guest.recorder.gap(lost.count(b"\n"))
    guest.run_for(3 * MINUTE)
    done = replayed(first + gap + guest.recording())
    assert done.difference is None
    assert done.missed == lost.count(b"\n")


def test_steps_without_a_checkpoint_cannot_be_decided(recording: bytes) -> None:
    lines = recording.splitlines(keepends=True)
    with pytest.raises(ForeignLine, match=r"^line 2: .* no checkpoint"):
        replayed(b"".join([lines[0], *lines[2:]]))


@pytest.mark.parametrize("state", [b"{}", b'{"turn":{"aside":[1]}}', b'{"turns":"x"}', b"[]"])
def test_a_state_of_another_memreact_is_told_with_its_line(recording: bytes, state: bytes) -> None:
    header, checkpoint, *rest = recording.splitlines(keepends=True)
    begin = checkpoint[: checkpoint.index(b'"state":') + 8]
    data = b"".join([header, begin, state, b"}\n", *rest])
    if state == b"{}":  # every field has a default: it is a state, of a daemon that just began
        assert replayed(data).difference is None
        return
    with pytest.raises(ForeignLine, match=r"^line 2: its state"):
        replayed(data)


def test_the_event_at_which_the_daemon_ended_is_decided_again(recording: bytes) -> None:
    *lines, end = recording.splitlines(keepends=True)
    failed = Failed(at=1, error="KeyError: 'x'")
    done = replayed(b"".join([*lines, line_of(failed), end]))
    assert done.bug is not None
    assert "KeyError: 'x'" in done.bug


class Endless:
    """A recording of so many steps that are made as they are read.

    Args:
        recording: Begins it.
        steps: How many more timers fire in vain.
    """

    def __init__(self, recording: bytes, steps: int) -> None:
        *self._lines, self._end = recording.splitlines(keepends=True)
        self._left = steps

    def readline(self, _limit: int, /) -> bytes:
        """Make the next line."""
        if self._lines:
            return self._lines.pop(0)
        if self._left:
            self._left -= 1
            return self._in_vain
        end, self._end = self._end, b""
        return end

    @property
    def _in_vain(self) -> bytes:
        return (
            b'{"line":"step","at":1,"event":{"type":"MemcgGone","path":"/%01000d"}}\n' % self._left
        )


def test_however_long_a_recording_is_one_line_of_it_is_in_memory() -> None:
    guest = RecordedGuest("[memcg]\ndisabled = true\n")
    endless = Endless(guest.recording(), 5_000)
    tracemalloc.start()
    done = verify(moments(read_lines(endless)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.difference is None
    assert done.steps > 5_000
    assert peak < 1 << 20  # of 5 MB


@settings(max_examples=25)
@given(st.data())
def test_whatever_is_set_and_happens_is_decided_again(data: st.DataObject) -> None:
    draw = data.draw
    period = draw(st.sampled_from([20, 60, 600]))
    guest = RecordedGuest(
        f"[memcg]\nperiod_secs = {period}\nswap = {draw(st.sampled_from(['true', 'false']))}\n"
        f"[pressure]\nresume = '{draw(st.sampled_from(['period', 'quiet']))}'\n"
        "[log]\nflight_kib = 64\n",
        phase=draw(st.sampled_from([0.0, 0.3])),
        anon_alone=draw(st.sampled_from(["200", "max", "after_file"])),
    )
    guest.swap_free = 1 << 30
    for name in draw(st.sets(st.sampled_from(["/a", "/a/b", "/c"]), min_size=1)):
        memcg = guest.add(name)
        for kind in ("anon", "file"):
            guest.fill(memcg, kind, draw(st.integers(1, 300)), hot=draw(st.booleans()))
    for _ in range(draw(st.integers(1, 4))):
        guest.run_for(draw(st.integers(1, 4)) * period * 1_000_000)
        guest.stall(draw(st.sampled_from([0, 30_000, 400_000])), 3_000_000, "/a")
        if draw(st.booleans()):
            guest.tell(ClockDisturbed(draw(st.sampled_from(["suspend", "clock_step"]))))
    assert replayed(guest.recording()).difference is None
    assert replayed(guest.flight()).difference is None
