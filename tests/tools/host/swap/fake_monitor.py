"""A monitor that keeps its disks in a list."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from memreact_tools.host.swap.monitor import Disk
from memreact_tools.host.swap.trouble import StillHeld, SwapTrouble

__all__ = ["FakeMonitor"]


@dataclass
class FakeMonitor:
    """This process, as the monitor of a guest.

    Args:
        memory: What the guest has, bytes.
        there: Its disks.
        when_adding: Called before a disk is added; may raise.
        holds: Whether the guest lets nothing go.
        direct: How the last disk was added.
        silent: Whether it does not say what disks it has.
    """

    memory: int = 1 << 30
    there: list[Disk] = field(default_factory=list)
    when_adding: Callable[[], None] = lambda: None
    holds: bool = False
    direct: bool | None = None
    silent: bool = False

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    @property
    def called(self) -> str:
        """The guest's name."""
        return "shop"

    def memory_bytes(self) -> int:
        """Return what the guest has."""
        return self.memory

    def disks(self) -> list[Disk]:
        """Return its disks."""
        if self.silent:
            raise SwapTrouble("no answer")
        return list(self.there)

    def add(self, name: str, path: str, *, direct: bool) -> None:
        """Add one."""
        self.when_adding()
        self.direct = direct
        self.there.append(Disk(name, path, os.stat(path).st_size, "01/00"))

    def remove(self, name: str) -> None:
        """Remove one."""
        if self.holds:
            raise StillHeld("not yet")
        self.there = [disk for disk in self.there if disk.name != name]
