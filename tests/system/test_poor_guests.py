"""Guests that lack what memreact needs: it starts, says why it stays idle, and lives on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.guest import Guest
from lab.machine import MachineOptions

NO_PSI = MachineOptions(append="psi=0", balloon=False)
LEGACY = "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
HYBRID = MachineOptions(kernel="6.1", append=LEGACY)


@pytest.mark.parametrize(
    ("options", "idle", "missing"),
    [
        (NO_PSI, "idle: no pressure stall information", ["psi=1", "no virtio balloon"]),
        (HYBRID, "idle: no cgroup v2 memory controller", ["cgroup v1 holds the memory controller"]),
    ],
    ids=["psi=0 and no balloon", "cgroup v1 hybrid"],
)
def test_it_starts_says_what_is_missing_and_stays_alive(
    package: Path, options: MachineOptions, idle: str, missing: list[str]
) -> None:
    with Guest.restore(options, package=package) as guest:
        shown = guest.run(
            "systemctl show -p ActiveState -p StatusText -p NRestarts memreact"
        ).stdout
        assert "ActiveState=active" in shown
        assert "NRestarts=0" in shown
        assert f"StatusText={idle}" in shown
        table = " ".join(guest.run("memreact doctor").stdout.split())
        for words in missing:
            assert words in table
        guest.run("systemctl kill -s HUP memreact && systemctl is-active memreact")
