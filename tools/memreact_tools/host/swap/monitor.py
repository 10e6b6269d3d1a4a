"""What is asked of a virtual machine's monitor, whichever it is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from memreact_tools.host.swap.sizing import is_swap_name

__all__ = ["MARK", "Disk", "Monitor", "is_ours"]

# Serial and identifier of each disk begin so: in the guest nothing else is taken for swap of ours.
MARK = "memreact-"


def is_ours(identifier: str) -> bool:
    """Say whether a disk was made for swap: the mark, and behind it the name of a swap file.

    A monitor may have been taken over by its guest: what else it puts behind the mark, as a path
    out of the guest's folder, names no file.
    """
    return identifier.startswith(MARK) and is_swap_name(identifier.removeprefix(MARK))


class Disk(NamedTuple):
    """A disk that was made for swap.

    Args:
        name: Of its file, without the mark.
        path: Of its file on the host.
        size_bytes: What the guest sees.
        pci_path: Slots from the root bus to it, two hexadecimal digits each, as Kata's agent is
            told; empty where it is not known.
        plugged: Whether the guest has it; one that is half made or half removed it has not.
        failed: Reads and writes of the guest's that the host could not do, where the monitor counts
            them.
    """

    name: str
    path: str
    size_bytes: int
    pci_path: str = ""
    plugged: bool = True
    failed: int = 0


class Monitor(Protocol):
    """A virtual machine's monitor, as far as swap goes.

    Every call ends within a limit of time, and raises SwapTrouble where it could not be done.
    """

    @property
    def pid(self) -> int:
        """The process that runs the guest."""

    @property
    def called(self) -> str:
        """How the guest is called; may be empty."""

    def memory_bytes(self) -> int:
        """Return what memory the guest has now."""

    def disks(self) -> list[Disk]:
        """Return the disks that were made for swap, by whomever; none that `is_ours` denies."""

    def add(self, name: str, path: str, *, direct: bool) -> None:
        """Give the guest a file as a disk; where that fails nothing is left of it.

        Args:
            name: What it is called, without the mark.
            path: Of the file.
            direct: Whether to pass the host's page cache by.
        """

    def remove(self, name: str) -> None:
        """Take a disk away, whatever of it there is.

        Raises:
            StillHeld: The guest has not let it go within the time.
        """
