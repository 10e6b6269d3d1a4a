"""What a result says of the machine and of the code that it was measured with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from lab.accel import accelerator
from lab.bench.results import Machine
from lab.guest import Guest
from lab.host import run
from lab.kernels import kernel

__all__ = ["commit", "guest_machine", "this_machine"]

_REPOSITORY = Path(__file__).resolve().parents[3]


def this_machine(guest: str = "") -> Machine:
    """This machine now."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_mib=memory_bytes >> 20,
        kernel=platform.release().partition("-")[0],
        load=round(os.getloadavg()[0], 2),
        guest=guest,
    )


def guest_machine(guest: Guest) -> Machine:
    """The same, with a guest on it."""
    options = guest.options
    by = accelerator(kernel(options.kernel))
    return this_machine(
        f"{options.memory_mib} MiB, {options.cpus} processors ({by}), Linux {guest.release}"
    )


def commit() -> str:
    """The commit that this is, with a + if files differ from it; "unknown" outside of git."""
    if not (_REPOSITORY / ".git").exists():
        return "unknown"
    told = run(["git", "-C", str(_REPOSITORY), "rev-parse", "--short=10", "HEAD"], timeout_s=30)
    ours = ["memreact", "kernelio", "schemas", "packaging"]
    status = ["git", "-C", str(_REPOSITORY), "status", "--porcelain", "--", *ours]
    return told.strip() + ("+" if run(status, timeout_s=30) else "")
