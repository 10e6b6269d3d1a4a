"""QEMU's own socket, as far as a look at a machine goes."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

__all__ = ["GREETING", "QemuDouble"]

GREETING = {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}


@dataclass
class QemuDouble:
    """Answers commands after the handshake.

    Args:
        answers: By the command; what is not there is an error.
        greeting: What it says first; nothing where another client has the socket.
    """

    answers: Mapping[str, object] = field(default_factory=dict)
    greeting: object = field(default_factory=lambda: GREETING)

    def __call__(self, stream: socket.socket) -> None:
        """Serve one connection."""
        if self.greeting is not None:
            _send(stream, self.greeting)
        for line in stream.makefile("rb"):
            command = msgspec.json.decode(line, type=dict[str, str])["execute"]
            _send(stream, {"event": "RTC_CHANGE", "data": {"offset": 0}})
            if command == "qmp_capabilities":
                _send(stream, {"return": {}})
            elif command in self.answers:
                _send(stream, {"return": self.answers[command]})
            else:
                _send(stream, {"error": {"class": "CommandNotFound", "desc": "none such"}})


def _send(stream: socket.socket, what: object) -> None:
    data = what if isinstance(what, bytes) else msgspec.json.encode(what) + b"\r\n"
    stream.sendall(data)
