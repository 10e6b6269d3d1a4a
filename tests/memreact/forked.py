"""Daemons that are processes of their own, forked from one that has imported everything."""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import msgspec

from tests.memreact.daemon_parent import NUMBER, Order

__all__ = ["Forked"]

_PARENT = Path(__file__).with_name("daemon_parent.py")


@functools.cache
def _parent() -> socket.socket:
    """Start the process that forks them, once; it ends when this socket does."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Coverage is the daemons', and begins with each: here it would be left over at the end.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with its:
        its.set_inheritable(True)
        # -P: this folder's modules are the tests' alone.
        words = [sys.executable, "-P", str(_PARENT), str(its.fileno())]
        words += ["coverage"] if "COVERAGE_PROCESS_CONFIG" in os.environ else []
        os.waitpid(os.posix_spawn(sys.executable, words, environ), 0)
    return ours


class Forked:
    """One daemon; what it can do is what subprocess.Popen can.

    Args:
        order: What to run.
        stderr: An fd for its stderr, which stays the caller's; subprocess.PIPE for `stderr` here.
    """

    def __init__(self, order: Order, stderr: int) -> None:
        self.returncode: int | None = None
        self.stderr: TextIO | None = None
        into = stderr
        if stderr == subprocess.PIPE:
            out, into = os.pipe()
            self.stderr = os.fdopen(out)
        self._account, tells = os.pipe()
        socket.send_fds(_parent(), [msgspec.json.encode(order)], [into, tells])
        os.close(tells)
        if into != stderr:
            os.close(into)
        self.pid = self._told()

    def poll(self) -> int | None:
        """Return its exit status as subprocess does, None while it runs."""
        return self._waited(0)

    def wait(self, timeout: float) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It did not end within so many seconds.
        """
        code = self._waited(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("memreact", timeout)
        return code

    def communicate(self, timeout: float) -> tuple[None, str]:
        """Wait for its end and return what it told since; one that does not end is killed."""
        told = ""
        if self.stderr is not None:
            watchdog = threading.Timer(timeout, self.kill)
            watchdog.start()
            told = self.stderr.read()
            watchdog.cancel()
            self.stderr.close()
            self.stderr = None
        self.wait(timeout)
        return None, told

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and its account is on the way
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _waited(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._account], [], [], seconds)[0]:
            self.returncode = self._told()
            os.close(self._account)
        return self.returncode

    def _told(self) -> int:
        number = os.read(self._account, NUMBER.size)
        return int(NUMBER.unpack(number)[0])
