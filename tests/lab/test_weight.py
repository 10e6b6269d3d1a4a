from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.errors import LabError
from lab.weight import Part, parse_parts, table
from lab.workloads.weigh import own_modules

MIB = 1 << 20


def test_every_set_of_imports_takes_memory_and_the_sets_are_all_of_the_daemons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    # What counts lines would be weighed with the interpreter.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    weighed = subprocess.run(
        [sys.executable, "-m", "lab.workloads.weigh"], check=True, capture_output=True, text=True
    ).stdout
    parts = parse_parts(weighed)
    assert parts[0].name == "the interpreter"
    assert parts[0].anon_bytes > MIB
    assert sum(part.anon_bytes for part in parts) > 2 * parts[0].anon_bytes
    own = {name.split(".")[0] for name in own_modules()}
    assert own == {"kernelio", "memreact", "memreact_schemas"}
    assert sum(part.modules for part in parts[-6:]) <= len(own_modules())


def test_the_table_adds_up_to_what_the_daemon_takes() -> None:
    parts = parse_parts("2048 30 the interpreter\n1024 5 ctypes and re\n")
    assert parts == [Part("the interpreter", 30, 2 * MIB), Part("ctypes and re", 5, MIB)]
    lines = table(parts, 5 * MIB).splitlines()
    assert lines[2:] == [
        "| the interpreter | 30 | 2.00 | 2.00 |",
        "| ctypes and re | 5 | 1.00 | 3.00 |",
        "| threads, loop, sockets and state, half a minute after the start |  | 2.00 | 5.00 |",
    ]


def test_what_weigh_did_not_print_is_refused() -> None:
    with pytest.raises(LabError, match="expected KB MODULES NAME"):
        parse_parts("Traceback (most recent call last):\n")
