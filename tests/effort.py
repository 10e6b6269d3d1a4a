"""How much a test tries: everything, unless MEMREACT_TESTS=quick says that somebody waits.

Then of the examples of random input a third, and whole daemons on uvloop alone, which is the loop
that they have. `make floor` tries everything.
"""

from __future__ import annotations

import os

__all__ = ["DAEMONS_LOOPS", "examples"]

_QUICK = os.environ.get("MEMREACT_TESTS") == "quick"

DAEMONS_LOOPS = ("uvloop",) if _QUICK else ("uvloop", "asyncio")
"""The loops on which whole daemons are started, by their names on the command line."""


def examples(many: int = 100) -> int:
    """So many, or a third."""
    return many // 3 if _QUICK else many
