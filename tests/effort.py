"""How many examples a test of random input tries.

All of them, unless MEMREACT_TESTS=quick says that somebody waits: then a third. The examples are
the same in every run, so the quick ones are among those that `make floor` tries as well.
"""

from __future__ import annotations

import os

__all__ = ["examples"]

_QUICK = os.environ.get("MEMREACT_TESTS") == "quick"


def examples(many: int = 100) -> int:
    """So many, or a third."""
    return many // 3 if _QUICK else many
