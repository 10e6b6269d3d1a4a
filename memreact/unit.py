"""The systemd units that this version of memreact wants to be run by."""

from __future__ import annotations

import os

__all__ = ["COMMAND", "UNITS", "unit_text"]

UNITS = ("memreact.service", "memreact-put-back.service")
COMMAND = "/usr/bin/memreact"
"""Where the Debian package has the command, and what the files say."""


_RELOADS = "Type=notify-reload\n"
_RELOADS_SINCE = 253
_OPENS = "OpenFile=/dev:dev:read-only,graceful\n"  # of the same version
_RELOADS_BY_SIGNAL = "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n"


def unit_text(
    name: str = UNITS[0], command: str = COMMAND, *, systemd: int = _RELOADS_SINCE
) -> str:
    """Return a unit file, of a wheel, a Debian package or a checkout alike.

    Args:
        name: One of `UNITS`: the daemon, or what puts back its changes after its final stop.
        command: The absolute path of `memreact` in this installation.
        systemd: The version that it is for; older ones know neither
            notify-reload nor OpenFile.

    Raises:
        FileNotFoundError: This installation carries no units.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, name)
    checkout = os.path.join(os.path.dirname(package), "packaging", name)
    with open(installed if os.path.exists(installed) else checkout, encoding="utf-8") as unit:
        text = unit.read().replace(f"={COMMAND} ", f"={command} ")
    if systemd >= _RELOADS_SINCE:
        return text
    return text.replace(_RELOADS, _RELOADS_BY_SIGNAL).replace(_OPENS, "")
