"""What was booted, and how: the boot's id, the kernel's release, its command line, its lockdown."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from kernelio.errors import MalformedReading, Unsupported, Vanished
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = [
    "KernelRelease",
    "parse_cmdline",
    "parse_lockdown",
    "parse_release",
    "read_boot_id",
    "read_cmdline",
    "read_lockdown",
    "read_release",
]

_RELEASE = re.compile(r"(\d{1,5})\.(\d{1,5})(?:\D.*)?", re.ASCII)
_BOOT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CHOSEN = re.compile(r"\[([a-z]+)\]")
# A word ends at a blank that is not between double quotes.
_WORD = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')


class KernelRelease(NamedTuple):
    """A kernel's version, to compare, and its whole name, to show."""

    major: int
    minor: int
    text: str

    def is_at_least(self, major: int, minor: int) -> bool:
        """Whether it is this version or a later one."""
        return (self.major, self.minor) >= (major, minor)


def parse_release(text: str, path: str) -> KernelRelease:
    """Read "6.12.0-1-amd64" and the like.

    Raises:
        MalformedReading: It does not begin with two numbers.
    """
    line = text.strip()
    parts = _RELEASE.fullmatch(line)
    if parts is None:
        raise MalformedReading(path, line, "a release such as 6.12.0-1-amd64")
    return KernelRelease(int(parts[1]), int(parts[2]), line)


def read_release(layout: Layout) -> KernelRelease:
    """The running kernel's release, as `uname -r` prints it.

    Raises:
        MalformedReading: As for parsing.
    """
    path = layout.proc("sys/kernel/osrelease")
    return parse_release(os.fsdecode(read_bytes(path)), path)


def read_boot_id(layout: Layout) -> str:
    """A UUID that every boot draws anew; a clone of a running guest keeps it.

    Raises:
        MalformedReading: Not a UUID.
    """
    path = layout.proc("sys/kernel/random/boot_id")
    text = os.fsdecode(read_bytes(path)).strip()
    if _BOOT_ID.fullmatch(text) is None:
        raise MalformedReading(path, text, "a UUID")
    return text


def parse_cmdline(text: str) -> tuple[str, ...]:
    """Split the command line as the kernel does: at blanks, but not between double quotes.

    The quotes themselves are dropped. Every text is a command line.

    Source: lib/cmdline.c, next_arg()
    """
    return tuple(word.replace('"', "") for word in _WORD.findall(text))


def read_cmdline(layout: Layout) -> tuple[str, ...]:
    """The words of the kernel command line."""
    return parse_cmdline(os.fsdecode(read_bytes(layout.proc("cmdline"))))


def parse_lockdown(text: str, path: str) -> str:
    """Read which of "[none] integrity confidentiality" is chosen.

    Raises:
        MalformedReading: None of them is in brackets.
    """
    chosen = _CHOSEN.search(text)
    if chosen is None:
        raise MalformedReading(path, text, "one word in brackets")
    return chosen[1]


def read_lockdown(layout: Layout) -> str | None:
    """The lockdown mode; None where the kernel has none or securityfs is not mounted.

    Any other than "none" closes the multi-gen LRU's debugfs file, for reading too.

    Raises:
        MalformedReading: As for parsing.

    Source: fs/debugfs/file.c, debugfs_locked_down()
    """
    path = layout.sys("kernel/security/lockdown")
    try:
        return parse_lockdown(os.fsdecode(read_bytes(path)), path)
    except (Unsupported, Vanished):
        return None
