from __future__ import annotations

import json
from pathlib import Path

import pytest

from memreact_tools.host.__main__ import main
from tests.tools.host.kata import CONFIGURATION


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration as Kata ships it."""
    path = tmp_path / "configuration.toml"
    path.write_text(CONFIGURATION)
    return path


def test_the_switches_that_must_be_open_are_opened_and_nothing_else_changes(file: Path) -> None:
    switches = ["mem_agent_enable=true", "reclaim_guest_freed_memory=true"]
    assert main(["kata", "set", str(file), *switches]) == 0
    expected = CONFIGURATION.replace("#mem_agent_enable", "mem_agent_enable")
    expected = expected.replace("#reclaim_guest_freed", "reclaim_guest_freed")
    assert file.read_text() == expected
    assert main(["kata", "check", str(file)]) == 0


def test_a_dry_run_prints_the_difference_and_writes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kata", "set", "--dry-run", str(file), "memcg_swap=true"]) == 0
    said = capsys.readouterr().out
    assert "\n-\\t# memcg_swap = false\n+\\tmemcg_swap = true\n" in said
    assert file.read_text() == CONFIGURATION


def test_a_check_names_what_is_missing_and_ends_with_1(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kata", "check", str(file)]) == 1
    said = capsys.readouterr().out
    assert "! mem_agent_enable is not true" in said
    assert "! reclaim_guest_freed_memory is not true" in said
    assert "  memcg_swap                           false, the default (commented out)" in said


def test_a_check_for_programs_says_the_same(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kata", "check", "--json", str(file)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert len(said["findings"]) == 2
    assert said["options"]["compact_sec_max"] == {
        "table": "agent.kata.mem_agent",
        "how": "set",
        "value": 180,
        "in_force": 180,
    }


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ("memcg_swp=true", "did you mean memcg_swap"),
        ("memcg_swap=yes", "is true or false, not 'yes'"),
        ("memcg_swap", "is not OPTION=VALUE"),
    ],
)
def test_one_wrong_option_of_several_leaves_the_file_as_it_is(
    file: Path, pair: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kata", "set", str(file), "mem_agent_enable=true", pair]) == 2
    assert why in capsys.readouterr().err
    assert file.read_text() == CONFIGURATION


@pytest.mark.parametrize("content", [b"a = \xff", b"a =", b"\x1b[2J"])
def test_what_is_no_toml_is_refused_and_left_alone(
    file: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(content)
    assert main(["kata", "set", str(file), "mem_agent_enable=true"]) == 1
    assert file.read_bytes() == content
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


def test_a_file_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kata", "check", str(tmp_path / "none.toml")]) == 1
    assert "No such file" in capsys.readouterr().err
