"""Where calls come in: two unix sockets and two ports of AF_VSOCK, and who is let in.

Whoever connects is looked at before anything is made that would listen to them. Connections are
bounded: a new one takes the place of the one that was silent for the longest, and where there is
none to spare it is closed at once. Those who may only read take no place of one who may write, and
none of them has more than half of all places.

No loop accepts on AF_VSOCK for us, so a listener is watched and accepted from here; see
`kernelio.vsock`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias, cast

from kernelio import unix_socket, vsock
from kernelio.errors import KernelioError, Unsupported
from kernelio.peercred import PeerCredentials, read_peer_credentials
from memreact.control.audit import Audit
from memreact.control.peer import Peer, peer_over_unix, peer_over_vsock
from memreact.telemetry.journal import Journal
from memreact_schemas.config import DEFAULTS, Control

__all__ = ["CONNECTIONS_MAX", "Door", "Listening", "VsockCalls"]

CONNECTIONS_MAX = 64
"""Of one door."""

_ACCEPTS_AT_ONCE = 32
_BACKLOG = 1024  # a crowd in front of the door keeps nobody from knocking
_REST_SECS = 1.0
_UNREAD_SECS = 10.0
_NOTHING_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Make: TypeAlias = Callable[[Peer], asyncio.Protocol]
"""Makes what serves one connection."""

Who: TypeAlias = PeerCredentials | int
"""What the kernel says of a peer: its credentials, or its CID."""

Accept: TypeAlias = Callable[[socket.socket], tuple[socket.socket, Who]]


class VsockCalls(NamedTuple):
    """What is needed of AF_VSOCK; a test on a machine without it brings its own."""

    open_listener: Callable[[int], socket.socket] = partial(vsock.open_listener, backlog=_BACKLOG)
    accept: Callable[[socket.socket], tuple[socket.socket, int, int]] = vsock.accept
    local_cid: Callable[[], int] = vsock.local_cid


class _Connection(asyncio.Protocol):
    """Hands on what comes, and remembers when something last did."""

    def __init__(self, door: Door, who: Who, peer: Peer, serving: asyncio.Protocol) -> None:
        self.who = who
        self.peer = peer
        self.heard_at = door.loop.time()
        self._door = door
        self._serving = serving
        self._transport: asyncio.Transport | None = None
        self._unwanted = False
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a call is being answered, or a row of answers is under way."""
        return bool(getattr(self._serving, "busy", False))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if nobody thought better of it meanwhile."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        if self._unwanted:
            self._transport.abort()
        self._serving.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hand it on."""
        self.heard_at = self._door.loop.time()
        self._serving.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand it on."""
        return self._serving.eof_received()

    def pause_writing(self) -> None:
        """Hand it on."""
        self._serving.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._serving.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        self._door.left(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._serving.connection_lost(exc)

    def leave(self) -> None:
        """End at once, with what is not written yet."""
        self._unwanted = True
        self._door.left(self)
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> None:
        """End when what was answered is written, or nobody reads it."""
        if self._transport is None:
            self._unwanted = True
        elif self._deadline is None:
            self._deadline = self._door.loop.call_later(_UNREAD_SECS, self._transport.abort)
            self._transport.close()


class Door:
    """One way in: a listener, and the connections that came through it.

    Args:
        name: As the journal shows it.
        accept: Takes a connection from the listener, and says who it is.
        admit: Says what whoever it is may.
        make: Makes what serves them.
        audit: Told of whom was refused.
        journal: Told of trouble.
        limit: Connections at a time.
        limit_of_one: Connections at a time of one peer that may only read; half of all where it is
            not given.
    """

    def __init__(  # noqa: PLR0913  # the parts come from outside, so that a test brings its own
        self,
        name: str,
        *,
        accept: Accept,
        admit: Callable[[Who], Peer],
        make: Make,
        audit: Audit,
        journal: Journal,
        limit: int = CONNECTIONS_MAX,
        limit_of_one: int | None = None,
    ) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.turned_away = 0
        """Connections that were closed for want of room, so far."""
        self._accept = accept
        self._admit = admit
        self._make = make
        self._audit = audit
        self._journal = journal
        self._limit = limit
        self._limit_of_one = limit // 2 if limit_of_one is None else limit_of_one
        self._listener: socket.socket | None = None
        self._connections: dict[_Connection, None] = {}
        self._arriving: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are connected."""
        return len(self._connections)

    def listen(self, listener: socket.socket | None) -> None:
        """Listen here from now on; those who are connected already stay."""
        self._stop_listening()
        self._listener = listener
        if listener is not None:
            self.loop.add_reader(listener.fileno(), self._knock)

    def admit_again(self) -> None:
        """Close the connections of those who may more or less by now than when they came."""
        for connection in tuple(self._connections):
            if self._admit(connection.who) != connection.peer:
                self._audit.refused(connection.peer, "connect", f"no longer as it was: {self.name}")
                connection.finish()

    def close(self, *, at_once: bool) -> None:
        """Listen no more, and end all connections.

        Args:
            at_once: Do not wait until answers are written.
        """
        self._stop_listening()
        for connection in tuple(self._connections):
            if at_once:
                connection.leave()
            else:
                connection.finish()

    def left(self, connection: _Connection) -> None:
        """Forget a connection; a second time changes nothing."""
        self._connections.pop(connection, None)

    def _stop_listening(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._listener is not None:
            self.loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _knock(self) -> None:
        """Accept those who wait; the rest of a crowd in the loop's next turn."""
        for _ in range(_ACCEPTS_AT_ONCE):
            if self._listener is None:
                return
            try:
                stream, who = self._accept(self._listener)
            except BlockingIOError:
                return
            except Unsupported:  # they are gone again before we could ask who they are
                continue
            except OSError as error:
                if error.errno in _NOTHING_LEFT:
                    self._rest(self._listener, error)
                    return
                continue
            self._receive(stream, who)

    def _rest(self, listener: socket.socket, error: OSError) -> None:
        """Look away for a while: the listener stays readable, and nothing can be done."""
        why = os.strerror(error.errno or 0)
        self._journal.say("warning", "not_accepted", at=self.name, because=why)
        self.loop.remove_reader(listener.fileno())
        self._resting = self.loop.call_later(_REST_SECS, self._go_on, listener)

    def _go_on(self, listener: socket.socket) -> None:
        self._resting = None
        self.loop.add_reader(listener.fileno(), self._knock)

    def _receive(self, stream: socket.socket, who: Who) -> None:
        peer = self._admit(who)
        if peer.refused:
            stream.close()
            self._audit.refused(peer, "connect", f"permission denied: {self.name}")
            return
        if not self._has_room(peer):
            stream.close()
            self.turned_away += 1
            return
        connection = _Connection(self, who, peer, self._make(peer))
        self._connections[connection] = None
        task = self.loop.create_task(self._arrive(connection, stream))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _arrive(self, connection: _Connection, stream: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: connection, stream)
        except OSError:  # they are gone again
            stream.close()
            self.left(connection)

    def _has_room(self, newcomer: Peer) -> bool:
        """Whether there is a place, or one could be made."""
        if not newcomer.may_write:
            own = [each for each in self._connections if each.peer == newcomer]
            if len(own) >= self._limit_of_one:
                return self._make_room(newcomer, own)
        return len(self._connections) < self._limit or self._make_room(newcomer, self._connections)

    def _make_room(self, newcomer: Peer, among: Iterable[_Connection]) -> bool:
        """End the silent connection that was heard last; whoever may write is not kept out.

        A connection with a call under way is ended only for one who may write, and only if its own
        peer may not. One who may write is ended only for another one.
        """
        if newcomer.may_write:
            spare = [each for each in among if not (each.busy and each.peer.may_write)]
        else:
            spare = [each for each in among if not (each.busy or each.peer.may_write)]
        if not spare:
            return False
        self.turned_away += 1
        min(spare, key=lambda each: (each.busy, each.peer.may_write, each.heard_at)).leave()
        return True


@dataclass(slots=True)
class _VsockDoor:
    """A door, and the port that it listens on; None where it does not."""

    door: Door
    port: int | None = None


class Listening:
    """All ways in.

    Args:
        folder: Where the unix sockets are.
        varlink: Makes what serves a connection to io.memreact.
        ttrpc: Makes what serves one of Kata's clients.
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
        }
        self._named: set[str] = set()
        self._vsock = {
            "varlink_port": _VsockDoor(self._vsock_door("vsock: varlink", varlink)),
            "ttrpc_port": _VsockDoor(self._vsock_door("vsock: ttrpc", ttrpc)),
        }

    @property
    def doors(self) -> tuple[Door, ...]:
        """Each way in, whether it is listened on or not."""
        return (*self._unix.values(), *(each.door for each in self._vsock.values()))

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

    def _unix_door(self, path: str, make: Make) -> Door:
        return self._door(path, _accept_unix, self._admit_unix, make)

    def _vsock_door(self, name: str, make: Make) -> Door:
        return self._door(name, self._accept_vsock, self._admit_vsock, make)

    def _door(self, name: str, accept: Accept, admit: Callable[[Who], Peer], make: Make) -> Door:
        return Door(
            name,
            accept=accept,
            admit=admit,
            make=make,
            audit=self._audit,
            journal=self._journal,
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
