"""A wheel of this checkout, and the Debian packages made of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import build_deb

ROOT = Path(__file__).parents[2]
MOMENT = 1_760_000_000


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def deb(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's package."""
    folder = tmp_path_factory.mktemp("deb")
    (package,) = (each for each in build_deb.PACKAGES if each.name == "memreact")
    return Path(build_deb.build(package, str(wheel), str(folder), moment=MOMENT))


@pytest.fixture(scope="session")
def host_deb(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's package."""
    folder = tmp_path_factory.mktemp("host-deb")
    (package,) = (each for each in build_deb.PACKAGES if each.name == "memreact-host")
    return Path(build_deb.build(package, str(wheel), str(folder), moment=MOMENT))


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
