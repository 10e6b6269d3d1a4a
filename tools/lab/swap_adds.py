"""How long a guest takes from the disk that is plugged in to swap that is in use."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab.errors import LabError
from lab.guest import Guest
from lab.hybrid import Bridge
from lab.latency_figures import percentile
from memreact_schemas.control import PORT
from memreact_tools.address import parse_address
from memreact_tools.host.swap.inside import Inside
from memreact_tools.host.swap.monitor import MARK
from memreact_tools.host.swap.qemu import QemuMonitor, open_qemu

__all__ = ["Taken", "adds", "as_text"]

AIM_US = 300_000
_NAME, _BYTES = "swap0", 1 << 30
_TIMEOUT_S = 60.0
_SETTINGS = b"[control]\nallow_guest = true\n"


class Taken(NamedTuple):
    """One disk.

    Args:
        host_us: From before device_add to the answer of AddSwap, on the host's clock.
        waited_us: Of that, what the guest waited for the disk after it was asked.
        guest_us: From when the guest was asked until swapon was done.
    """

    host_us: int
    waited_us: int
    guest_us: int


def adds(package: Path, folder: Path, count: int) -> int:
    """Plug a disk in and take it into use so many times; 0 if the middle one was quick enough.

    Args:
        package: The .deb to install in the guest.
        folder: For the host's file.
        count: How often.

    Raises:
        LabError: The guest failed.
    """
    file = folder / _NAME
    with Guest.restore(package=package) as guest, Bridge(guest) as bridge:
        guest.run("mkdir -p /etc/memreact")
        guest.put_bytes(_SETTINGS, "/etc/memreact/memreact.toml")
        guest.run("systemctl restart memreact.service")
        inside = Inside(parse_address(f"hvsock:{bridge.path}:{PORT}"), _TIMEOUT_S)
        with guest.lend_qmp() as qmp, open_qemu(qmp, timeout_s=_TIMEOUT_S) as monitor:
            taken = [_once(guest, monitor, inside, file) for _ in range(count)]
    print(as_text(taken))
    return 0 if percentile([each.host_us for each in taken], 50) < AIM_US else 1


def _once(guest: Guest, monitor: QemuMonitor, inside: Inside, file: Path) -> Taken:
    file.touch()
    os.truncate(file, _BYTES)
    _settle(guest, inside)
    began = time.monotonic_ns()
    monitor.add(_NAME, str(file), direct=True)
    added = inside.take(MARK + _NAME)
    took_us = (time.monotonic_ns() - began) // 1000
    if added is None:
        raise LabError("the guest swapped to the disk before it was asked")
    inside.give_back(MARK + _NAME)
    monitor.remove(_NAME)
    file.unlink()
    return Taken(took_us, added.waited_us, added.took_us)


def _settle(guest: Guest, inside: Inside) -> None:
    """Let the guest be done with the disk before: it was taken away a moment ago."""
    guest.run("udevadm settle")
    inside.areas()


def as_text(taken: Sequence[Taken]) -> str:
    """The middle one, the quickest and the slowest, of each length of time."""
    names = ("device_add to swapon done", "of it, waited for", "asked to swapon done")
    lines = [f"swap: {len(taken)} disks, ms: p50, least, most"]
    for name, values in zip(names, zip(*taken, strict=True), strict=True):
        figures = (percentile(values, 50), min(values), max(values))
        lines.append(f"  {name:26}" + "".join(f"{each / 1000:8.0f}" for each in figures))
    return "\n".join(lines)
