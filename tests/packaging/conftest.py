"""A wheel of this checkout, and the Debian packages made of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import build_deb

ROOT = Path(__file__).parents[2]
MOMENT = 1_760_000_000


Make = Callable[[Path], object]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Make], Path]:
    """Have a folder filled by the first who asks, of all processes that test."""
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent

    def filled(name: str, make: Make) -> Path:
        folder = top / name
        with open(top / f"{name}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                begun = top / f"{name}.begun"
                begun.mkdir(exist_ok=True)
                make(begun)
                begun.rename(folder)
        (file,) = folder.iterdir()
        return file

    return filled


@pytest.fixture(scope="session")
def wheel(once: Callable[[str, Make], Path]) -> Path:
    """A real wheel."""

    def make(folder: Path) -> None:
        command = ["hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )

    return once("wheel", make)


@pytest.fixture(scope="session")
def deb(wheel: Path, once: Callable[[str, Make], Path]) -> Path:
    """The guest's package."""
    (package,) = (each for each in build_deb.PACKAGES if each.name == "memreact")
    return once("deb", lambda into: build_deb.build(package, str(wheel), str(into), moment=MOMENT))


@pytest.fixture(scope="session")
def host_deb(wheel: Path, once: Callable[[str, Make], Path]) -> Path:
    """The host's package."""
    (package,) = (each for each in build_deb.PACKAGES if each.name == "memreact-host")
    return once(
        "host-deb", lambda into: build_deb.build(package, str(wheel), str(into), moment=MOMENT)
    )


@pytest.fixture(scope="session")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the package was unpacked, its control files in DEBIAN."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", deb, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def unpacked_host(host_deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the host's package was unpacked."""
    folder = tmp_path_factory.mktemp("unpacked-host")
    subprocess.run(["dpkg-deb", "--raw-extract", host_deb, folder], check=True)
    return folder
