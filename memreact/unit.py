"""The systemd unit that this version of memreact wants to be run by."""

from __future__ import annotations

import os

__all__ = ["unit_text"]

_NAME = "memreact.service"


def unit_text() -> str:
    """Return the unit file, of a wheel, a Debian package or a checkout alike.

    Raises:
        FileNotFoundError: This installation carries no unit.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, _NAME)
    checkout = os.path.join(os.path.dirname(package), "packaging", _NAME)
    with open(installed if os.path.exists(installed) else checkout, encoding="utf-8") as unit:
        return unit.read()
