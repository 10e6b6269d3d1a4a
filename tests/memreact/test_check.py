"""What `memreact check` answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
from hypothesis import given

from memreact.check import EXIT_BAD, EXIT_GOOD, check, printed
from memreact.effect import without_effect
from memreact.settings import DEFAULT_ORIGIN, FILES, Layer, load_text, settle
from memreact_schemas.config import DEFAULTS, LEFT_ALONE, Config, overlay
from tests.schemas.test_config import configs

MINE = """\
[memcg]
swap = true
period_secs = 30
[[memcg.cgroup]]
path = "a/b/"
numa = [1, 0, 1]
floor_bytes = 2000000
[[memcg.cgroup]]
path = "/init.scope"
disabled = false
[pressure]
system_psi_percent_limit = 12.5
"""


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return str(file)


def warnings_of(text: str) -> list[str]:
    return list(without_effect(overlay(DEFAULTS, load_text(text, "F"))))


def test_only_what_differs_from_the_defaults_is_printed_with_its_origin(tmp_path: Path) -> None:
    mine = write(tmp_path, MINE)
    code, text = check(mine)
    assert code == EXIT_GOOD
    assert text.replace(mine, "F") == (
        "[memcg]\n"
        "swap = true  # F\n"
        "period_secs = 30  # F\n"
        "\n"
        "[[memcg.cgroup]]\n"
        'path = "/init.scope"  # F\n'
        "disabled = false  # F\n"
        "\n"
        "[[memcg.cgroup]]\n"
        'path = "/a/b"  # F\n'
        "numa = [0, 1]  # F\n"
        "floor_bytes = 2000000  # F\n"
        "\n"
        "[pressure]\n"
        "system_psi_percent_limit = 12.5  # F\n"
    )


def test_a_file_that_says_the_defaults_changes_nothing(tmp_path: Path) -> None:
    code, text = check(write(tmp_path, "[memcg]\nswap = false\n"))
    assert (code, text) == (EXIT_GOOD, "# all settings are at their defaults\n")


def test_all_settings_are_printed_when_asked_for(tmp_path: Path) -> None:
    code, text = check(write(tmp_path, MINE), show_all=True)
    assert code == EXIT_GOOD
    shown = tomli.loads(text)
    assert shown["memcg"]["swappiness_max"] == 50
    assert shown["compact"]["compact_force_times"] == 2**64 - 1
    assert shown["compact"]["compact_order"] == "auto"
    assert {entry["path"] for entry in shown["memcg"]["cgroup"]} == {*LEFT_ALONE, "/a/b"}
    assert f"swappiness_max = 50  # {DEFAULT_ORIGIN}\n" in text


def test_a_bad_file_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    mine = write(tmp_path, "[memcg]\nswapp = true\n")
    code, text = check(mine)
    assert code == EXIT_BAD == 2
    assert text.startswith(f"{mine}:2: memcg: found the unknown key")
    assert text.count("\n") == 1


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    assert check(str(tmp_path / "absent.toml"))[0] == EXIT_BAD


def test_the_machines_own_files_are_checked_where_none_is_named(tmp_path: Path) -> None:
    admin = tmp_path / FILES[1].lstrip("/")
    admin.parent.mkdir(parents=True)
    admin.write_text("[memcg]\nperiod_secs = 0\n")
    code, text = check(None, root=str(tmp_path))
    assert code == EXIT_BAD
    assert "period_secs" in text


def test_the_answer_with_its_warnings_is_still_toml(tmp_path: Path) -> None:
    code, text = check(write(tmp_path, "[compact]\ncompact_order = 9\n"))
    assert code == EXIT_GOOD
    assert text.startswith("# warning: compact.compact_order is kept")
    assert tomli.loads(text) == {"compact": {"compact_order": 9}}


def test_a_file_whose_name_has_a_newline_cannot_break_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "a\nb.toml"
    file.write_text("[memcg]\nswap = true\n")
    assert tomli.loads(check(str(file))[1]) == {"memcg": {"swap": True}}


def test_a_path_of_odd_characters_is_written_as_toml_reads_it(tmp_path: Path) -> None:
    odd = '/a b/"q"\\x2d/\t\x1b\x7f/é'
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[memcg.cgroup]]\nswap = true\npath = "/a b/\\"q\\"\\\\x2d/\\t\\u001b\\u007f/é"\n'
    )
    (entry,) = tomli.loads(check(str(mine))[1])["memcg"]["cgroup"]
    assert entry == {"path": odd, "swap": True}


@pytest.mark.parametrize("show_all", [False, True])
@given(config=configs)
def test_what_is_printed_reads_back_as_the_same_settings(config: Config, *, show_all: bool) -> None:
    base = Layer(DEFAULT_ORIGIN, DEFAULTS)
    settings = settle([base, Layer("mine\n", config)])
    again = load_text(printed(settings, show_all=show_all), "printed")
    back = settle([base, Layer("printed", again)])
    assert back.config == settings.config
    assert back.rules == settings.rules


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[memcg]\nswappiness_max = 60", "memcg.swappiness_max has no effect"),
        ("[reclaim]\npercent_per_period = 1", "reclaim.percent_per_period has no effect"),
        ("[compact]\ndisabled = true", "compact.disabled is kept, but"),
        (
            "[[memcg.cgroup]]\npath = '/a'\ndisabled = true\nperiod_secs = 9",
            "memcg.cgroup[/a].period_secs has no effect on a disabled cgroup",
        ),
        (
            "[[memcg.cgroup]]\npath = '/init.scope'\nswap = true",
            "memcg.cgroup[/init.scope].swap has no effect on a disabled cgroup",
        ),
        (
            "[[memcg.cgroup]]\npath = '/a'\nswappiness_max = 60",
            "memcg.cgroup[/a].swappiness_max has no effect while swap = false",
        ),
        ("[[memcg.cgroup]]\npath = '/a'", "memcg.cgroup[/a] says nothing"),
        ("[[memcg.cgroup]]\npath = '/a//b'\nswap = true", "memcg.cgroup[/a//b]: no cgroup has"),
        (
            (
                "[[memcg.cgroup]]\npath = '/a'\nnuma = [1]\nswap = true\n"
                "[[memcg.cgroup]]\npath = '/a'\nnuma = [1, 2]\nswap = true"
            ),
            "memcg.cgroup[/a 1,2]: another entry of this path already speaks of node 1",
        ),
    ],
)
def test_what_is_said_in_vain_is_pointed_out(text: str, warning: str) -> None:
    (found,) = warnings_of(text)
    assert found.startswith(warning)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[memcg]\nswap = true\nswappiness_max = 60",
        "[reclaim]\nwithout_mglru = 'memory.reclaim'\npercent_per_period = 1",
        "[[memcg.cgroup]]\npath = '/a'\nswap = true\nswappiness_max = 60",
        "[memcg]\nswappiness_max = 60\n[[memcg.cgroup]]\npath = '/a'\nswap = true",
        "[memcg]\ndisabled = true\n[[memcg.cgroup]]\npath = '/a'\ndisabled = false\nswap = true",
        "[[memcg.cgroup]]\npath = '/init.scope'\ndisabled = false\nfloor_bytes = 1",
        "[[memcg.cgroup]]\npath = '/a'\nno_subdir = true\ndisabled = true",
    ],
)
def test_what_has_an_effect_is_not_warned_of(text: str) -> None:
    assert warnings_of(text) == []
