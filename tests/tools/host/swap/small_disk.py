"""A file system that is as small as a test wants it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["small"]


@contextmanager
def small(folder: Path, **options: int) -> Iterator[Path]:
    """A file system of its own, with so many bytes or inodes."""
    folder.mkdir()
    said = ",".join(f"{key}={value}" for key, value in options.items())
    mount = ["mount", "-t", "tmpfs", "-o", f"{said},mode=0711", "small", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nobody may mount here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
