"""Serves what is gathered to those of this machine: one round of all guests for each scrape."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer, ThreadingMixIn
from typing import Any

from memreact_schemas.openmetrics import CONTENT_TYPE

__all__ = ["CONNECTIONS_MAX", "Server", "listen_on_port", "listen_on_socket"]

CONNECTIONS_MAX = 8

_SILENCE_S = 10
_LIFE_S = 120.0
_EARLY_S = 0.5
_TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

Tell = Callable[[float | None], str]
"""Gathers, within so many seconds."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = _SILENCE_S
    server_version = "memreact-host"
    sys_version = ""

    def do_GET(self) -> None:
        """Gather, and tell."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "there is /metrics")
            return
        text = self.server.tell_alone(self._within_s()).encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(text)

    do_HEAD = do_GET  # noqa: N815  # http.server's own name

    def _within_s(self) -> float | None:
        """What Prometheus says that it waits, less the way back."""
        try:
            said = float(self.headers.get(_TIMEOUT_HEADER, ""))
        except ValueError:
            return None
        return max(said - _EARLY_S, said / 2) if 0 < said < float("inf") else None

    def address_string(self) -> str:
        """A socket with a name has no address of a client."""
        return "local"

    def log_message(self, *_: object) -> None:
        """Say nothing: who scrapes sees what went wrong."""


class Server(ThreadingMixIn, BaseServer):
    """A few connections at a time, each for one request and for a bounded time.

    Args:
        listener: The server's to close.
        tell: Gathers; called for one at a time.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, tell: Tell) -> None:
        super().__init__(listener.getsockname(), _Handler)
        self._listener = listener
        self._tell = tell
        self._alone = threading.Lock()
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def tell_alone(self, within_s: float | None) -> str:
        """Gather for one scrape after the other: guests are asked once at a time."""
        with self._alone:
            return self._tell(within_s)

    def fileno(self) -> int:
        """Where somebody who connects is noticed."""
        return self._listener.fileno()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one; where there is no place, it is closed."""
        stream, address = self._listener.accept()
        if not self._places.acquire(blocking=False):
            stream.close()
            raise OSError("no place is left")
        return stream, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as socketserver has it
        """Serve one, however it goes, and no longer than it may take."""
        life = threading.Timer(_LIFE_S, _end, (request,))
        life.daemon = True
        life.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            life.cancel()
            self._places.release()

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  # as socketserver has it
        """Close a connection."""
        _end(request)
        request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave whoever went away or was too slow."""

    def server_close(self) -> None:
        """Listen no more."""
        self._listener.close()


def _end(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def listen_on_port(port: int) -> socket.socket:
    """Listen on a port of 127.0.0.1.

    Raises:
        OSError: It is taken, or not for us.
    """
    return socket.create_server(("127.0.0.1", port))


def listen_on_socket(path: str) -> socket.socket:
    """Listen on a socket with a name, for its user and group; one that nobody serves is replaced.

    Raises:
        OSError: Somebody listens there, or there is something else.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_served(path):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, 0o660)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
