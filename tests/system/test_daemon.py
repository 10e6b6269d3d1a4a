"""The installed service, as apt left it, on each kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest
from lab.kernels import DEFAULT_KERNEL
from lab.machine import MachineOptions
from tests.system.rungs import SECOND_KERNEL, USUAL, backends, examined, kernels
from tests.system.service import stopped_for_good, wait_put_back

ENABLED = "/sys/kernel/mm/lru_gen/enabled"
BOOTED_WITH = Path(__file__).parents[1] / "golden"


@pytest.fixture(params=kernels(DEFAULT_KERNEL, SECOND_KERNEL))
def installed(request: pytest.FixtureRequest, package: Path) -> Iterator[Guest]:
    """A guest of each kernel with the package installed and nothing else done."""
    with Guest.restore(MachineOptions(kernel=request.param), package) as guest:
        yield guest


def test_installing_the_package_starts_the_service(installed: Guest) -> None:
    assert installed.run("systemctl is-active memreact.service").stdout == "active\n"
    assert installed.run("systemctl is-enabled memreact.service").stdout == "enabled\n"
    assert installed.run(["cat", ENABLED]).stdout == "0x0007\n"


def test_doctor_finds_all_that_eviction_and_return_need(installed: Guest) -> None:
    table = installed.run("memreact doctor").stdout
    assert "memreact can work here." in table
    assert "Freed memory can go back to the host." in table


def test_every_kernel_stands_on_the_same_rungs_of_the_capability_ladder(installed: Guest) -> None:
    report = examined(installed)
    can = report.capabilities
    assert can.kernel == installed.release
    assert backends(report) == USUAL
    assert (can.mglru, can.psi, can.memory_reclaim) == ("on", "privileged", True)
    assert (can.page_reporting, can.reporting_order, can.compaction) == (True, 9, True)
    assert report.idle_because is None
    assert report.reaches_host


def test_a_stop_is_clean_and_puts_back_what_was_switched_on(installed: Guest) -> None:
    stopped_for_good(installed)
    result = installed.run("systemctl show -p Result -p ExecMainStatus --value memreact").stdout
    assert result.split() == ["success", "0"]
    assert installed.run(["cat", ENABLED]).stdout == _booted_with(installed)


@pytest.mark.parametrize("installed", [DEFAULT_KERNEL], indirect=True)
def test_a_restart_and_a_crash_put_nothing_back_and_a_removal_does(installed: Guest) -> None:
    installed.run("systemctl restart memreact.service")
    assert installed.run(["cat", ENABLED]).stdout == "0x0007\n"
    crashed = installed.run("systemctl show -p MainPID --value memreact").stdout.strip()
    again = '[ "$(systemctl show -p NRestarts --value memreact)" = 1 ]'
    active = "systemctl is-active -q memreact.service"
    installed.run(
        f"kill -KILL {crashed}; timeout 60 sh -c 'until {again} && {active}; do sleep 0.2; done'"
    )
    assert installed.run(["cat", ENABLED]).stdout == "0x0007\n"
    installed.run("apt-get -y remove memreact", timeout_s=120)
    wait_put_back(installed)
    assert installed.run(["cat", ENABLED]).stdout == _booted_with(installed)


def _booted_with(installed: Guest) -> str:
    return (BOOTED_WITH / installed.options.kernel / ENABLED.lstrip("/")).read_text()
