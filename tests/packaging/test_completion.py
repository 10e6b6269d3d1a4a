"""What the shell completes, asked of a real shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import completion
from memreact_tools.ctl.verbs import VERBS

FOLDER = Path(__file__).parents[2] / "packaging" / "completions"
ASK = """\
compopt() { echo "compopt $*"; }
. "$1"; shift
function=$1; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
$function
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words: str) -> list[str]:
    """Return what stands there after a tab behind these words."""
    name = words[0]
    command = ["bash", "-c", ASK, "bash", f"{FOLDER}/{name}", f"_{name.replace('-', '_')}", *words]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert said.stderr == ""
    return said.stdout.splitlines()


@pytest.mark.parametrize("name", completion.COMMANDS)
def test_the_manual_page_names_every_verb_and_every_option(name: str) -> None:
    (page,) = FOLDER.parent.glob(f"{name}.[18]")
    text = page.read_text().replace("\\-", "-")
    words = completion.words_of(name)
    assert {"--version"} <= words
    assert not {word for word in words if word not in text} - {"--help"}


@pytest.mark.parametrize("name", completion.COMMANDS)
def test_what_is_committed_is_what_the_parsers_say(name: str) -> None:
    assert (FOLDER / name).read_text() == completion.completion(name), (
        "run: PYTHONPATH=.:schemas:tools python packaging/completion.py packaging/completions"
    )


def test_every_verb_is_offered() -> None:
    assert {verb.split()[0] for verb in VERBS} <= set(offered("memreact-ctl", ""))
    assert offered("memreact-ctl", "rule", "p") == ["put"]
    assert {"run", "check", "doctor"} <= set(offered("memreact", ""))
    assert {"kata", "view", "swap"} <= set(offered("memreact-host", ""))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("memreact-ctl", "status", "--led"), ["--ledger"]),
        (("memreact-ctl", "--json", "rule", "put", "--nu"), ["--numa"]),
        (("memreact-ctl", "log-level", "d"), ["debug"]),
        (("memreact-ctl", "get", "memcg.swapp"), ["memcg.swappiness_max"]),
        (
            ("memreact-ctl", "set", "memcg.swapp"),
            ["compopt -o nospace", "memcg.swappiness_max="],
        ),
        (("memreact", "run", "--loop", "u"), ["uvloop"]),
        (("memreact-ctl", "--timeout", ""), [""]),
    ],
)
def test_what_is_known_is_offered(words: tuple[str, ...], told: list[str]) -> None:
    assert offered(*words) == told


@pytest.mark.parametrize(
    "words",
    [("memreact", "check"), ("memreact", "run", "--trace"), ("memreact-ctl", "--address-file")],
)
def test_names_of_files_are_offered_and_quoted(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a $(b) c").touch()
    told = offered(*words, f"{tmp_path}/a")
    assert told == ["compopt -o filenames", f"{tmp_path}/a $(b) c"]


def test_cgroups_are_offered_by_their_paths_and_quoted() -> None:
    told = offered("memreact-ctl", "explain", "/")
    assert told[0] == "compopt -o filenames -o nospace"
    assert not [path for path in told[1:] if path.startswith("/sys/fs")]


def test_a_call_without_a_folder_tells_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_a_file_is_written_for_each_command(tmp_path: Path) -> None:
    assert completion.main([str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(completion.COMMANDS)


def test_the_packages_carry_what_their_commands_need(unpacked: Path, unpacked_host: Path) -> None:
    for folder in (unpacked, unpacked_host):
        commands = {path.name for path in (folder / "usr/bin").iterdir()}
        there = {path.name for path in (folder / "usr/share/bash-completion/completions").iterdir()}
        assert there == commands & set(completion.COMMANDS)
