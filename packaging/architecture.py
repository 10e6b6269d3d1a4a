"""Draw the rooms of memreact from the imports of its code: `architecture.py` prints the picture.

docs/architecture.md has it between two marks, and a test holds the page to the code: whoever adds
a module says here in which room it stands, and whoever adds a way between rooms draws it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby

import grimp

__all__ = ["BEGIN", "END", "FLOORS", "PACKAGES", "Room", "drawn", "picture", "room_of", "ways"]

PACKAGES = ("memreact", "kernelio", "memreact_schemas", "memreact_tools")
BEGIN, END = "<!-- drawn by packaging/architecture.py: begin -->", "<!-- drawn: end -->"

Room = str

# From the street door down to the ground; a room holds the modules that are named, and all below.
FLOORS: Mapping[str, Mapping[Room, tuple[str, ...]]] = {
    "what people run": {
        "top": ("memreact_tools.top",),
        "ctl": ("memreact_tools.ctl",),
        "host": ("memreact_tools.host",),
        "report": ("memreact_tools.report",),
        "of all tools": (
            "memreact_tools",
            "memreact_tools.address",
            "memreact_tools.deadline",
            "memreact_tools.decoding",
            "memreact_tools.plain",
            "memreact_tools.vsock_bridge",
        ),
    },
    "the daemon": {
        "command line": ("memreact.__main__", "memreact.check"),
        "wiring": (
            "memreact.daemon",
            "memreact.process",
            "memreact.put_back",
            "memreact.shown",
            "memreact.swaps",
            "memreact.zram_tier",
        ),
        "control": ("memreact.control",),
        "replay": ("memreact.replay",),
        "hands": (
            "memreact.bookkeeper",
            "memreact.disturbances",
            "memreact.ground",
            "memreact.hands",
            "memreact.harm",
            "memreact.prospects",
            "memreact.recording",
        ),
        "reactor": ("memreact.reactor",),
        "telemetry": ("memreact.telemetry",),
        "actuator": ("memreact.actuator",),
        "sources": ("memreact.sources",),
        "doctor": ("memreact.capabilities", "memreact.doctor", "memreact.prove"),
        "own process": (
            "memreact",
            "memreact._lean",
            "memreact.garbage",
            "memreact.gate",
            "memreact.mailbox",
            "memreact.own_cost",
            "memreact.run_dir",
            "memreact.systemd",
            "memreact.unit",
        ),
    },
    "what decides": {
        "policy": ("memreact.policy",),
        "settings": ("memreact.settings",),
        "vocabulary": (
            "memreact.account",
            "memreact.actions",
            "memreact.close_look",
            "memreact.events",
            "memreact.rules",
            "memreact.swap_trouble",
            "memreact.value",
        ),
    },
    "the ground": {"kernelio": ("kernelio",), "schemas": ("memreact_schemas",)},
}

# Rooms that have no face of their own, in one sentence.
_WORDS = {
    "of all tools": "Addresses, deadlines and lines that the tools share.",
    "command line": "What `memreact` itself is asked: run, check, doctor, replay, unit.",
    "wiring": "The whole daemon put together from its parts, and what is shown of it.",
    "hands": "Actions carried out, what came of them written down, and read what for.",
    "doctor": "What this guest can do, what is missing, and whether memory reaches the host.",
    "own process": "The gate, the mailbox, what outlives a restart, systemd's ear, the own cost.",
    "vocabulary": "Events, actions, rules: frozen values that are recorded as they are.",
}
_ROOM = {name: room for rooms in FLOORS.values() for room, held in rooms.items() for name in held}
_ALONE = ("memreact", "memreact_tools")  # their own faces alone, not all below them


def room_of(module: str) -> Room:
    """Say in which room a module stands.

    Raises:
        LookupError: In none yet: FLOORS has to name it.
    """
    name = module
    while name:
        if name in _ROOM and (name == module or name not in _ALONE):
            return _ROOM[name]
        name = name.rpartition(".")[0]
    raise LookupError(f"{module} stands in no room of packaging/architecture.py")


def ways(graph: grimp.ImportGraph) -> dict[Room, set[Room]]:
    """List which rooms each room imports from."""
    found: dict[Room, set[Room]] = {room: set() for rooms in FLOORS.values() for room in rooms}
    for module in graph.modules:
        here = room_of(module)
        there = {room_of(name) for name in graph.find_modules_directly_imported_by(module)}
        found[here] |= there - {here}
    return found


def drawn(found: Mapping[Room, set[Room]]) -> Iterator[tuple[Room, Room]]:
    """Leave out an arrow where a longer way says the same already."""
    for room, others in found.items():
        for other in sorted(others):
            if not any(other in _below(found, via) for via in others - {other}):
                yield room, other


def _below(found: Mapping[Room, set[Room]], room: Room) -> set[Room]:
    seen: set[Room] = set()
    ahead = [room]
    while ahead:
        new = found[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def picture(graph: grimp.ImportGraph) -> str:
    """Draw the rooms as a Mermaid flowchart, and list what each is for and stands on."""
    found = ways(graph)
    return "\n".join((BEGIN, "", "```mermaid", *_chart(found), "```", "", *_table(found), "", END))


def _chart(found: Mapping[Room, set[Room]]) -> Iterator[str]:
    yield "flowchart TD"
    for number, (floor, rooms) in enumerate(FLOORS.items()):
        yield f'    subgraph floor{number}["{floor}"]'
        yield from (f'        {_id(room)}["{room}"]' for room in rooms)
        yield "    end"
    for room, arrows in groupby(drawn(found), key=lambda arrow: arrow[0]):
        yield f"    {_id(room)} --> {' & '.join(_id(other) for _, other in arrows)}"


def _table(found: Mapping[Room, set[Room]]) -> Iterator[str]:
    yield "| room | what it is for | imports from |"
    yield "|---|---|---|"
    for rooms in FLOORS.values():
        for room, held in rooms.items():
            others = [
                other for others in FLOORS.values() for other in others if other in found[room]
            ]
            words = _WORDS.get(room) or _face(held[0])
            yield f"| {room} | {words} | {', '.join(others) or 'nothing'} |"


def _face(package: str) -> str:
    """Give the first sentence of a package's own words."""
    words = inspect.getdoc(importlib.import_module(package)) or ""
    return " ".join(words.partition("\n\n")[0].split())


def _id(room: Room) -> str:
    return room.replace(" ", "_")


def main() -> None:
    """Print the picture."""
    sys.stdout.write(picture(grimp.build_graph(*PACKAGES)) + "\n")


if __name__ == "__main__":
    main()
