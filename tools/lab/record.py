"""Golden samples: what real kernels print, for the parsers' tests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from lab.guest import Guest
from lab.host import remove

__all__ = ["record"]

_RECORDER = Path(__file__).parent / "workloads" / "record.py"


def record(guest: Guest, folder: Path) -> list[str]:
    """Fill a folder with the guest's kernel files and return their names.

    Args:
        guest: Its swap and some cgroups are changed.
        folder: tests/golden/<kernel>; what it held before is removed.
    """
    guest.put(_RECORDER, "/run/record.py")
    guest.run(["python3", "/run/record.py", "/run/golden.tar"], timeout_s=180)
    packed = guest.get("/run/golden.tar")
    remove(folder)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
        return sorted(archive.getnames())
