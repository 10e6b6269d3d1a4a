"""The installed service, as apt left it, on each kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest
from lab.kernels import KERNELS
from lab.machine import MachineOptions

ENABLED = "/sys/kernel/mm/lru_gen/enabled"
BOOTED_WITH = Path(__file__).parents[1] / "golden"


@pytest.fixture(params=KERNELS)
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


def test_a_stop_is_clean_and_puts_back_what_was_switched_on(installed: Guest) -> None:
    installed.run("systemctl stop memreact.service")
    # systemd lets the unit that puts back go by itself, once nobody needs it any more.
    gone = '[ "$(systemctl is-active memreact-put-back.service)" = inactive ]'
    installed.run(f"timeout 30 sh -c 'until {gone}; do sleep 0.2; done'")
    result = installed.run("systemctl show -p Result -p ExecMainStatus --value memreact").stdout
    assert result.split() == ["success", "0"]
    golden = BOOTED_WITH / installed.options.kernel / ENABLED.lstrip("/")
    assert installed.run(["cat", ENABLED]).stdout == golden.read_text()
