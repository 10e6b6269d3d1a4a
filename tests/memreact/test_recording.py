"""When what was recorded is left in a file, and what the file holds."""

from __future__ import annotations

import os

from memreact.actions import Because, Decision
from memreact.events import Instant, TimerFired
from memreact.policy.state import State, Step
from memreact.recording import Breaches, Recording
from memreact.replay.moments import moments
from memreact.replay.verify import verify
from memreact.run_dir import RunDir
from memreact.telemetry.journal import Journal
from memreact_schemas.recording import opened, read_lines
from memreact_schemas.trace import Failed, Header
from tests.fake_guest import FakeGuest
from tests.memreact.replay.simulated import MINUTE, settings_from
from tests.memreact.telemetry.test_recorder import STATUS

PAUSE = Decision("pause", Because("guest_stall_over_limit"))
LEAVE = Decision("end", Because("stall_over_limit"), "/a", 0)
RESUME = Decision("resume", Because("quiet_window"))
TURN = Decision("turn", Because("turn_over"))


def made(*decisions: Decision) -> Step:
    return Step(State(), (), decisions)


class Alive:
    """A recording beside a guest of files."""

    def __init__(self, guest: FakeGuest, text: str = "") -> None:
        self.lines: list[str] = []
        self.now = 0
        self.run_dir = RunDir(guest.path("run"))
        self.run_dir.take_lock()
        self.settings = settings_from(text)
        self.recording = Recording(
            guest.layout,
            self.run_dir,
            self.settings,
            clock=lambda: Instant(self.now),
            journal=Journal(write=self.lines.append),
        )

    def observe(self, *decisions: Decision) -> None:
        """One step that decides this."""
        self.recording.observe(
            TimerFired(), made(*decisions), Instant(self.now), self.settings, lambda: STATUS
        )

    def files(self) -> list[str]:
        """What was left."""
        return sorted(name for name in os.listdir(self.run_dir.path) if "flight" in name)


def test_a_breach_is_written_when_it_is_over_and_not_while_somebody_is_hurt(
    guest: FakeGuest,
) -> None:
    alive = Alive(guest)
    alive.observe(PAUSE)
    assert alive.files() == []
    alive.observe(RESUME)
    (name,) = alive.files()
    assert name.startswith("flight-limit-")
    assert f"flight_recorded because=limit file={alive.run_dir.path}/{name}" in alive.lines[0]
    with opened(f"{alive.run_dir.path}/{name}") as file:
        lines = [line for _, line in read_lines(file)]
    assert isinstance(lines[0], Header)
    assert lines[0].source == "limit"


def test_breaches_are_written_once_in_ten_minutes() -> None:
    breaches = Breaches()
    over = [
        breaches.are_over(made(*decisions), Instant(minute * MINUTE))
        for minute, decisions in (
            (0, [LEAVE]),
            (1, [TURN]),
            (2, [LEAVE, TURN]),
            (12, [TURN]),
            (13, [PAUSE, RESUME]),
        )
    ]
    assert over == [False, True, False, False, True]


def test_no_files_are_left_where_none_are_wanted(guest: FakeGuest) -> None:
    for text in ("[log]\nflight_files = 0\n", "[log]\nflight_kib = 0\n"):
        alive = Alive(guest, text)
        alive.observe(PAUSE)
        alive.observe(RESUME)
        alive.recording.failed(KeyError("x"), None)
        assert alive.files() == []
        alive.run_dir.release()


def test_another_memreact_leaves_no_files_in_the_folder_of_the_first(guest: FakeGuest) -> None:
    first = Alive(guest)
    second = Alive(guest)
    second.recording.failed(KeyError("x"), None)
    assert first.files() == []


def test_a_folder_that_is_gone_is_told(guest: FakeGuest) -> None:
    alive = Alive(guest)
    guest.loses("run")
    alive.recording.failed(KeyError("x"), None)
    assert "flight_not_recorded because=crash" in alive.lines[0]


def test_after_a_bug_the_event_that_was_at_hand_is_the_last(guest: FakeGuest) -> None:
    alive = Alive(guest)
    alive.observe(TURN)
    alive.recording.failed(KeyError("x" * 900), TimerFired())
    (name,) = alive.files()
    with opened(f"{alive.run_dir.path}/{name}") as file:
        lines = [line for _, line in read_lines(file)]
    failed = lines[-2]
    assert isinstance(failed, Failed)
    assert bytes(failed.event) == b'{"type":"TimerFired"}'
    assert failed.error.startswith("KeyError: 'xxx")
    assert len(failed.error) == 500


def test_the_event_at_hand_raises_again_where_the_policy_has_the_bug(guest: FakeGuest) -> None:
    alive = Alive(guest)
    alive.recording.failed(KeyError("x"), TimerFired())
    (name,) = alive.files()
    with opened(f"{alive.run_dir.path}/{name}") as file:
        done = verify(moments(read_lines(file)))
    assert done.bug is not None
    assert "TimerFired raises nothing here; recorded: KeyError: 'x'" in done.bug
