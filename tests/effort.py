"""How much a test tries: everything, unless MEMREACT_TESTS=quick says that somebody waits.

Then of the examples of random input a tenth, and whole daemons on uvloop alone, which is the loop
that they have. `make floor` tries everything.

MEMREACT_STOPPED_SECS=60 keeps a tool that a test stops in a real guest's face so for a minute.
"""

from __future__ import annotations

import os

__all__ = ["DAEMONS_LOOPS", "STOPPED_S", "examples"]

_QUICK = os.environ.get("MEMREACT_TESTS") == "quick"

DAEMONS_LOOPS = ("uvloop",) if _QUICK else ("uvloop", "asyncio")
"""The loops on which whole daemons are started, by their names on the command line."""

STOPPED_S = float(os.environ.get("MEMREACT_STOPPED_SECS", "0"))
"""For how long a process that is stopped stays so at least; a condition alone unless said."""


def examples(many: int = 100) -> int:
    """So many, or a tenth, of which there is always one."""
    return max(1, many // 10) if _QUICK else many
