"""What docs/security.md says holds: its tests are there, its exceptions are those of the unit."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import metadata
from itertools import chain
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
UNIT = ROOT / "packaging/memreact.service"
_LISTED = re.compile(r"^✗ (\S+)", re.MULTILINE)


@pytest.mark.parametrize(("page", "more_than"), [("security", 30), ("swap", 20)])
def test_every_test_that_is_named_is_there(page: str, more_than: int) -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", (ROOT / f"docs/{page}.md").read_text()))
    assert len(named) > more_than
    assert not named - there


def test_every_capability_of_the_service_is_explained() -> None:
    (granted,) = re.findall(r"^CapabilityBoundingSet=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert not [name for name in granted.split() if name not in PAGE]


def test_every_dependency_has_its_licence_on_the_page() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = (names for names in project["optional-dependencies"].values())
    needed = [*project["dependencies"], *chain.from_iterable(optional)]
    rows = {row.split(" | ")[0].strip("| "): row for row in PAGE.splitlines() if row[:2] == "| "}
    for name in (requirement.partition(">=")[0] for requirement in needed):
        told = _licence_of(name)
        assert told
        assert [word for word in told if word in rows[name]], (name, told)


def _licence_of(name: str) -> set[str]:
    """Names of a distribution's licences, as it tells them itself."""
    told = metadata(name)
    names = re.split(r" OR | AND ", " OR ".join(told.get_all("License-Expression") or ()))
    for classifier in told.get_all("Classifier") or ():
        if classifier.startswith("License :: OSI Approved :: "):
            names.append(_AS_SPDX[classifier.rpartition(" :: ")[2]])
    return {*names} - {""}


_AS_SPDX = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.1-or-later",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_every_exception_that_systemd_lists_is_explained() -> None:
    command = ["systemd-analyze", "security", "--offline=true", str(UNIT)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    if "unrecognized option" in said.stderr:
        pytest.skip("this systemd looks at running services alone")
    listed = _LISTED.findall(said.stdout)
    assert listed, said.stderr
    page = PAGE.replace("\\|", "|")
    assert not [name for name in listed if f"`{name}`" not in page]
