"""Finding the readings that real kernels gave, for the tests that run on all of them."""

from __future__ import annotations

import glob
import os

__all__ = ["GOLDEN", "golden_files", "golden_text"]

GOLDEN = os.path.join(os.path.dirname(__file__), "golden")


def golden_files(ending: str) -> list[str]:
    """Recorded files, relative to tests/golden, whose path ends in `ending`; never none."""
    found = sorted(glob.glob(f"**/{ending}", root_dir=GOLDEN, recursive=True))
    if not found:
        raise FileNotFoundError(f"no golden {ending} below {GOLDEN}")
    return found


def golden_text(path: str) -> bytes:
    """What the recorded file holds."""
    with open(os.path.join(GOLDEN, path), "rb") as file:
        return file.read()
