"""A host's /proc, as far as a look at its virtual machines goes."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Mapped", "process", "smaps"]

Mapped = tuple[int, int, int, int]
"""Size, Rss, Pss and Swap, KiB."""


def smaps(*mappings: Mapped) -> str:
    """As fs/proc/task_mmu.c prints it, of 6.12."""
    lines = []
    for number, (size, rss, pss, swap) in enumerate(mappings):
        begin = 0x7F00_0000_0000 + (number << 40)
        lines += [
            f"{begin:x}-{begin + size * 1024:x} rw-p 00000000 00:00 0                  ",
            f"Size:           {size:8} kB",
            "KernelPageSize:        4 kB",
            "MMUPageSize:           4 kB",
            f"Rss:            {rss:8} kB",
            f"Pss:            {pss:8} kB",
            "Pss_Dirty:             0 kB",
            "Shared_Hugetlb:        0 kB",
            "Private_Hugetlb:       0 kB",
            f"Swap:           {swap:8} kB",
            "SwapPss:               0 kB",
            "THPeligible:           1",
            "VmFlags: rd wr mr mw me dd ac sd hg ",
        ]
    return "\n".join(lines) + "\n"


def process(proc: Path, pid: int, command: list[str], *mappings: Mapped) -> None:
    """Let a process be there."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in command))
    (folder / "smaps").write_text(smaps(*mappings))
