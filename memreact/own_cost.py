"""What memreact itself takes of the guest: CPU, memory, wake-ups."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.process import MemoryCost, memory_cost

__all__ = ["OwnCost", "read_own_cost"]


class OwnCost(NamedTuple):
    """Of this process since its start, and of the children that it has waited for.

    Args:
        user_s: Seconds on a CPU in its own code.
        system_s: Seconds in the kernel, where evictions are carried out.
        children_user_s: The same of children, which compact.
        children_system_s: The same.
        wakeups: How often one of its threads gave the CPU up by itself, to be woken later.
        memory: What it takes; None where that cannot be read.
    """

    user_s: float
    system_s: float
    children_user_s: float
    children_system_s: float
    wakeups: int
    memory: MemoryCost | None


def read_own_cost(layout: Layout, memory: MemoryCost | None = None) -> OwnCost:
    """Read it: one file, and what the kernel counts for us anyway.

    Args:
        layout: Where the kernel shows its files.
        memory: What that file said just now; None to read it.

    Source: getrusage(2)
    """
    import resource  # noqa: PLC0415  # only where somebody asks

    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    if memory is None:
        with suppress(KernelioError):  # its metrics are left out
            memory = memory_cost(layout=layout)
    return OwnCost(
        own.ru_utime, own.ru_stime, children.ru_utime, children.ru_stime, own.ru_nvcsw, memory
    )
