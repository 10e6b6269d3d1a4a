"""The import contracts of pyproject.toml hold, and would notice if they did not."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("memreact", "kernelio", "schemas/memreact_schemas", "tools/memreact_tools")

# What the tools may know of the daemon: the vocabulary and the decisions, for replay and what-if.
OPEN_TO_TOOLS = ("memreact.actions", "memreact.events", "memreact.policy", "memreact.rules")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the contracts speak of."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


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


def test_the_code_as_it_stands_keeps_every_contract(checkout: Path) -> None:
    verdict = _lint(checkout)
    assert verdict.returncode == 0, verdict.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("kernelio/planted.py", "import memreact"),
        ("kernelio/planted.py", "import memreact_schemas"),
        ("kernelio/planted.py", "import asyncio"),
        ("schemas/memreact_schemas/planted.py", "import kernelio"),
        ("schemas/memreact_schemas/planted.py", "import os"),
        ("memreact/planted.py", "import memreact_tools"),
        ("memreact/telemetry/planted.py", "import memreact.sources"),
        ("memreact/policy/planted.py", "import memreact.daemon"),
        ("memreact/policy/planted.py", "import time"),
        ("memreact/policy/planted.py", "import os"),
        ("memreact/policy/planted.py", "from kernelio import files"),
    ],
)
def test_a_forbidden_import_is_noticed(checkout: Path, file: str, line: str) -> None:
    (checkout / file).write_text(line + "\n")
    verdict = _lint(checkout)
    assert verdict.returncode == 1
    assert "BROKEN" in verdict.stdout
    assert "planted" in verdict.stdout


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
