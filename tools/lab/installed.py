"""memreact.service as its package installs it: its settings, and what it says of itself."""

from __future__ import annotations

import os

import msgspec

from lab.guest import Guest
from memreact_schemas.control import StatusAnswer
from memreact_schemas.status import Status

__all__ = ["SETTINGS", "Installed"]

_UNIT = "memreact.service"
SETTINGS = "/etc/memreact/memreact.toml"
_DROP_IN = f"/etc/systemd/system/{_UNIT}.d/trace.conf"
_TRACED = "[Service]\nExecStart=\nExecStart=/usr/bin/memreact run --trace {}\n"


class Installed:
    """The service of one guest.

    Args:
        guest: Where the package is installed.
        trace: A file in the guest for every event and decision; empty for none.
    """

    def __init__(self, guest: Guest, trace: str = "") -> None:
        self._guest = guest
        guest.run(f"mkdir -p {os.path.dirname(SETTINGS)} {os.path.dirname(_DROP_IN)}")
        if trace:
            guest.put_bytes(_TRACED.format(trace).encode(), _DROP_IN)
            guest.run("systemctl daemon-reload")

    def start(self, settings: str) -> None:
        """Start it anew with these settings."""
        self._guest.put_bytes(settings.encode(), SETTINGS)
        self._guest.run(f"systemctl restart {_UNIT}")

    def stop(self) -> None:
        """Stop it, if it runs."""
        self._guest.run(f"systemctl stop {_UNIT}")

    def status(self) -> Status:
        """Ask it where the memory is, and what it does."""
        words = ["/usr/bin/memreact-ctl", "--json", "status", "--ledger"]
        told = self._guest.run(words, timeout_s=60).stdout
        return msgspec.json.decode(told, type=StatusAnswer).status

    def cpu_us(self) -> int:
        """Processor time of its cgroup since it was started."""
        words = ["systemctl", "show", "-p", "CPUUsageNSec", "--value", _UNIT]
        told = self._guest.run(words).stdout.strip()
        return int(told) // 1000 if told.isdigit() else 0
