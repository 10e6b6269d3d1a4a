"""Where calls come in: unix sockets, ports of AF_VSOCK and one of TCP, and who is let in.

No loop accepts on AF_VSOCK for us, so a listener is watched and accepted from here; see
`kernelio.vsock`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, cast

from kernelio import loopback, unix_socket, vsock
from kernelio.errors import KernelioError, Unsupported
from kernelio.peercred import PeerCredentials, read_peer_credentials
from memreact.control.audit import Audit
from memreact.control.door import CONNECTIONS_MAX, Accept, Door, Make, Who
from memreact.control.peer import Peer, peer_over_tcp, peer_over_unix, peer_over_vsock
from memreact.telemetry.journal import Journal
from memreact.value import Struct
from memreact_schemas.config import DEFAULTS, Control

__all__ = ["Listening", "VsockCalls"]

SCRAPES_MAX = 8
"""Connections of one door at which metrics are read."""

_BACKLOG = 1024  # a crowd in front of the door keeps nobody from knocking
_TCP = "metrics_tcp_port"


class VsockCalls(NamedTuple):
    """What is needed of AF_VSOCK; a test on a machine without it brings its own."""

    open_listener: Callable[[int], socket.socket] = partial(vsock.open_listener, backlog=_BACKLOG)
    accept: Callable[[socket.socket], tuple[socket.socket, int, int]] = vsock.accept
    local_cid: Callable[[], int] = vsock.local_cid


class _VsockDoor(Struct):
    """A door, and the port that it listens on; None where it does not."""

    door: Door
    port: int | None = None


class _TcpDoor(Struct):
    """The same for a port of localhost; 0 where it does not."""

    door: Door
    port: int = 0


class Listening:
    """All ways in.

    Args:
        folder: Where the unix sockets are.
        varlink: Makes what serves a connection to io.memreact.
        ttrpc: Makes what serves one of Kata's clients.
        metrics: Makes what serves one who reads the metrics.
        audit: Told of whom was refused.
        journal: Told of trouble.
        calls: AF_VSOCK.
    """

    def __init__(  # noqa: PLR0913  # the parts come from outside, so that a test brings its own
        self,
        folder: str,
        *,
        varlink: Make,
        ttrpc: Make,
        metrics: Make,
        audit: Audit,
        journal: Journal,
        calls: VsockCalls | None = None,
    ) -> None:
        self._audit = audit
        self._journal = journal
        self._calls = calls or VsockCalls()
        self._control = Control()
        self._readers: int | None = None
        self._problems: dict[str, str] = {}
        self._unix = {
            f"{folder}/io.memreact": self._unix_door(f"{folder}/io.memreact", varlink),
            f"{folder}/agent.sock": self._unix_door(f"{folder}/agent.sock", ttrpc),
            f"{folder}/metrics.sock": self._unix_door(
                f"{folder}/metrics.sock", metrics, SCRAPES_MAX
            ),
        }
        self._named: set[str] = set()
        self._vsock = {
            "varlink_port": _VsockDoor(self._vsock_door("vsock: varlink", varlink)),
            "ttrpc_port": _VsockDoor(self._vsock_door("vsock: ttrpc", ttrpc)),
            "metrics_port": _VsockDoor(self._vsock_door("vsock: metrics", metrics, SCRAPES_MAX)),
        }
        self._tcp = _TcpDoor(
            self._door(
                "tcp: metrics",
                loopback.accept,
                lambda _: peer_over_tcp(),
                metrics,
                limit=SCRAPES_MAX,
                limit_of_one=SCRAPES_MAX,  # nobody knows one from another there
            )
        )

    @property
    def doors(self) -> tuple[Door, ...]:
        """Each way in, whether it is listened on or not."""
        vsock_doors = (each.door for each in self._vsock.values())
        return (*self._unix.values(), *vsock_doors, self._tcp.door)

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be listened on, and why."""
        return tuple(self._problems.values())

    def settle(self, control: Control) -> None:
        """Listen as settings say, and let nobody stay who may not by now.

        It is called while a call is answered that may be the last one of its connection: those that
        have to go do so when it is written.
        """
        self._control = control
        self._readers = self._found_group()
        for path in self._unix:
            self._settle_unix(path)
        # All leave before any comes: one may take the port of another.
        had = {key: self._leave_vsock(key) for key in self._vsock}
        for key, port in had.items():
            self._settle_vsock(key, port)
        self._settle_tcp()
        for door in self.doors:
            self._soon(door.admit_again)

    def look_up_group(self) -> None:
        """Let members of the group in that is there by now, and nobody of one that is gone."""
        if self._named and self._found_group() != self._readers:
            self.settle(self._control)

    def _found_group(self) -> int | None:
        group = self._control.group
        return unix_socket.find_group(group) if group else None

    def close(self) -> None:
        """Listen no more, at once."""
        for door in self.doors:
            door.close(at_once=True)
        for path in self._named:
            with suppress(OSError):
                os.unlink(path)
        self._named.clear()

    def _settle_unix(self, path: str) -> None:
        self._problems.pop(path, None)
        for group in (self._readers, None) if self._readers is not None else (None,):
            try:
                self._open_unix(path, group)
            except KernelioError as error:
                self._trouble(path, error)  # where it is the group, root is let in all the same
            else:
                return

    def _open_unix(self, path: str, group: int | None) -> None:
        if path in self._named:
            unix_socket.give_to_group(path, group)
        else:
            self._unix[path].listen(unix_socket.open_listener(path, group=group, backlog=_BACKLOG))
            self._named.add(path)

    def _leave_vsock(self, key: str) -> int | None:
        """Listen no more where it moves; returns the port that it had."""
        way = self._vsock[key]
        had = way.port
        if had is not None and had != self._port(key):
            way.port = None
            way.door.listen(None)
        return had

    def _settle_vsock(self, key: str, had: int | None) -> None:
        way, wanted = self._vsock[key], self._port(key)
        self._problems.pop(key, None)
        if wanted is None:
            self._soon(self._close_unless_open, key)
        elif way.port is None:
            try:
                self._open_vsock(way, wanted)
            except KernelioError as error:
                self._trouble(key, error)
                with suppress(KernelioError):  # else a host that moved it would find nobody
                    self._open_vsock(way, had)

    def _open_vsock(self, way: _VsockDoor, port: int | None) -> None:
        if port is not None:
            way.door.listen(self._calls.open_listener(port))
            way.port = port

    def _close_unless_open(self, key: str) -> None:
        if self._port(key) is None:
            self._vsock[key].door.close(at_once=False)

    def _settle_tcp(self) -> None:
        wanted = self._control.metrics_tcp_port or 0
        if wanted == self._tcp.port and _TCP not in self._problems:
            return
        self._problems.pop(_TCP, None)
        self._tcp.door.listen(None)
        self._tcp.port = wanted
        if not wanted:
            self._tcp.door.close(at_once=False)
            return
        try:
            self._tcp.door.listen(loopback.open_listener(wanted))
        except KernelioError as error:
            self._trouble(_TCP, error)

    def _port(self, key: str) -> int | None:
        said = self._control.vsock
        if not (DEFAULTS.control.vsock if said is None else said):
            return None
        port = getattr(self._control, key)
        return cast("int", getattr(DEFAULTS.control, key) if port is None else port)

    def _trouble(self, key: str, error: KernelioError) -> None:
        self._problems[key] = str(error)
        self._journal.say("warning", "not_listening", at=key, because=error)

    def _soon(self, what: Callable[..., None], *args: str) -> None:
        asyncio.get_running_loop().call_soon(what, *args)

    def _unix_door(self, path: str, make: Make, limit: int = CONNECTIONS_MAX) -> Door:
        return self._door(path, _accept_unix, self._admit_unix, make, limit=limit)

    def _vsock_door(self, name: str, make: Make, limit: int = CONNECTIONS_MAX) -> Door:
        return self._door(name, self._accept_vsock, self._admit_vsock, make, limit=limit)

    def _door(  # noqa: PLR0913  # what a door is made of
        self,
        name: str,
        accept: Accept,
        admit: Callable[[Who], Peer],
        make: Make,
        *,
        limit: int,
        limit_of_one: int | None = None,
    ) -> Door:
        return Door(
            name,
            accept=accept,
            admit=admit,
            make=make,
            audit=self._audit,
            journal=self._journal,
            limit=limit,
            limit_of_one=limit_of_one,
        )

    def _admit_unix(self, who: Who) -> Peer:
        found = cast("PeerCredentials", who)
        return peer_over_unix(found, own_uid=os.geteuid(), readers=self._readers)

    def _accept_vsock(self, listener: socket.socket) -> tuple[socket.socket, Who]:
        stream, cid, _ = self._calls.accept(listener)
        return stream, cid

    def _admit_vsock(self, who: Who) -> Peer:
        own_cid = None
        with suppress(KernelioError):  # read each time: a restored snapshot may have another one
            own_cid = self._calls.local_cid()
        allow = bool(self._control.allow_guest)
        return peer_over_vsock(cast("int", who), own_cid=own_cid, allow_guest=allow)


def _accept_unix(listener: socket.socket) -> tuple[socket.socket, Who]:
    stream, _ = listener.accept()
    try:
        return stream, read_peer_credentials(stream)
    except Unsupported:
        stream.close()
        raise
