"""A file system that is as small as a test wants it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["small", "small_ext4"]


@contextmanager
def small(folder: Path, **options: int) -> Iterator[Path]:
    """A file system of its own, with so many bytes or inodes."""
    said = ",".join(f"{key}={value}" for key, value in options.items())
    with _mounted(folder, ["-t", "tmpfs", "-o", f"{said},mode=0711", "small"]):
        yield folder


@contextmanager
def small_ext4(folder: Path, size_bytes: int) -> Iterator[Path]:
    """One in a file of holes, on which files can be read past the page cache."""
    image = folder.with_name(f"{folder.name}.ext4")
    image.touch()
    os.truncate(image, size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    with _mounted(folder, ["-o", "loop", str(image)]):
        yield folder


@contextmanager
def _mounted(folder: Path, words: list[str]) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", *words, str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nobody may mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
