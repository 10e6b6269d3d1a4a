"""pyudev, without the search for its library.

pyudev asks ctypes.util for libudev, which runs ldconfig, and with it come shutil, bz2 and lzma:
0.5 MB of memory that a daemon on somebody else's machine has no use for. The library has had one
name for as long as there is systemd, so that name is tried first.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["find_library", "pyudev"]

_SEARCH = "ctypes.util"


def find_library(name: str) -> str | None:
    """The file name of a shared library, by its first version; None where there is none."""
    soname = f"lib{name}.so.1"
    try:
        ctypes.CDLL(soname)
    except OSError:
        found: str | None = importlib.import_module(_SEARCH).find_library(name)
        return found
    return soname


def _import_pyudev() -> Any:  # noqa: ANN401  # pyudev has no types
    if _SEARCH in sys.modules:
        return importlib.import_module("pyudev")
    stand_in = ModuleType(_SEARCH)
    stand_in.find_library = find_library  # type: ignore[attr-defined]
    sys.modules[_SEARCH] = stand_in
    try:
        return importlib.import_module("pyudev")
    finally:
        del sys.modules[_SEARCH]


pyudev = _import_pyudev()
