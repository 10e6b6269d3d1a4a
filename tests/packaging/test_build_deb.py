from __future__ import annotations

import gzip
import hashlib
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import build_deb
from memreact.unit import UNITS
from memreact_schemas.config import DEFAULTS
from tests.packaging.conftest import MOMENT, ROOT


def _field(deb: Path, name: str) -> str:
    answer = subprocess.run(["dpkg-deb", "--field", deb, name], check=True, capture_output=True)
    return answer.stdout.decode().strip()


def test_the_same_wheel_and_moment_give_the_same_bytes(
    wheel: Path, deb: Path, tmp_path: Path
) -> None:
    umask = os.umask(0o077)
    try:
        again = build_deb.build(build_deb.PACKAGES[0], str(wheel), str(tmp_path), moment=MOMENT)
    finally:
        os.umask(umask)
    assert Path(again).read_bytes() == deb.read_bytes()


def test_another_moment_gives_other_bytes(wheel: Path, deb: Path, tmp_path: Path) -> None:
    other = build_deb.build(build_deb.PACKAGES[0], str(wheel), str(tmp_path), moment=MOMENT + 1)
    assert Path(other).read_bytes() != deb.read_bytes()


def test_the_package_needs_what_the_wheel_needs(deb: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {f"python3 (>= {project['requires-python'].removeprefix('>=')})"}
    for requirement in project["dependencies"]:
        name, floor = requirement.split(">=")
        needed.add(f"python3-{name} (>= {floor})")
    assert set(_field(deb, "Depends").split(", ")) == needed


def test_the_package_runs_on_any_machine(deb: Path) -> None:
    assert _field(deb, "Architecture") == "all"


def test_the_package_carries_every_module_of_the_wheel_but_nothing_of_the_lab(
    unpacked: Path,
) -> None:
    library = unpacked / build_deb.LIBRARY
    sources = (
        ROOT / "memreact",
        ROOT / "kernelio",
        ROOT / "schemas/memreact_schemas",
        ROOT / "tools/memreact_tools",
    )
    expected = {str(path.relative_to(top.parent)) for top in sources for path in top.rglob("*.py")}
    carried = {str(path.relative_to(library)) for path in library.rglob("*.py")}
    assert carried == expected


def test_a_command_ignores_the_environment_and_the_current_folder(unpacked: Path) -> None:
    commands = sorted((unpacked / "usr/bin").iterdir())
    assert commands[0].name == "memreact"
    for command in commands:
        assert command.read_text().startswith("#!/usr/bin/python3 -I\n")
        assert stat.S_IMODE(command.stat().st_mode) == 0o755


def test_a_command_starts_what_the_wheel_starts(wheel: Path, unpacked: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["memreact"].split(":")
    launcher = (unpacked / "usr/bin/memreact").read_text()
    assert f"from {module} import {function}\n" in launcher
    assert f"sys.exit({function}())" in launcher


def test_the_guest_package_brings_a_place_for_settings_and_none_of_them(unpacked: Path) -> None:
    place = unpacked / "etc/memreact/memreact.toml.d"
    assert place.is_dir()
    assert not [each for each in (unpacked / "etc").rglob("*") if each.is_file()]


def test_the_guest_package_brings_the_group_that_may_read(unpacked: Path) -> None:
    rules = (unpacked / "usr/lib/sysusers.d/memreact.conf").read_text().splitlines()
    assert [rule for rule in rules if not rule.startswith("#")] == [f"g {DEFAULTS.control.group} -"]


def test_the_checksums_are_those_of_the_files(unpacked: Path) -> None:
    lines = (unpacked / "DEBIAN/md5sums").read_text().splitlines()
    named = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = {
        str(path.relative_to(unpacked)): hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324  # Debian's format
        for path in unpacked.rglob("*")
        if path.is_file() and path.parent.name != "DEBIAN"
    }
    assert named == found


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_is_a_program_that_the_shell_can_read(
    unpacked: Path, script: str
) -> None:
    path = unpacked / "DEBIAN" / script
    assert os.access(path, os.X_OK)
    assert subprocess.run(["/bin/sh", "-n", path], check=False).returncode == 0


def test_no_placeholder_is_left(unpacked: Path) -> None:
    texts = [path.read_bytes() for path in (unpacked / "DEBIAN").iterdir()]
    texts += [gzip.decompress(path.read_bytes()) for path in unpacked.rglob("*.gz")]
    assert len(texts) >= 7
    assert not [text for text in texts if re.search(rb"@[A-Z_]+@", text)]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("1.0.dev3", "1.0a1"),
        ("1.0a1", "1.0b1"),
        ("1.0b1", "1.0rc1"),
        ("1.0rc1", "1.0"),
        ("1.0", "1.0.1"),
    ],
)
def test_debian_sorts_versions_as_python_does(earlier: str, later: str) -> None:
    pair = (build_deb.debian_version(earlier), build_deb.debian_version(later))
    order = subprocess.run(["dpkg", "--compare-versions", pair[0], "lt", pair[1]], check=False)
    assert order.returncode == 0


def test_a_call_without_a_wheel_tells_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert build_deb.main([]) == 2
    assert "usage: build_deb.py WHEEL FOLDER" in capsys.readouterr().err


def test_the_floors_that_are_tested_are_those_that_the_project_states() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floors = (ROOT / "requirements-floor.txt").read_text().split()
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    stated = [*project["dependencies"], *extras]
    assert floors == sorted(requirement.replace(">=", "==") for requirement in stated)


@pytest.mark.parametrize("name", UNITS)
def test_the_unpacked_package_prints_its_units(unpacked: Path, name: str) -> None:
    program = (
        "import sys; from memreact.unit import unit_text; print(unit_text(sys.argv[1]), end='')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, name],
        env={"PYTHONPATH": str(unpacked / build_deb.LIBRARY)},
        cwd=unpacked,
        check=True,
        capture_output=True,
    )
    assert answer.stdout == (unpacked / "usr/lib/systemd/system" / name).read_bytes()
