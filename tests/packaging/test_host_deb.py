from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import build_deb
from memreact_tools.ctl.command_line import parser
from memreact_tools.ctl.verbs import VERBS
from tests.packaging.conftest import ROOT

HOST = "/usr/share/memreact-host"
FORCE = "--force-not-root,depends,script-chrootless"


def _depends(deb: Path) -> set[str]:
    answer = subprocess.run(
        ["dpkg-deb", "--field", deb, "Depends"], check=True, capture_output=True, text=True
    )
    return set(answer.stdout.strip().split(", "))


def test_a_host_needs_less_than_a_guest(host_deb: Path, deb: Path) -> None:
    needed = {re.split(r"[ >]", each)[0] for each in _depends(host_deb)}
    assert needed == {"python3", "python3-msgspec", "python3-tomli"}
    assert _depends(host_deb) < _depends(deb)


def test_everything_that_a_host_imports_is_carried_or_depended_on(unpacked_host: Path) -> None:
    library = unpacked_host / HOST[1:]
    own = {folder.name for folder in library.iterdir()}
    text = "\n".join(path.read_text() for path in library.rglob("*.py"))
    imported = set(re.findall(r"^ *(?:from|import) (\w+)", text, re.MULTILINE))
    elsewhere = imported - own - set(sys.stdlib_module_names)
    assert own == {"memreact_schemas", "memreact_tools"}
    # What is only recommended, memreact-top does without: it prints then. A report is drawn where
    # matplotlib is there.
    assert elsewhere == {"msgspec", "tomli", "rich", "textual", "matplotlib"}


@pytest.mark.parametrize("command", ["memreact-ctl", "memreact-host"])
def test_a_command_of_the_host_finds_its_modules(unpacked_host: Path, command: str) -> None:
    launcher = (unpacked_host / "usr/bin" / command).read_text()
    assert launcher.startswith("#!/usr/bin/python3 -I\n")
    moved = launcher.replace(HOST, f"{unpacked_host}{HOST}")
    assert moved != launcher
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    start = f"import sys\nsys.path += {libraries}\nsys.argv = ['x', '--help']\n{moved}"
    answer = subprocess.run(
        [sys.executable, "-I", "-c", start],
        cwd=unpacked_host,
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"usage: {command} " in answer.stdout


def test_rules_and_dashboard_for_others_are_among_the_examples(unpacked_host: Path) -> None:
    examples = unpacked_host / "usr/share/doc/memreact-host/examples"
    for name in ("alerts.yml", "dashboard.json"):
        assert (examples / name).read_bytes() == (ROOT / "packaging/metrics" / name).read_bytes()


def _dpkg(root: Path, *words: str | Path) -> None:
    subprocess.run(["dpkg", f"--root={root}", FORCE, *words], check=True, stdout=subprocess.DEVNULL)


def _files(root: Path) -> set[str]:
    """The files below /usr."""
    return {str(path.relative_to(root)) for path in (root / "usr").rglob("*") if path.is_file()}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine without a package."""
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").touch()
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.mark.parametrize("guest_first", [True, False])
def test_a_machine_can_have_both_packages_and_lose_the_hosts_again(
    machine: Path, deb: Path, host_deb: Path, *, guest_first: bool
) -> None:
    for package in (deb, host_deb) if guest_first else (host_deb, deb):
        _dpkg(machine, "--unpack", package)
    both = _files(machine)
    assert {"usr/bin/memreact-ctl", "usr/bin/memreact-ctl.memreact", "usr/bin/memreact"} <= both
    assert HOST in (machine / "usr/bin/memreact-ctl").read_text()
    _dpkg(machine, "--remove", "memreact-host")
    assert HOST not in (machine / "usr/bin/memreact-ctl").read_text()
    assert not [name for name in _files(machine) if name.endswith(".memreact")]


def test_a_host_alone_has_its_commands(machine: Path, host_deb: Path) -> None:
    _dpkg(machine, "--unpack", host_deb)
    commands = {path.name for path in (machine / "usr/bin").iterdir()}
    assert {"memreact-ctl", "memreact-host"} <= commands
    assert not [name for name in commands if name.endswith(".memreact")]


def test_every_file_that_both_packages_have_steps_aside(
    unpacked: Path, unpacked_host: Path
) -> None:
    documents = re.compile(r"usr/share/doc/")
    both = {name for name in _files(unpacked) & _files(unpacked_host) if not documents.match(name)}
    (package,) = (each for each in build_deb.PACKAGES if each.name == "memreact-host")
    assert both == {name for name in package.shared if (unpacked_host / name).exists()}
    script = (unpacked_host / "DEBIAN/preinst").read_text()
    assert all(f"/{name}" in script for name in both)


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm"])
def test_a_script_of_the_host_is_a_program_that_the_shell_can_read(
    unpacked_host: Path, script: str
) -> None:
    path = unpacked_host / "DEBIAN" / script
    assert os.access(path, os.X_OK)
    assert "@" not in path.read_text()
    assert subprocess.run(["/bin/sh", "-n", path], check=False).returncode == 0


def test_every_command_has_a_manual_page(unpacked: Path, unpacked_host: Path) -> None:
    for folder in (unpacked, unpacked_host):
        for command in (folder / "usr/bin").iterdir():
            pages = list((folder / "usr/share/man").rglob(f"{command.name}.[18].gz"))
            assert pages, command.name


def test_every_console_script_is_packaged() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    packaged = {command for package in build_deb.PACKAGES for command in package.commands}
    assert set(scripts) <= packaged


def test_the_manual_page_names_every_verb_and_every_option() -> None:
    page = (ROOT / "packaging/memreact-ctl.1").read_text().replace("\\-", "-")
    assert not [verb for verb in [*VERBS, "connect"] if verb.split()[-1] not in page]
    options = re.findall(r"--[a-z-]+", parser().format_help())
    assert "--address" in options
    assert not [option for option in options if option not in page and option != "--help"]
