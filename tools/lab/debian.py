"""Debian packages by way of the machine's own APT: its mirror, another suite.

Nothing here names a mirror: `apt-get indextargets` tells which one this machine uses, whatever
form its sources are written in.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError
from lab.host import HOST_PACKAGES, cache_dir, run

__all__ = ["KEYRING", "Suite", "mirror", "own_release"]

KEYRING = HOST_PACKAGES["debian-archive-keyring"]


@functools.cache
def mirror() -> str:
    """Base address of the Debian mirror in this machine's APT sources.

    Raises:
        LabError: There is none.
    """
    form = "$(COMPONENT) $(RELEASE) $(REPO_URI)"
    listed = run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], timeout_s=60
    )
    release = own_release()
    for line in listed.splitlines():
        component, suite, address = line.split(" ", 2)
        if component == "main" and suite == release:
            return address
    raise LabError(f"the APT sources of this machine name no Debian mirror with {release} main")


def own_release() -> str:
    """Name of the release of Debian that this machine runs.

    Raises:
        LabError: It is none.
    """
    words = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\w+)$", words, re.MULTILINE)
    if not found:
        raise LabError("/etc/os-release has no VERSION_CODENAME: is this Debian?")
    return found[1]


class Suite:
    """The package lists of one suite, beside the machine's own and without touching them.

    Args:
        name: For example trixie-backports.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._dir = cache_dir() / "apt" / name
        self._source = self._dir / "suite.list"

    def update(self) -> None:
        """Fetch the package lists, a second or two."""
        (self._dir / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        self._source.write_text(f"deb [signed-by={KEYRING}] {mirror()} {self.name} main\n")
        run(["apt-get", *self._options, "-q", "update"], timeout_s=300)

    def newest(self, pattern: str) -> str:
        """Name of the newest package whose whole name matches, by Debian's version order.

        Raises:
            LabError: There is none.
        """
        command = ["apt-cache", *self._options, "search", "--names-only", f"^{pattern}$"]
        names = [line.split(" ", 1)[0] for line in run(command, timeout_s=60).splitlines()]
        if not names:
            raise LabError(f"suite {self.name} has no package {pattern}")
        return max(names, key=version_key)

    def depends(self, package: str) -> tuple[str, ...]:
        """Direct dependencies of a package, by name."""
        command = ["apt-cache", *self._options, "depends", "--important", package]
        words = run(command, timeout_s=60)
        return tuple(re.findall(r"Depends: ([^\s<]+)$", words, re.MULTILINE))

    def unpack(self, packages: Sequence[str], into: Path) -> None:
        """Download packages and unpack them into a folder, without installing them."""
        archives = self._dir / "archives"
        archives.mkdir(exist_ok=True)
        sandbox = ["-o", "APT::Sandbox::User=root"]  # the cache may be closed to the _apt user
        command = ["apt-get", *self._options, *sandbox, "-q", "download", *packages]
        run(command, timeout_s=600, cwd=archives)
        for package in packages:
            for archive in archives.glob(f"{package}_*.deb"):
                run(["dpkg-deb", "-x", str(archive), str(into)], timeout_s=120)
                archive.unlink()

    @property
    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::sourcelist": str(self._source),
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": str(self._dir / "lists"),
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def version_key(name: str) -> tuple[int, ...]:
    """Order package names by the numbers in them."""
    return tuple(int(number) for number in re.findall(r"\d+", name))
