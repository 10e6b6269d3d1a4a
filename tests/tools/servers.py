"""Doubles of what the tools talk to: servers on real sockets, each in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["TIMEOUT_S", "Serve", "monitor", "serving"]

TIMEOUT_S = 20.0

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(path: Path | str, serve: Serve) -> Iterator[None]:
    """Listen at `path` and hand every connection to `serve`, one thread each."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    name = str(path)
    listener.bind("\0" + name[1:] if name.startswith("@") else name)
    listener.listen(64)
    threads: list[threading.Thread] = []
    accepting = threading.Thread(target=_accept, args=(listener, serve, threads))
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(TIMEOUT_S)
        listener.close()
        for thread in threads:
            thread.join(TIMEOUT_S)


def _accept(listener: socket.socket, serve: Serve, threads: list[threading.Thread]) -> None:
    while True:
        try:
            stream, _ = listener.accept()
        except OSError:
            return
        stream.settimeout(TIMEOUT_S)
        thread = threading.Thread(target=_serve, args=(stream, serve))
        threads.append(thread)
        thread.start()


def _serve(stream: socket.socket, serve: Serve) -> None:
    with stream, contextlib.suppress(ConnectionError):
        serve(stream)


def monitor(serve: Serve, port: int, *, refusals: int = 0) -> Serve:
    """Speak as a guest's monitor does, then as the guest.

    Args:
        serve: The guest's side of the connection.
        port: The only one that somebody listens on.
        refusals: Connections that are closed first, as while a guest boots.
    """
    left = [refusals]

    def speak(stream: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n"):
            byte = stream.recv(1)
            if not byte:
                return
            line += byte
        if left[0] > 0 or line != b"CONNECT %d\n" % port:
            left[0] -= 1
            return
        stream.sendall(b"OK 1073741824\n")
        serve(stream)

    return speak
