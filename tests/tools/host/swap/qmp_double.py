"""A QEMU that has one root port and says what a test wants it to."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from tests.tools.host.qemu_double import GREETING

__all__ = ["Asked", "Port", "error", "event"]

Answer = object
MEMORY = {"base-memory": 1 << 30, "plugged-memory": 1 << 20}


class Asked(msgspec.Struct):
    """A command."""

    execute: str
    arguments: dict[str, object] = {}


def error(text: str, kind: str = "GenericError") -> dict[str, object]:
    """An answer that is a no."""
    return {"error": {"class": kind, "desc": text}}


def event(name: str, device: str | None) -> dict[str, object]:
    """Something that is told unasked."""
    data = {"path": "/somewhere"} if device is None else {"device": device}
    return {"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}}


@dataclass
class Port:
    """Serves one connection after another.

    Args:
        instead: By the command, what is sent for it: each an object, or bytes as they are; None
            hangs up.
        asked: Every command so far.
        once: As `instead`, for the next time alone.
    """

    instead: Mapping[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    once: dict[str, list[Answer]] = field(default_factory=dict)

    def __call__(self, stream: socket.socket) -> None:
        """Serve one connection."""
        _send(stream, GREETING)
        for line in stream.makefile("rb"):
            command = msgspec.json.decode(line, type=Asked)
            self.asked.append(command)
            for answer in self._answers(command):
                if answer is None:
                    return
                _send(stream, answer)

    def named(self, command: str) -> list[dict[str, object]]:
        """What one command was asked with, each time."""
        return [each.arguments for each in self.asked if each.execute == command]

    def _answers(self, command: Asked) -> list[Answer]:
        name = command.execute
        return self.once.pop(name, None) or self.instead.get(name) or [self._answer(command)]

    def _answer(self, command: Asked) -> Answer:
        match command.execute:
            case "query-memory-size-summary":
                return {"return": MEMORY}
            case "query-name":
                return {"return": {"name": "shop"}}
            case "query-named-block-nodes":
                return {"return": []}
            case "qom-list":
                return {"return": _TREE[str(command.arguments["path"])]}
            case "qom-get":
                return {"return": _VALUES[str(command.arguments["property"])]}
            case _:
                return {"return": {}}


_TREE = {
    "/machine/peripheral": [{"name": "rp0", "type": "child<pcie-root-port>"}],
    "/machine/peripheral/rp0": [{"name": "bus0", "type": "child<PCIE>"}],
    "/machine/peripheral/rp0/bus0": [{"name": "realized", "type": "bool"}],
}
_VALUES = {"hotplug": True, "addr": 8, "parent_bus": "/machine/q35/pcie.0"}


def _send(stream: socket.socket, what: object) -> None:
    stream.sendall(what if isinstance(what, bytes) else msgspec.json.encode(what) + b"\r\n")
