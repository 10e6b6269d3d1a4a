"""Telling systemd how we are: sd_notify(3), over a plain datagram socket.

uvloop cannot reach abstract sockets, and one sendto takes microseconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from memreact.events import Instant

__all__ = ["Notifier", "is_journal", "opened_for_us", "puts_back_for_us", "watchdog_us"]

_FIRST_FD = 3


class Notifier:
    """Sends to the socket that systemd named, or to nobody.

    Args:
        environ: Where $NOTIFY_SOCKET may be.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        named = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + named[1:] if named.startswith("@") else named
        self._socket: socket.socket | None = None
        if self._address:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)

    def ready(self, status: str) -> None:
        """Started, or reloaded."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self, now: Instant) -> None:
        """SIGHUP has arrived; without the time in the same datagram systemctl reload hangs."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def status(self, status: str) -> None:
        """What systemctl status shows."""
        self._send(f"STATUS={_one_line(status)}")

    def stopping(self) -> None:
        """SIGTERM has arrived; what was shown until now would stand for ever."""
        self._send("STOPPING=1\nSTATUS=stopped")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, text: str) -> None:
        # A full or missing socket must not stop the daemon: the watchdog is there to notice.
        with suppress(OSError):
            if self._socket is not None:
                self._socket.sendto(text.encode(errors="backslashreplace"), self._address)


def _one_line(status: str) -> str:
    """A line break would begin another assignment."""
    return " ".join(status.splitlines())


def watchdog_us(environ: Mapping[str, str], pid: int) -> int | None:
    """How often systemd wants to hear from this process; None where it does not."""
    wanted = environ.get("WATCHDOG_USEC", "")
    if not wanted.isdecimal() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(wanted) or None


def is_journal(environ: Mapping[str, str], fd: int) -> bool:
    """Whether systemd connected this descriptor to the journal: the variable alone is inherited."""
    try:
        there = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def puts_back_for_us(environ: Mapping[str, str]) -> bool:
    """Whether a unit of its own puts back what we switched on: our unit says so, and no other.

    Each process below any unit has $INVOCATION_ID, a memreact that was started by hand too.
    """
    return environ.get("MEMREACT_PUT_BACK") == "unit"


def opened_for_us(environ: Mapping[str, str], pid: int, name: str) -> int | None:
    """The descriptor that systemd opened for this process under a name; None where it did not.

    Source: sd_listen_fds(3), OpenFile= in systemd.service(5)
    """
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    if environ.get("LISTEN_PID") != str(pid) or name not in names:
        return None
    return _FIRST_FD + names.index(name)
