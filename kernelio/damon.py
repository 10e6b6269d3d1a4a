"""DAMON, the kernel's own finder of cold memory: whether it works for somebody on this guest."""

from __future__ import annotations

import os
from typing import NamedTuple

from kernelio.errors import KernelioError
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = ["DamonUse", "reclaimer"]


class DamonUse(NamedTuple):
    """Who lets DAMON run.

    Args:
        reclaim: DAMON_RECLAIM is on: it evicts cold memory.
        kdamonds: Numbers of the monitors switched on in sysfs; its schemes say what each does.
    """

    reclaim: bool
    kdamonds: tuple[int, ...]


def reclaimer(layout: Layout) -> DamonUse:
    """Look for DAMON at work; what this kernel does not have does not work.

    Source: Documentation/admin-guide/mm/damon/reclaim.rst, usage.rst
    """
    enabled = layout.sys("module/damon_reclaim/parameters/enabled")
    directory = layout.sys("kernel/mm/damon/admin/kdamonds")
    try:
        numbers = sorted(int(name) for name in os.listdir(directory) if name.isdecimal())
    except OSError:
        numbers = []
    return DamonUse(
        reclaim=_says(enabled, b"Y"),
        kdamonds=tuple(n for n in numbers if _says(f"{directory}/{n}/state", b"on")),
    )


def _says(path: str, word: bytes) -> bool:
    try:
        return read_bytes(path).strip() == word
    except KernelioError:
        return False
