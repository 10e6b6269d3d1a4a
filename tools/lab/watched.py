"""`make watched`: whether to be looked at makes the stop later, in a real guest.

The same interruptions without a flight recorder, with it, and with a memreact-top on top of that,
which runs on this machine. They go there and back, so that a guest that changes with time favours
none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from lab.guest import Guest
from lab.hybrid import Bridge
from lab.latency import MEMORY_MIB, interruptions
from lab.latency_figures import Row, rows_of, table, voids
from lab.machine import MachineOptions
from lab.terminal import attached_top
from lab.workload import Line
from memreact_schemas.control import PORT
from memreact_tools.address import Address, UnixAddress

__all__ = ["Watching", "rows_by_watching", "watched"]

_KINDS = ("same",)
_FLIGHT = "/etc/memreact/memreact.toml.d/flight.toml"


class Watching(NamedTuple):
    """Who looks.

    Args:
        name: For the table.
        flight_kib: Of the flight recorder; 0 is none.
        top: Whether a memreact-top is attached.
    """

    name: str
    flight_kib: int
    top: bool


WATCHINGS = (
    Watching("nobody", 0, top=False),
    Watching("flight recorder", 512, top=False),
    Watching("that and memreact-top", 512, top=True),
)


def watched(package: Path, rounds: int) -> int:
    """Interrupt evictions, watched and not, and print the table; 0.

    Args:
        package: To measure.
        rounds: Interruptions for each way to watch; half of them on the way back.

    Raises:
        LabError: The guest or the daemon failed.
    """
    lines: dict[str, list[Line]] = {each.name: [] for each in WATCHINGS}
    options = MachineOptions(memory_mib=MEMORY_MIB)
    with Guest.restore(options, package) as guest, Bridge(guest) as bridge:
        address = UnixAddress(str(bridge.path), PORT)
        for each, count in _there_and_back(rounds):
            print(f"{count} interruptions, watched by: {each.name}", flush=True)
            lines[each.name] += _interrupted(guest, address, each, count)
            print(table(rows_by_watching(lines)), flush=True)
    print(voids(line for told in lines.values() for line in told))
    return 0


def rows_by_watching(lines: Mapping[str, Sequence[Line]]) -> list[Row]:
    """The rows of each way to watch, side by side."""
    rows = [(name, row) for name, told in lines.items() for row in rows_of(told)]
    rows.sort(key=lambda each: each[1].name)
    return [Row(f"{row.name}; {name}", row.values) for name, row in rows]


def _there_and_back(rounds: int) -> Iterator[tuple[Watching, int]]:
    there = (rounds + 1) // 2
    yield from ((each, there) for each in WATCHINGS)
    yield from ((each, rounds - there) for each in reversed(WATCHINGS) if rounds > there)


def _interrupted(guest: Guest, address: Address, watching: Watching, rounds: int) -> list[Line]:
    guest.run(f"mkdir -p {os.path.dirname(_FLIGHT)}")
    guest.put_bytes(f"[log]\nflight_kib = {watching.flight_kib}\n".encode(), _FLIGHT)
    with ExitStack() as stack:
        if watching.top:
            stack.enter_context(attached_top(address))
        return interruptions(guest, rounds, _KINDS)
