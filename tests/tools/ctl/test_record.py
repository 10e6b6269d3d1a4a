"""memreact-ctl record: a file that is whole, however it ends."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memreact.events import Instant, TimerFired
from memreact.policy.state import State, Step
from memreact.telemetry.recorder import About, Recorder
from memreact_schemas.control import Record
from memreact_schemas.recording import read_lines
from memreact_schemas.trace import Checkpoint, End, Header, Line, StatusLine, Stepped
from memreact_tools.ctl.__main__ import main
from memreact_tools.ctl.record import silence
from tests.tools.ctl.doubles import START
from tests.tools.ctl.test_against_the_daemon import MAY_READ, Daemon, _serving

Capture = pytest.CaptureFixture[str]


class Recording(Daemon):
    """A daemon that records."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        about = About("9", "6.12", None, lambda: 5)
        self.recorder = Recorder(about, self.store.settings, Instant(0))
        self.service._guest = self.service._guest._replace(recorder=self.recorder)
        self.peer = MAY_READ


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """One that is asked where no address is given."""
    made = Recording(tmp_path)
    monkeypatch.setenv("MEMREACT_ADDRESS", f"unix:{tmp_path}/io.memreact")
    with _serving(tmp_path / "io.memreact", made.protocol):
        yield made


def lines_in(data: bytes) -> list[Line]:
    return [line for _, line in read_lines(io.BytesIO(data))]


def kinds(data: bytes) -> list[type]:
    return [type(line) for line in lines_in(data)]


def test_for_a_time_it_is_a_recording_with_status_and_an_end(
    daemon: Recording, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "out"
    assert main(["record", "-o", str(file), "--for", "1s"]) == 0
    assert kinds(file.read_bytes()) == [Header, Checkpoint, StatusLine, End]
    (end,) = lines_in(file.read_bytes())[-1:]
    assert isinstance(end, End)
    assert (end.because, end.at) == ("time_over", 5_000_000)
    assert capsys.readouterr().out == "4 lines, 0 steps\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_the_flight_recorder_holds_can_be_compressed(
    daemon: Recording, tmp_path: Path
) -> None:
    daemon.recorder.observe(TimerFired(), Step(State()), Instant(2), daemon.store.settings)
    file = tmp_path / "out.gz"
    assert main(["record", "--flight", "-o", str(file)]) == 0
    assert kinds(gzip.decompress(file.read_bytes())) == [Header, Checkpoint, Stepped, End]


def test_on_stdout_there_is_nothing_but_the_recording(
    daemon: Recording, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["record", "--flight", "-o", "-"]) == 0
    said = capfdbinary.readouterr()
    assert kinds(said.out) == [Header, Checkpoint, End]
    assert said.err == b"3 lines, 0 steps\n"


def test_a_file_that_is_there_is_not_written_over(
    daemon: Recording, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "out"
    file.write_text("dear")
    assert main(["record", "--flight", "-o", str(file)]) == 1
    assert "File exists" in capsys.readouterr().err
    assert file.read_text() == "dear"


def test_where_nothing_is_recorded_no_file_is_left(
    daemon: Recording, tmp_path: Path, capsys: Capture
) -> None:
    daemon.service._guest = daemon.service._guest._replace(recorder=None)
    assert main(["record", "-o", str(tmp_path / "out")]) == 1
    assert "nothing is recorded here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_guest_that_is_not_there_leaves_no_file(tmp_path: Path, capsys: Capture) -> None:
    words = ["--address", f"unix:{tmp_path}/none", "record", "-o", str(tmp_path / "out")]
    assert main(words) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--flight", "--for", "1s"],
        ["--flight", "--status-every", "1s"],
        ["--for", "soon"],
        ["--status-every", "2h"],
    ],
)
def test_what_makes_no_sense_is_misused(words: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert main(["record", "-o", str(tmp_path / "out"), *words]) == 2
    assert not (tmp_path / "out").exists()


def when_written(file: Path, act: Callable[[], None]) -> threading.Thread:
    """Act as soon as the file has a checkpoint."""

    def wait() -> None:
        while not file.exists() or b'"checkpoint"' not in file.read_bytes():
            gone.wait(0.02)
        act()

    gone = threading.Event()
    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("quiet_s", "asked", "said"),
    [
        (31, Record(), "nothing came in the last 31 s"),
        (29, Record(), ""),
        (29, Record(status_seconds=5), "nothing came in the last 29 s"),
        (900, Record(status_seconds=0), ""),
        (900, Record(flight=True), ""),
    ],
)
def test_a_stream_that_stalls_until_the_time_is_over_is_told(
    quiet_s: float, asked: Record, said: str
) -> None:
    assert silence(quiet_s, asked) == said


@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_whole_and_so_does_kill(
    daemon: Recording, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "out"
    program = subprocess.Popen(
        [sys.executable, "-c", START, "record", "-o", str(file)],
        env={**os.environ},
        stdout=subprocess.PIPE,
    )
    waiting = when_written(file, lambda: program.send_signal(number))
    said, _ = program.communicate(timeout=40)
    waiting.join()
    assert program.returncode == 0
    assert b"0 steps" in said
    (end,) = lines_in(file.read_bytes())[-1:]
    assert isinstance(end, End)
    assert end.because == "asked"


def test_a_guest_that_goes_away_ends_it_whole_and_that_is_told(
    daemon: Recording, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "out"
    protocols: list[object] = []
    made = daemon.service._record

    def keeping(call: object, peer: object) -> object:
        stream = made(call, peer)  # type: ignore[arg-type]  # as they came
        protocols.append(stream)
        return stream

    daemon.service._answers = {**daemon.service._answers, "Record": keeping}  # type: ignore[dict-item]

    def leave() -> None:
        wake = protocols[0]._follower._wake  # type: ignore[attr-defined]
        protocol = wake.__self__
        protocol._loop.call_soon_threadsafe(protocol._transport.abort)

    waiting = when_written(file, leave)
    code = main(["record", "-o", str(file), "--status-every", "0"])
    waiting.join()
    assert code == 1
    assert "the connection ended" in capsys.readouterr().err
    (end,) = lines_in(file.read_bytes())[-1:]
    assert isinstance(end, End)
    assert end.because == "connection_lost"
