from __future__ import annotations

import subprocess
import sys

import pytest

from kernelio.udev import find_library

_SAY_WHAT_CAME = """
import sys
import kernelio.udev
kernelio.udev.pyudev.Context()
print(*sys.modules)
import ctypes.util
print(ctypes.util.find_library is kernelio.udev.find_library)
"""
_AFTER_THE_SEARCH = """
import ctypes.util
import kernelio.udev
print(sys.modules["pyudev._ctypeslib.utils"].find_library is ctypes.util.find_library)
"""


def _run(program: str) -> list[str]:
    command = [sys.executable, "-c", "import sys\n" + program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_library_is_found_without_a_search_and_the_search_stays_python_s() -> None:
    came, same = _run(_SAY_WHAT_CAME)
    assert "pyudev" in came.split()
    assert not {"ctypes.util", "shutil", "tempfile", "lzma"} & set(came.split())
    assert same == "False"


def test_a_search_that_is_loaded_already_is_used() -> None:
    assert _run(_AFTER_THE_SEARCH) == ["True"]


@pytest.mark.parametrize(("name", "found"), [("udev", "libudev.so.1"), ("no-such", None)])
def test_a_library_is_there_or_not(name: str, found: str | None) -> None:
    assert find_library(name) == found


def test_one_of_another_version_is_searched_for() -> None:
    found = find_library("c")
    assert found is not None
    assert found.startswith("libc.")
