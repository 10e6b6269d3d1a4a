"""The import contracts of pyproject.toml hold, and would notice if they did not."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("memreact", "kernelio", "schemas/memreact_schemas", "tools/memreact_tools")

# What the tools may know of the daemon: the vocabulary and the decisions, for replay and what-if.
OPEN_TO_TOOLS = ("memreact.actions", "memreact.events", "memreact.policy", "memreact.rules")


def _copy(checkout: Path) -> Path:
    """Copy what the contracts speak of."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, checkout / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    return checkout


def _file(checkout: Path, module: str) -> Path:
    """Return where a module lies in a copy."""
    (top,) = (each for each in PACKAGES if module.startswith(each.split("/")[-1] + "."))
    return (checkout / top).parent / (module.replace(".", "/") + ".py")


def _lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    folders = (checkout, checkout / "schemas", checkout / "tools")
    path = os.pathsep.join(str(folder) for folder in folders)
    program = os.path.join(os.path.dirname(sys.executable), "lint-imports")
    return subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
        check=False,
        capture_output=True,
        text=True,
    )


def test_the_code_as_it_stands_keeps_every_contract(tmp_path: Path) -> None:
    verdict = _lint(_copy(tmp_path))
    assert verdict.returncode == 0, verdict.stdout


PLANTED = (
    ("kernelio.planted", "memreact.rules"),
    ("kernelio.planted", "memreact_schemas"),
    ("kernelio.planted", "asyncio"),
    ("memreact.events", "memreact_tools.planted"),
    ("memreact.policy.planted", "kernelio.files"),
    ("memreact.policy.planted", "memreact.daemon"),
    ("memreact.policy.planted", "memreact.settings.planted"),
    ("memreact.policy.planted", "os"),
    ("memreact.policy.planted", "time"),
    ("memreact.reactor", "memreact.sources.planted"),
    ("memreact.sources.planted", "memreact.actuator.worker"),
    ("memreact.telemetry.planted", "memreact.sources.planted"),
    ("memreact_schemas.planted", "kernelio.files"),
    ("memreact_schemas.planted", "os"),
)


@pytest.fixture(scope="module")
def verdict_on_planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said about a copy in which every import above was planted."""
    checkout = _copy(tmp_path_factory.mktemp("planted"))
    for importer, imported in PLANTED:
        for name in (importer, imported):
            if name.endswith(".planted"):
                _file(checkout, name).touch()
        with _file(checkout, importer).open("a") as file:
            file.write(f"\nimport {imported}\n")
    verdict = _lint(checkout)
    assert verdict.returncode == 1
    return verdict.stdout


@pytest.mark.parametrize(("importer", "imported"), PLANTED)
def test_a_forbidden_import_is_noticed(
    verdict_on_planted: str, importer: str, imported: str
) -> None:
    assert re.search(rf"\b{importer} -> {imported}\b", verdict_on_planted)


def test_the_tools_know_only_the_vocabulary_of_the_daemon() -> None:
    assert not [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "tools/memreact_tools").rglob("*.py")
        for name in _imported(path.read_text())
        if name.split(".")[0] == "memreact" and not _open(name)
    ]


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("from memreact import events", True),
        ("from memreact.policy.step import step", True),
        ("import memreact.rules", True),
        ("from memreact import daemon", False),
        ("import memreact", False),
        ("from memreact.policies import step", False),
        ("def late():\n    from memreact.actuator import kick", False),
    ],
)
def test_which_imports_the_tools_may_write(line: str, *, known: bool) -> None:
    assert all(_open(name) for name in _imported(line)) == known


def _open(name: str) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in OPEN_TO_TOOLS)


def _imported(text: str) -> list[str]:
    """Return the dotted names that a module imports, wherever in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import():
                names += [each.name for each in node.names]
            case ast.ImportFrom(module=str(module), level=0):
                names += [f"{module}.{each.name}" for each in node.names]
    return names
