"""memreact-ctl report: a picture that is the same each time, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memreact_tools.report import draw
from memreact_tools.report.series import Series
from tests.memreact.replay.simulated import RecordedGuest
from tests.memreact.replay.test_verify import PERIOD, busy
from tests.tools.ctl.doubles import START

Drawn = subprocess.CompletedProcess[str]
Report = Callable[..., Drawn]


@pytest.fixture(scope="module")
def recording() -> bytes:
    """Some minutes of turns."""
    return busy(RecordedGuest(PERIOD)).recording()


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of matplotlib's list of fonts: the first drawing writes it, which takes long."""
    return tmp_path_factory.mktemp("fonts")


@pytest.fixture
def report(tmp_path: Path, fonts: Path) -> Report:
    """Draw these bytes into a file of that name."""

    def draw(data: bytes, name: str = "report.svg", before: str = "") -> Drawn:
        (tmp_path / "recording").write_bytes(data)
        words = ["report", str(tmp_path / "recording"), "-o", str(tmp_path / name)]
        command = [sys.executable, "-c", f"{before}\n{START}", *words]
        environment = {"MPLCONFIGDIR": str(fonts), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=50
        )

    return draw


def test_a_recording_is_drawn_and_the_same_one_is_the_same_picture(
    report: Report, recording: bytes, tmp_path: Path
) -> None:
    for name in ("one.svg", "two.svg"):
        drawn = report(recording, name)
        assert (drawn.returncode, drawn.stderr) == (0, "")
    picture = (tmp_path / "one.svg").read_text()
    assert picture == (tmp_path / "two.svg").read_text()
    for text in ("held, MiB", "stalled, % of the time", "evicted, MiB", "turn: turn_over"):
        assert text in picture


def test_every_line_has_room_whichever_is_the_higher() -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  # not by each process that collects

    series = Series()
    series.held.points = [(0.0, 100 << 20), (60.0, 90 << 20)]
    series.host_held.points = [(0.0, 200 << 20), (60.0, 150 << 20)]
    axes = Figure().subplots()
    draw._held(axes, series)
    low, high = axes.get_ylim()
    assert low == 0
    assert 200 < high < 250


def test_one_that_is_cut_off_is_drawn_up_to_there_and_that_is_told(
    report: Report, recording: bytes, tmp_path: Path
) -> None:
    drawn = report(recording[:-60])
    assert drawn.returncode == 1
    assert "was cut off in it" in drawn.stderr
    assert (tmp_path / "report.svg").exists()


def test_what_is_no_recording_is_told_with_its_line(report: Report, tmp_path: Path) -> None:
    drawn = report(b"hello\n")
    assert drawn.returncode == 1
    assert "line 1: Expected a header" in drawn.stderr
    assert not (tmp_path / "report.svg").exists()


def test_a_format_that_there_is_not_is_misused(report: Report, recording: bytes) -> None:
    drawn = report(recording, "report.xyz")
    assert drawn.returncode == 2
    assert "xyz" in drawn.stderr


def test_where_matplotlib_is_missing_it_says_what_to_install(
    report: Report, recording: bytes
) -> None:
    missing = "import sys; sys.modules['matplotlib'] = None"
    drawn = report(recording, before=missing)
    assert drawn.returncode == 1
    assert "python3-matplotlib" in drawn.stderr
