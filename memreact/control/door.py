"""One way in: a listener, the connections that came through it, and how many there may be.

Whoever connects is looked at before anything is made that would listen to them. Connections are
bounded: a new one takes the place of the one that was silent for the longest, and where there is
none to spare it is closed at once. Those who may only read take no place of one who may write, and
none of them has more than half of all places.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

from kernelio.errors import Unsupported
from kernelio.peercred import PeerCredentials
from memreact.control.audit import Audit
from memreact.control.peer import Peer
from memreact.telemetry.journal import Journal

__all__ = ["CONNECTIONS_MAX", "Accept", "Door", "Make", "Who"]

CONNECTIONS_MAX = 64
"""Of one door."""

_ACCEPTS_AT_ONCE = 32
_REST_SECS = 1.0
_UNREAD_SECS = 10.0
_NOTHING_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Make: TypeAlias = Callable[[Peer], asyncio.Protocol]
"""Makes what serves one connection."""

Who: TypeAlias = PeerCredentials | int | None
"""What the kernel says of a peer: its credentials, or its CID; nothing of one over TCP."""

Accept: TypeAlias = Callable[[socket.socket], tuple[socket.socket, Who]]


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
