"""What a close look at one memcg tells, whoever reads it and whoever explains by it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kernelio.memcg import Protection
from kernelio.psi import Pressure
from memreact.events import Inspection
from memreact_schemas.status import CgroupLimits, Delays

__all__ = ["CloseLook", "Waited"]


class Waited(NamedTuple):
    """What the processes of a memcg and of all below it waited.

    Args:
        total: Since each of them began; None where nothing is counted.
        since_last_look: Since somebody looked last; None at the first time.
        missing: Why it is not all, or nothing.
    """

    total: Delays | None = None
    since_last_look: Delays | None = None
    missing: str | None = None


class CloseLook(NamedTuple):
    """One memcg as it is now; None, each, where it could not be read.

    Args:
        saw: What an eviction looks at.
        stall_us: Its own stall totals, memory and io, without what is below it.
        memory: What the kernel says of memory pressure, with all below it.
        io: The same of io.
        keeps: memory.min and memory.low of it and of each one above it, by path.
        limits: What it uses and may use.
        waited: What its processes waited.
    """

    saw: Inspection | None = None
    stall_us: tuple[int, int] | None = None
    memory: Pressure | None = None
    io: Pressure | None = None
    keeps: Mapping[str, Protection] = MappingProxyType({})
    limits: CgroupLimits | None = None
    waited: Waited = Waited()
