"""Lets systemd's varlinkctl reach a guest: from a socket that it hands over to a guest's vsock.

As a command of its `exec:` scheme the address is in the environment:

    MEMREACT_ADDRESS=vsock:3:1050 varlinkctl info exec:/usr/bin/memreact-vsock

From systemd 260 on, as /usr/lib/systemd/varlink-bridges/memreact-vsock, it is in the URL:

    varlinkctl info memreact-vsock:3:1050
    varlinkctl info memreact-vsock:hvsock:/run/vm.sock:1050

Addresses are those of memreact-ctl, hybrid ones (hvsock:/PATH:PORT) too; without any it is the
memreact of this machine.

Source: varlinkctl(1), sd_listen_fds(3)
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from memreact_tools import __version__
from memreact_tools.address import Address, AddressError, CouldNotConnect, connect, parse_address

__all__ = ["address_from", "copy", "main"]

_HANDED_OVER = 3  # SD_LISTEN_FDS_START
_SCHEME = "memreact-vsock:"
_HERE = "unix:/run/memreact/io.memreact"
_CONNECT_SECS = 10.0
_BLOCK = 65536
_USAGE = "MEMREACT_ADDRESS=vsock:CID:PORT varlinkctl info exec:/usr/bin/memreact-vsock"
_HELP = f"""\
Lets varlinkctl, which starts it, reach a guest's memreact:

    {_USAGE}

An address is unix:/PATH, vsock:CID:PORT or hvsock:/PATH:PORT; without one it is the memreact of
this machine. --version says which memreact this belongs to."""
_BARE = re.compile(r"(?://)?[0-9]+:[0-9]+", re.ASCII)
_DONE, _FAILED, _MISUSED = 0, 1, 2


def main() -> None:
    """Run the bridge, and exit."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(args: Sequence[str], environ: Mapping[str, str]) -> int:
    """Copy until both sides are through; returns the exit status."""
    if args and args[0] in ("--version", "--help", "-h"):
        print(f"memreact-vsock {__version__}" if args[0] == "--version" else _HELP)
        return _DONE
    try:
        address = address_from(args, environ)
        ours = socket.socket(fileno=_HANDED_OVER)
    except AddressError as error:
        return _tell(str(error), _MISUSED)
    except OSError:
        return _tell(f"this is for varlinkctl to start: {_USAGE}", _MISUSED)
    with ours:
        try:
            theirs = connect(address, timeout_s=_CONNECT_SECS)
        except CouldNotConnect as error:
            return _tell(str(error), _FAILED)
        with theirs:
            copy(ours, theirs)
    return _DONE


def address_from(args: Sequence[str], environ: Mapping[str, str]) -> Address:
    """Find out where to connect: the URL says it, or the environment does.

    Raises:
        AddressError: It is no address.
    """
    text = args[0] if args else environ.get("MEMREACT_ADDRESS") or _HERE
    text = text.removeprefix(_SCHEME)
    return parse_address(f"vsock:{text}" if _BARE.fullmatch(text) else text)


def copy(one: socket.socket, other: socket.socket) -> None:
    """Copy in both directions until both have ended; an end goes on to the other side as one."""
    ways = (_Way(one, other), _Way(other, one))
    for side in (one, other):
        side.settimeout(0)
    while not all(way.over for way in ways):
        poll = select.poll()
        for side in (one, other):
            events = sum(way.waits_for(side) for way in ways)
            if events:  # a side that hung up would be told again and again
                poll.register(side, events)
        ready = dict(poll.poll())
        for way in ways:
            way.step(ready)


class _Way:
    """One direction.

    Args:
        source: What is read.
        sink: What is written.
    """

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._data = b""
        self._ended = False
        self.over = False

    def waits_for(self, side: socket.socket) -> int:
        """Say which events of a side this direction waits for."""
        if side is self._source and not self._data and not self._ended:
            return select.POLLIN
        return select.POLLOUT if side is self._sink and self._data else 0

    def step(self, ready: Mapping[int, int]) -> None:
        """Do what can be done at once."""
        try:
            if ready.get(self._source.fileno()) and not self._data and not self._ended:
                self._data = self._source.recv(_BLOCK)
                self._ended = not self._data
            if self._data:
                self._data = self._data[self._sink.send(self._data) :]
            elif self._ended and not self.over:
                self._end()
        except BlockingIOError:
            return
        except OSError:  # one of them is gone: nothing more goes this way
            self._data, self._ended = b"", True
            self._end()

    def _end(self) -> None:
        self.over = True
        with suppress(OSError):  # the other side is gone too
            self._sink.shutdown(socket.SHUT_WR)


def _tell(what: str, status: int) -> int:
    sys.stderr.write(f"memreact-vsock: {what}\n")
    return status


if __name__ == "__main__":
    main()
