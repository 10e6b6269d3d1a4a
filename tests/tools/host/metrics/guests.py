"""Guests that tell metrics: the daemon's own text, served as the daemon serves it or worse."""

from __future__ import annotations

import socket
import threading

from memreact.telemetry.measures import Measures
from memreact.telemetry.metrics import Exporter, Seen
from tests.memreact.telemetry.test_metrics import AROUND, COST
from tests.memreact.telemetry.test_status import COLD, NOW, RULES, memcg_of, node_of, state_of
from tests.tools.servers import Serve

__all__ = ["answers", "hangs", "says", "text_of"]


def text_of(*paths: str) -> str:
    """What a guest with these cgroups tells."""
    state = state_of(*(memcg_of(path, node_of(*COLD)) for path in paths))
    seen = Seen(state, RULES, NOW, AROUND, Measures(), COST, 100)
    return "".join(Exporter().tell(seen))


def says(said: bytes) -> Serve:
    """Answer any request with these bytes."""

    def serve(stream: socket.socket) -> None:
        heard = b""
        while b"\r\n\r\n" not in heard:
            data = stream.recv(4096)
            if not data:
                return
            heard += data
        stream.sendall(said)

    return serve


def answers(text: str, status: str = "200 OK") -> Serve:
    """Answer as a guest does."""
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return says(head.encode() + body)


def hangs(until: threading.Event) -> Serve:
    """Take the request, and say nothing until the test is over."""

    def serve(_: socket.socket) -> None:
        until.wait(20)

    return serve
