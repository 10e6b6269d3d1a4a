"""What a guest's memreact answers of swap, on a real socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["GuestDouble"]

Answer = dict[str, Any]


@dataclass
class GuestDouble:
    """A guest that swaps to what it is given.

    Args:
        used: What lies on each disk that it swaps to, bytes, by its serial.
        calls: What it was asked, in this order: the method and the serial.
        refuses: By method, the error that it answers, with its parameters.
        when_asked: Called with each method and serial before it is answered; may raise.
        when_answered: Called with each method before its answer is sent; may raise.
        knows_swap: Whether its memreact is new enough.
    """

    used: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    refuses: dict[str, tuple[str, Answer]] = field(default_factory=dict)
    when_asked: Callable[[str, str], None] = lambda _method, _serial: None
    when_answered: Callable[[str], None] = lambda _method: None
    knows_swap: bool = True

    def __call__(self, stream: socket.socket) -> None:
        """Answer every call of one connection."""
        held = b""
        while chunk := stream.recv(1 << 16):
            held += chunk
            while b"\0" in held:
                frame, _, held = held.partition(b"\0")
                call = msgspec.json.decode(frame)
                answer = msgspec.json.encode(self._answer(call))
                self.when_answered(call["method"].rpartition(".")[2])
                stream.sendall(answer + b"\0")

    def _answer(self, call: Answer) -> Answer:
        method = call["method"].rpartition(".")[2]
        if not self.knows_swap:
            return _error("org.varlink.service.MethodNotFound", method=method)
        serial = call.get("parameters", {}).get("serial", "")
        self.when_asked(method, serial)
        self.calls.append((method, serial))
        if method in self.refuses:
            name, parameters = self.refuses[method]
            return _error(f"io.memreact.{name}", **parameters)
        return getattr(self, f"_{method}")(serial)  # type: ignore[no-any-return]  # one of three

    def _ListSwap(self, _serial: str) -> Answer:  # noqa: N802  # the method's name
        areas = [self._area(serial) for serial in self.used]
        zram = {"path": "/dev/zram0", "kind": "partition", "size_bytes": 9, "used_bytes": 1 << 40}
        areas.append({**zram, "priority": 100})
        return {"parameters": {"areas": areas, "available_bytes": 1 << 30, "kept_bytes": 1}}

    def _AddSwap(self, serial: str) -> Answer:  # noqa: N802  # the same
        if serial in self.used:
            return _error("io.memreact.AlreadySwap", area=self._area(serial))
        self.used[serial] = 0
        took = {"made": True, "waited_us": 1000, "took_us": 20_000}
        return {"parameters": {"area": self._area(serial), **took}}

    def _RemoveSwap(self, serial: str) -> Answer:  # noqa: N802  # the same
        if serial not in self.used:
            return _error("io.memreact.NoSuchSwap", wanted=serial)
        area = self._area(serial)
        del self.used[serial]
        return {"parameters": {"area": area, "took_us": 5}}

    def _area(self, serial: str) -> Answer:
        size, used = 64 << 20, self.used[serial]
        area = {"path": "/dev/vdb", "kind": "partition", "size_bytes": size, "used_bytes": used}
        return {**area, "priority": -2, "serial": serial, "ours": True}


def _error(name: str, **parameters: object) -> Answer:
    return {"error": name, "parameters": parameters}
