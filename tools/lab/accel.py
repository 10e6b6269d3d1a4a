"""Whether KVM really works here, found out by booting a kernel under it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from lab.errors import LabError
from lab.host import cache_dir, run
from lab.kernels import Kernel

__all__ = ["accelerator"]

_PROBE_S = 8.0


def accelerator(boot: Kernel) -> str:
    """Return "kvm" or "tcg"; the probe runs once per boot of the host.

    $MEMREACT_LAB_ACCEL, when set, decides instead.
    """
    if chosen := os.environ.get("MEMREACT_LAB_ACCEL"):
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    remembered = cache_dir() / "accelerator"
    if remembered.exists():
        probed_at, _, answer = remembered.read_text().partition(" ")
        if probed_at == boot_id:
            return answer
    answer = "kvm" if _kvm_boots(boot) else "tcg"
    remembered.write_text(f"{boot_id} {answer}")
    return answer


def _kvm_boots(boot: Kernel) -> bool:
    """Some hosts have /dev/kvm and hang, or fail, as soon as a real kernel runs in it."""
    with tempfile.TemporaryDirectory() as folder:
        console = Path(folder) / "console"
        command = [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host"),
            *("-m", "256", "-nodefaults", "-display", "none", "-no-reboot"),
            *("-kernel", str(boot.image), "-initrd", str(boot.initrd)),
            *("-append", "console=ttyS0 panic=-1 lab.probe", "-serial", f"file:{console}"),
        ]
        with contextlib.suppress(LabError):  # what it printed until then decides
            run(["setpriv", "--pdeathsig", "KILL", *command], timeout_s=_PROBE_S)
        return console.exists() and b"lab-probe-answers" in console.read_bytes()
