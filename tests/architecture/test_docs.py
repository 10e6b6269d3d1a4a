"""What the documentation names is there, and what can be set is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memreact.__main__ import main
from memreact_schemas.config import DEFAULTS, LEFT_ALONE, CgroupEntry, MemcgKeys

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SETTINGS = (ROOT / "docs/configuration.md").read_text()

LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
# Code is between backticks, or an indented line of which the comment is none.
CODE = re.compile(r"`([^`\n]+)`|^ {4}([^#\n]+)", re.MULTILINE)
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
COMMAND = re.compile(r"(?:^|[\s/])memreact (?!-)([a-z][a-z-]*)((?: +--[a-z]+)*)", re.MULTILINE)
KEY_ROW = re.compile(r"^\| `(\w+)` \|(?: `([^`]+)`)?", re.MULTILINE)


def _code(text: str) -> str:
    """What a reader may type; a paragraph on what is "not there yet" promises nothing."""
    promised = [
        part for part in text.split("\n\n") if "not there yet" not in " ".join(part.split())
    ]
    return "\n".join(inline or line for inline, line in CODE.findall("\n\n".join(promised)))


def _broken_links(page: Path, text: str) -> list[str]:
    return [to for to in LINK.findall(text) if not (page.parent / to).exists()]


def _unknown_targets(text: str) -> list[str]:
    makefile = (ROOT / "Makefile").read_text()
    known = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    return [name for name in MAKE.findall(_code(text)) if name not in known]


def _unknown_commands(text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    unknown = []
    for command, flags in COMMAND.findall(_code(text)):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        said = capsys.readouterr().out
        words = set(re.findall(r"--[a-z]+", said))
        if ended.value.code or not set(flags.split()) <= words:
            unknown.append(f"{command}{flags}")
    return unknown


def _rows(table: str) -> dict[str, str]:
    """Key and default of each row below the heading of a table of settings."""
    for section in SETTINGS.split("\n## ")[1:]:
        if section.startswith((f"{table}\n", f"{table}:")):
            return dict(KEY_ROW.findall(section))
    raise AssertionError(f"no heading for {table}")


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case float():
            return f"{value:g}"
        case _:
            return str(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_every_target_and_every_command_of_a_page_exists(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text()
    assert not _broken_links(page, text)
    assert not _unknown_targets(text)
    assert not _unknown_commands(text, capsys)


def test_the_readme_names_targets_and_commands_at_all() -> None:
    code = _code((ROOT / "README.md").read_text())
    assert MAKE.findall(code)
    assert COMMAND.findall(code)


@pytest.mark.parametrize(
    "table", ["memcg", "compact", "compact_policy", "pressure", "reclaim", "swap", "control", "log"]
)
def test_every_key_of_a_table_is_documented_with_its_default(table: str) -> None:
    values = getattr(DEFAULTS, table)
    keys = [key for key in values.__struct_fields__ if key != "cgroup"]
    assert _rows(f"[{table}]") == {key: _toml(getattr(values, key)) for key in keys}


def test_every_key_that_only_a_cgroup_has_is_documented() -> None:
    own = set(CgroupEntry.__struct_fields__) - set(MemcgKeys.__struct_fields__)
    assert _rows("[[memcg.cgroup]]").keys() == own


def test_every_cgroup_that_is_left_alone_is_documented() -> None:
    names = [path.rpartition("/")[2].removesuffix(".service") for path in LEFT_ALONE]
    assert not [name for name in names if name not in SETTINGS]


@pytest.mark.parametrize("text", ["see [this](no-such-page.md)", "[there](docs/none.md#part)"])
def test_a_broken_link_is_noticed(text: str) -> None:
    assert _broken_links(ROOT / "README.md", text)


def test_an_unknown_target_is_noticed() -> None:
    assert _unknown_targets("run `make tea`, or\n\n    make coffee\n") == ["tea", "coffee"]


@pytest.mark.parametrize("text", ["`memreact dance`", "    /opt/bin/memreact check --none x"])
def test_an_unknown_command_or_flag_is_noticed(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _unknown_commands(text, capsys)
