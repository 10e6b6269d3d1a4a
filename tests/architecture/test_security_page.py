"""What docs/security.md says holds: its tests are there, its exceptions are those of the unit."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
UNIT = ROOT / "packaging/memreact.service"
_LISTED = re.compile(r"^✗ (\S+)", re.MULTILINE)


def test_every_test_that_is_named_is_there() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 30
    assert not named - there


def test_every_capability_of_the_service_is_explained() -> None:
    (granted,) = re.findall(r"^CapabilityBoundingSet=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert not [name for name in granted.split() if name not in PAGE]


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
