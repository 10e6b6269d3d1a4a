from __future__ import annotations

import re

import pytest

from memreact.systemd import puts_back_for_us
from memreact.unit import UNITS, unit_text
from tests.packaging.conftest import ROOT


def _values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit_text(), re.MULTILINE)


@pytest.mark.parametrize("name", UNITS)
def test_a_checkout_prints_the_unit_that_it_would_install(name: str) -> None:
    assert unit_text(name) == (ROOT / "packaging" / name).read_text()


def test_an_older_systemd_reloads_by_a_signal() -> None:
    older = unit_text(systemd=252)
    assert "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n" in older
    assert "notify-reload" not in older


def test_the_guests_own_devices_are_opened_where_systemd_can() -> None:
    assert _values("OpenFile") == ["/dev:dev:read-only,graceful"]
    assert "OpenFile=" not in unit_text(systemd=252)


def test_every_capability_says_what_needs_it() -> None:
    (granted,) = _values("CapabilityBoundingSet")
    explained = re.findall(r"^# (CAP_[A-Z_]+): \S", unit_text(), re.MULTILINE)
    assert granted.split() == explained


def test_no_capability_comes_in_by_another_door() -> None:
    assert _values("AmbientCapabilities") == [""]
    assert _values("NoNewPrivileges") == ["yes"]


def test_the_unit_starts_the_command_that_the_package_installs() -> None:
    assert _values("ExecStart") == ["/usr/bin/memreact run"]


def test_what_is_put_back_is_put_back_after_the_final_stop_only() -> None:
    keeper = unit_text("memreact-put-back.service")
    for key in ("Wants", "After"):
        assert "memreact-put-back.service" in _values(key)[0].split()
    assert "StopWhenUnneeded=yes\n" in keeper
    assert "ExecStop=/usr/bin/memreact put-back\n" in keeper


def test_what_is_put_back_is_no_neighbour_of_the_services_whose_stalls_end_it() -> None:
    assert f"Slice={_values('Slice')[0]}\n" in unit_text("memreact-put-back.service")


def test_the_record_is_still_there_when_it_is_put_back() -> None:
    keeper = unit_text("memreact-put-back.service")
    assert _values("RuntimeDirectoryPreserve") == ["yes"]
    assert f"RuntimeDirectory={_values('RuntimeDirectory')[0]}\n" in keeper
    assert "RuntimeDirectoryPreserve" not in keeper


def test_the_daemon_knows_that_a_unit_puts_back_for_it() -> None:
    assert _values("Environment") == ["MEMREACT_PUT_BACK=unit"]
    name, _, value = _values("Environment")[0].partition("=")
    assert puts_back_for_us({name: value})


def test_no_number_of_failures_ends_it_for_good() -> None:
    assert _values("StartLimitIntervalSec") == ["0"]
    assert _values("StartLimitBurst") == []
    assert _values("Restart") == ["on-failure"]
    assert int(_values("RestartSteps")[0]) > 1
    assert _values("RestartMaxDelaySec") == ["10min"]


def test_no_setting_is_written_twice() -> None:
    keys = re.findall(r"^([A-Za-z]+)=", unit_text(), re.MULTILINE)
    twice = {key for key in keys if keys.count(key) > 1}
    # What is allowed, and then what of it is not; and a kind of device on each line.
    assert twice == {"SystemCallFilter", "DeviceAllow"}
