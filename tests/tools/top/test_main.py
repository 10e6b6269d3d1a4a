"""The command: what may be typed, what is printed, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from memreact_tools.top.__main__ import main
from memreact_tools.top.live import Live
from tests.tools.servers import serving
from tests.tools.top.guests import FakeDaemon, cgroup, decision
from tests.tools.top.test_replay import MINUTE, written

EVIL = "/a\x1b[2J"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a daemon with two cgroups and a decision."""
    daemon = FakeDaemon([cgroup("/b", [(1, 9)]), cgroup(EVIL, [(1, 2)])])
    daemon.decide(decision(1, path="/b", because="refaults"))
    with serving(tmp_path / "s", daemon.serve):
        yield f"unix:{tmp_path}/s"
        daemon.hang_up()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command; its status, what it printed, and its trouble."""
    code = main([*words, "-d", "0.1"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_one_frame_shows_all_of_it(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--address", address, "--batch", "-n", "1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "memreact 0.1.0" in lines[0]
    assert any("refaults" in line for line in lines)
    assert any("\\x1b[2J" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 80


def test_frames_are_printed_until_there_were_enough(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "--address", address, "--plain", "--ascii", "-n", "3")
    assert out.count("memreact 0.1.0") == 3
    assert out.isascii()


def test_what_is_no_terminal_is_given_text(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "--address", address, "-n", "1")
    assert (code, "memreact 0.1.0" in out) == (0, True)


def test_json_is_a_line_for_each_guest_and_frame(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "--address", address, "--json", "-n", "2")
    first, second = (msgspec.json.decode(line) for line in out.splitlines())
    assert first["address"] == address
    assert {each["path"] for each in first["status"]["cgroups"]} == {"/b", EVIL}
    assert [each["number"] for each in first["decisions"]] == [1]
    assert "decisions" not in second
    assert second["stall_ppm"] == 5000
    assert out.replace("\n", "").isprintable()


def test_a_guest_that_does_not_answer_is_an_error(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    none = f"unix:{tmp_path}/none"
    code, out, err = run(capsys, "--address", address, "--address", none, "--plain", "-n", "1")
    assert code == 1
    assert f"{none}: there is no such socket" in err
    assert out.count("CGROUP") == 1
    assert "no connection" in out


@pytest.mark.parametrize(
    "words",
    [
        ["--address", "nonsense"],
        ["--address-file", "/dev/null"],
        ["--replay", "/dev/null", "--at", "soon"],
    ],
)
def test_what_makes_no_sense_is_misuse_or_trouble(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *words)
    assert code in (1, 2)
    assert err.startswith("memreact-top: ")


@pytest.mark.parametrize("flag", [["-n", "0"], ["-d", "0"], ["--speed", "0"], ["--sort", "x"]])
def test_a_bad_number_or_word_is_misuse(
    flag: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flag)
    assert ended.value.code == 2
    capsys.readouterr()


def test_a_file_that_is_missing_or_no_recording_could_not_be_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "--replay", f"{tmp_path}/none")[0] == 1
    bad = written(tmp_path, [], more=b"hello\n")
    code, _, err = run(capsys, "--replay", bad)
    assert (code, "line 1" in err) == (1, True)


def test_a_recording_is_printed_from_where_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, MINUTE)
    code, out, err = run(capsys, "--replay", path, "--at", "31s", "--batch", "-n", "1")
    assert (code, err) == (0, "")
    assert "reason 30" in out
    assert "reason 35" not in out


def test_ctrl_c_ends_printing_in_order(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Live) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(Live, "take", interrupted)
    assert run(capsys, "--address", address, "--plain")[0] == 0


def test_its_help_names_every_order_of_cgroups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "cold, cold%, evicted" in " ".join(capsys.readouterr().out.split())
