"""Real guests, restored from a saved one, with the package installed by apt."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab.agent import Running
from lab.guest import Guest
from lab.kernels import DEFAULT_KERNEL
from lab.machine import MachineOptions
from lab.workload import Cgroup, zram_swap
from tests.system.go_client import begun
from tests.system.service import stopped_for_good

HERE = Path(__file__).parent
_PROGRAMS = HERE / "programs"
_THERE = "/opt/tests"
_ZRAM_MIB = 512
_BY_GO = {
    "test_control.py",
    "test_control_from_host.py",
    "test_settings_sources.py",
    "test_ttrpc_go.py",
}

Decoded = dict[str, object]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that is below this folder: it needs QEMU."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.system)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with what some of the tests wait for."""
    chosen = {item.path.name for item in session.items if item.path.is_relative_to(HERE)}
    if chosen & _BY_GO and not session.config.option.collectonly:
        begun()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests left with `record_property`: they are what people look for."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and report.user_properties
    ]
    if reports:
        terminalreporter.section("figures")
    for report in reports:
        terminalreporter.line(report.nodeid)
        for name, value in report.user_properties:
            terminalreporter.line(f"    {name}: {value}")


class Programs:
    """The programs of this folder, in one guest; they import the installed package.

    Args:
        guest: Where they run.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        guest.put_tree(_PROGRAMS, _THERE)

    def run(self, name: str, *words: str, timeout_s: float = 60) -> Decoded:
        """Run one to its end and decode the JSON that it prints."""
        printed = self.guest.run(self._words(name, words), timeout_s=timeout_s).stdout
        return msgspec.json.decode(printed, type=Decoded)

    def start(self, name: str, *words: str) -> Running:
        """Start one and return at once."""
        return self.guest.start(self._words(name, words))

    @staticmethod
    def _words(name: str, words: tuple[str, ...]) -> list[str]:
        return ["/usr/bin/python3", "-I", f"{_THERE}/{name}.py", *words]


@pytest.fixture(scope="session")
def package() -> Path:
    """The package that `make deb` built."""
    found = glob.glob(os.path.join("dist", "memreact_*.deb"))
    if len(found) != 1:
        raise FileNotFoundError(f"run `make deb` first: dist has {found or 'no memreact_*.deb'}")
    return Path(found[0])


@pytest.fixture(scope="module")
def debian(request: pytest.FixtureRequest, package: Path) -> Iterator[Guest]:
    """A guest with the package installed, its daemon stopped, lru_gen on, and swap on zram.

    Its kernel is 6.12 where the module is not one that `EACH_KERNEL` gives another.
    """
    options = MachineOptions(kernel=getattr(request, "param", DEFAULT_KERNEL))
    with Guest.restore(options, package=package) as guest:
        stopped_for_good(guest)
        guest.run("echo y > /sys/kernel/mm/lru_gen/enabled")  # 6.1 boots with it off
        zram_swap(guest, _ZRAM_MIB)
        yield guest


@pytest.fixture(scope="module")
def programs(debian: Guest) -> Programs:
    """This folder's programs in that guest."""
    return Programs(debian)


@pytest.fixture
def cgroup(debian: Guest) -> Iterator[Cgroup]:
    """An empty cgroup of that guest, gone after the test."""
    made = Cgroup(debian, "/test.slice/one")
    yield made
    made.remove()
