"""`memreact replay` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memreact.__main__ import main
from memreact.actions import Because, Decision
from memreact.events import TimerFired
from memreact.telemetry.recorder import line_of
from memreact_schemas.trace import VERSION, Failed
from tests.memreact.replay.simulated import RecordedGuest
from tests.memreact.replay.test_verify import PERIOD, altered, busy

Capture = pytest.CaptureFixture[str]
Replay = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def recording() -> bytes:
    """Some minutes of turns."""
    return busy(RecordedGuest(PERIOD)).recording()


@pytest.fixture
def replay(tmp_path: Path, capsys: Capture) -> Replay:
    """Run it on these bytes; returns status, stdout and stderr."""

    def run(data: bytes, *words: str) -> tuple[int, str, str]:
        file = tmp_path / "recording"
        file.write_bytes(data)
        code = main(["replay", str(file), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_one_that_is_the_same_is_a_0(replay: Replay, recording: bytes) -> None:
    code, said, _ = replay(recording)
    assert code == 0
    assert "the same, every one" in said


def test_one_in_which_nothing_happened_says_so(replay: Replay, recording: bytes) -> None:
    begin = b"".join(recording.splitlines(keepends=True)[:2])
    code, said, _ = replay(begin + b'{"line":"end","at":1,"because":"time_over"}\n')
    assert code == 0
    assert said.startswith("0 steps with 0 decisions: nothing happened\n")


def test_a_difference_is_a_1_with_its_line_and_both_sides(replay: Replay, recording: bytes) -> None:
    code, said, _ = replay(altered(recording, TimerFired, actions=()))
    assert code == 1
    assert "other actions\n  recorded []\n  replayed [{" in said


def test_no_name_of_a_cgroup_reaches_the_terminal_raw(replay: Replay, recording: bytes) -> None:
    left = Decision("leave", Because("disabled"), "/a\x1b[2J\u202e\nthe same, every one", 0)
    code, said, _ = replay(altered(recording, TimerFired, decisions=(left,)))
    assert code == 1
    assert all(line.isprintable() for line in said.splitlines())
    assert "\nthe same, every one" not in said


def test_no_word_of_the_bug_that_ended_it_reaches_the_terminal_raw(
    replay: Replay, recording: bytes
) -> None:
    *lines, end = recording.splitlines(keepends=True)
    failed = Failed(at=1, error="\x1b[2J\u202e\nthe same, every one\n" + "x" * 9999)
    code, said, _ = replay(b"".join([*lines, line_of(failed), end]))
    assert code == 0
    bug = next(line for line in said.splitlines() if line.startswith("it ended by a bug: "))
    assert "\\x1b[2J" in bug
    assert all(line.isprintable() and len(line) < 500 for line in said.splitlines())
    assert said.count("\nthe same, every one") == 1


def test_one_that_is_cut_off_is_a_1_after_all_that_was_whole(
    replay: Replay, recording: bytes
) -> None:
    cut = recording[: len(recording) // 2]
    code, said, trouble = replay(cut)
    assert code == 1
    assert "the same, every one" in said
    line = cut.count(b"\n") + 1
    assert f"line {line}: the recording was cut off in it" in trouble


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"hello\n", "line 1: Expected a header of memreact-recording"),
        (b"", "line 1: it is empty"),
        (
            b'{"line":"header","format":"memreact-recording","version":%d}\n' % (VERSION + 1),
            f"line 1: it is of version {VERSION + 1}",
        ),
    ],
)
def test_what_cannot_be_read_is_a_1_in_one_line(replay: Replay, data: bytes, says: str) -> None:
    code, said, trouble = replay(data)
    assert (code, said, trouble.count("\n")) == (1, "", 1)
    assert says in trouble


def test_a_file_that_is_not_there_is_a_1(capsys: Capture) -> None:
    assert main(["replay", "/nowhere/at/all"]) == 1
    assert "/nowhere/at/all" in capsys.readouterr().err


def test_what_other_settings_would_change_is_a_0(replay: Replay, recording: bytes) -> None:
    code, said, _ = replay(recording, "--set", "memcg.period_secs=20")
    assert code == 0
    assert "with memcg.period_secs=20 from " in said
    assert "PARTS" in said
    assert said.rstrip().endswith("the recording has no readings for it")


@pytest.mark.parametrize("pair", ["memcg.period_sex=1", "memcg.period_secs=0", "swap", "x.y=1"])
def test_a_setting_that_is_none_is_a_2(replay: Replay, recording: bytes, pair: str) -> None:
    code, _, trouble = replay(recording, "--set", pair)
    assert code == 2
    assert "--set" in trouble


def test_a_recording_of_which_the_middle_is_foreign_is_read_to_there(
    replay: Replay,
    recording: bytes,
) -> None:
    lines = recording.splitlines(keepends=True)
    code, _, trouble = replay(b"".join([*lines[:9], b'{"line":"song"}\n', *lines[9:]]))
    assert code == 1
    assert "line 10: Invalid value 'song'" in trouble
