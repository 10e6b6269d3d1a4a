"""What the daemon imports, every guest pays for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
AS_RUN = """\
import os
from memreact._lean import leave_out_tls
leave_out_tls(os.environ)
import memreact.process, uvloop
"""
HEAVY = {
    "_ssl",
    "email",
    "http",
    "importlib.metadata",
    "json",
    "multiprocessing",
    "pathlib",
    "pyroute2.iproute",
    "pyroute2.ndb",
    "rich",
    "sqlite3",
    "textual",
    "unittest",
    "urllib.request",
    "xml",
}
# 330 of them: a new dependency is a decision, not an accident.
MODULES_LIMIT = 345


def _loaded(program: str) -> set[str]:
    folders = os.pathsep.join((str(ROOT), str(ROOT / "schemas"), str(ROOT / "tools")))
    answer = subprocess.run(
        [sys.executable, "-c", program + "\nimport sys\nprint(*sys.modules)"],
        env={"PYTHONPATH": folders, "PATH": os.defpath},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(answer.stdout.split())


def test_the_daemon_loads_nothing_heavy() -> None:
    # msgspec 0.19, Debian 13's, reads its own version by way of json.
    allowed = {"json"} if msgspec.__version__.startswith("0.19") else set()
    assert _loaded(AS_RUN) & HEAVY <= allowed


def test_the_daemon_loads_few_modules() -> None:
    loaded = _loaded(AS_RUN)
    assert "memreact.policy" in loaded
    assert len(loaded) <= MODULES_LIMIT


def test_the_daemon_loads_nothing_of_the_tools() -> None:
    assert not [name for name in _loaded(AS_RUN) if name.split(".")[0] in {"memreact_tools", "lab"}]


def test_what_tells_metrics_is_loaded_when_somebody_asks() -> None:
    loaded = _loaded(AS_RUN)
    assert "memreact.telemetry.measures" in loaded  # which counts
    later = {
        "memreact.control.scrape",
        "memreact.own_cost",
        "memreact.telemetry.families",
        "memreact.telemetry.metrics",
        "memreact_schemas.openmetrics",
    }
    assert not loaded & later


@pytest.mark.parametrize("module", ["json", "pathlib", "sqlite3"])
def test_a_heavy_module_is_noticed(module: str) -> None:
    assert module in _loaded(f"import {module}") & HEAVY


def test_what_speaks_with_callers_is_loaded_for_the_first_one() -> None:
    loaded = _loaded(AS_RUN)
    assert "memreact.control.listening" in loaded
    later = {
        "memreact.control.answering",
        "memreact.control.service",
        "memreact.control.ttrpc",
        "memreact.control.varlink",
        "memreact_schemas.agent",
        "memreact_schemas.control",
        "memreact_schemas.protobuf",
        "memreact_schemas.varlink",
    }
    assert not loaded & later


@pytest.mark.parametrize(("words", "parsed"), [(["run"], False), (["run", "--config", "x"], True)])
def test_the_words_of_the_unit_load_no_parser(words: list[str], *, parsed: bool) -> None:
    start = f"""
import memreact.process
memreact.process.run = lambda *_, **__: 0
from memreact.__main__ import main
main({words})
"""
    assert ("argparse" in _loaded(start)) is parsed
