"""What docs/extending.md says to type is typed, in a copy of the code, and does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/extending.md").read_text()
FOLDERS = ("memreact", "kernelio", "schemas", "tests", "docs")
FILE = re.compile(r"^```python\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHANGE = re.compile(r"^```diff\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _run(checkout: Path, *words: str, stdin: str = "") -> str:
    path = os.pathsep.join((str(checkout), str(checkout / "schemas")))
    said = subprocess.run(
        words,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": path},
        input=stdin,
        check=False,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the change")
def test_a_new_pressure_source_is_what_the_page_says(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "golden", "system")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    files = dict(FILE.findall(PAGE))
    assert len(files) == 2
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (change,) = CHANGE.findall(PAGE)
    _run(tmp_path, "git", "apply", "--unsafe-paths", "-p1", "-", stdin=change)
    (test,) = (name for name in files if name.startswith("tests/"))
    asked = [test, "tests/architecture/test_journal.py"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    said = _run(tmp_path, *pytest, "--import-mode=importlib", "-c", os.devnull, *asked)
    assert "passed" in said
