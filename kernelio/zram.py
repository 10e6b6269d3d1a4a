"""zram devices: disks of memory that compress what lies on them; made, sized and taken away.

Source: Documentation/admin-guide/blockdev/zram.rst
"""

from __future__ import annotations

import os
import re

from kernelio.block import disk_names
from kernelio.errors import MalformedReading
from kernelio.files import read_bytes, write_bytes
from kernelio.layout import Layout

__all__ = [
    "add_zram",
    "read_algorithm",
    "read_zram_size",
    "remove_zram",
    "size_zram",
    "zram_names",
]

_NAME = re.compile(r"zram\d{1,9}", re.ASCII)
_DIGITS = re.compile(r"(\d{1,20})\n", re.ASCII)
_CHOSEN = re.compile(r"\[([^\]\s]+)\]")
_CONTROL = "class/zram-control"


def zram_names(layout: Layout) -> list[str]:
    """Names of all zram devices, in use or not.

    Raises:
        Unsupported: sysfs does not show disks.
    """
    return [name for name in disk_names(layout) if _NAME.fullmatch(name)]


def read_zram_size(layout: Layout, name: str) -> int:
    """Read the bytes that a device can hold; 0 as long as nobody has said so.

    Raises:
        Vanished: It is gone.
        MalformedReading: It is no number.
    """
    return _number(layout.sys(f"block/{name}/disksize"))


def add_zram(layout: Layout) -> str:
    """Have the kernel make one more device; returns its name.

    Raises:
        Unsupported: zram is not in this kernel, or not loaded.
        MalformedReading: It does not say which.
    """
    # Each read that begins makes another one.
    return f"zram{_number(layout.sys(f'{_CONTROL}/hot_add'), fixed=True)}"


def remove_zram(layout: Layout, name: str) -> None:
    """Take a device away, and what lies on it.

    Raises:
        Refused: Somebody has it open, or swaps to it (EBUSY); or it is gone already (ENODEV).
        Unsupported: zram is not loaded any more.
    """
    number = name.removeprefix("zram").encode()
    write_bytes(layout.sys(f"{_CONTROL}/hot_remove"), number, fixed=True)


def size_zram(layout: Layout, name: str, size_bytes: int, algorithm: str) -> None:
    """Say what a fresh device can hold, and how it compresses.

    Args:
        layout: Where /sys is.
        name: As from `add_zram`.
        size_bytes: Of the pages that it holds, before they are compressed.
        algorithm: By its name; empty leaves it to the kernel.

    Raises:
        Refused: The kernel has no such algorithm (EINVAL), no memory for its table (ENOMEM), or the
            device has a size already (EBUSY).
        Vanished: It is gone.
    """
    if algorithm:  # it can be chosen as long as there is no size
        write_bytes(layout.sys(f"block/{name}/comp_algorithm"), algorithm.encode())
    write_bytes(layout.sys(f"block/{name}/disksize"), b"%d" % size_bytes)


def read_algorithm(layout: Layout, name: str) -> str:
    """Read by which algorithm a device compresses.

    Raises:
        Vanished: It is gone.
        MalformedReading: None of those listed is in brackets.
    """
    path = layout.sys(f"block/{name}/comp_algorithm")
    text = os.fsdecode(read_bytes(path))
    chosen = _CHOSEN.search(text)
    if chosen is None:
        raise MalformedReading(path, text, "algorithms, the chosen one in brackets")
    return chosen[1]


def _number(path: str, *, fixed: bool = False) -> int:
    text = os.fsdecode(read_bytes(path, fixed=fixed))
    number = _DIGITS.fullmatch(text)
    if number is None:
        raise MalformedReading(path, text, "a number")
    return int(number[1])
