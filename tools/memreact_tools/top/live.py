"""Live guests: for each a thread that follows its stream, and one that asks at intervals.

What comes waits in one queue, bounded: of decisions the oldest leave first, and are counted; of
everything else the newest takes the place of the one before it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.control import INTERFACE, GetStatus, Look, Looked, StatusAnswer, Watch
from memreact_schemas.status import DecisionRow, Status
from memreact_tools.address import Address, CouldNotConnect, connect
from memreact_tools.ctl.amounts import bounded
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused, call, stream_of
from memreact_tools.decoding import decoded
from memreact_tools.top.source import (
    Decided,
    Lost,
    Met,
    Read,
    StatusSeen,
    Told,
    TreeSeen,
    Update,
    Warned,
)

__all__ = ["Intervals", "Live"]

_WAITING_MAX = 4096
# Cgroups that nobody sees just now, whose use is read too.
_OTHERS_AT_ONCE = _OTHERS_A_SECOND = 32
_SHOWN_MAX = 128
_RETRY_FIRST_S, _RETRY_MOST_S = 0.25, 4.0
_STOCK_SHARE = 200  # taking stock may cost a guest one part in so many of its time
_TREE_SHARE = 20
_PATIENCE_S = 1.0  # at the end
_TROUBLE = (Refused, BrokenConnection, CouldNotConnect, OSError, msgspec.MsgspecError)


class Intervals(Struct, frozen=True):
    """How often a guest is asked, in seconds.

    Args:
        read: For what its kernel says now.
        tree: For all cgroups, at the most; only where something has changed.
        tree_at_least: The same where nothing has.
        stock: For where the memory is, at the most: the guest reads a flag of each free block.
        patience: How long an answer may take.
    """

    read: float = 1.0
    tree: float = 2.0
    tree_at_least: float = 30.0
    stock: float = 10.0
    patience: float = 10.0


class _Item(Struct):
    decision: DecisionRow | None = None
    status: Status | None = None
    dropped: int = 0


class _Inbox:
    """What came and was not taken yet."""

    def __init__(self) -> None:
        self._came = threading.Condition()
        self._decided: deque[Told] = deque()
        self._newest: dict[tuple[str, type], Told] = {}
        self.dropped = 0

    def put(self, told: Told) -> None:
        with self._came:
            if isinstance(told.update, Decided):
                if len(self._decided) >= _WAITING_MAX:
                    self._decided.popleft()
                    self.dropped += 1
                self._decided.append(told)
            else:
                kind = Lost if isinstance(told.update, Met) else type(told.update)
                self._newest.pop((told.guest, kind), None)  # its place is that of the new one
                self._newest[told.guest, kind] = told
            self._came.notify()

    def take(self) -> list[Told]:
        with self._came:
            taken = [*self._newest.values(), *self._decided]
            self._newest.clear()
            self._decided.clear()
        return taken

    def wait(self, seconds: float) -> None:
        with self._came:
            if not self._newest and not self._decided:
                self._came.wait(seconds)


class Live:
    """Guests that run.

    Args:
        addresses: Where they are.
        every: How often they are asked.
    """

    def __init__(self, addresses: Sequence[Address], every: Intervals) -> None:
        self._inbox = _Inbox()
        self._closing = threading.Event()
        self._guests = {
            str(address): _Guest(address, every, self._inbox.put, self._closing)
            for address in addresses
        }
        self._threads: list[threading.Thread] = []
        self.failed: BaseException | None = None
        """A bug on one of the threads, for whoever takes."""

    @property
    def guests(self) -> tuple[str, ...]:
        """Their addresses."""
        return tuple(self._guests)

    @property
    def dropped(self) -> int:
        """Decisions that were not taken in time."""
        return self._inbox.dropped

    def start(self) -> None:
        """Begin to ask; threads that wait for a guest do not keep the process."""
        for guest in self._guests.values():
            for work in (guest.follow, guest.ask):
                thread = threading.Thread(target=self._run, args=(work,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised where somebody takes
            self.failed = error

    def now_us(self) -> int:
        """CLOCK_MONOTONIC of this machine."""
        return _now_us()

    def take(self) -> list[Told]:
        """Take what came.

        Raises:
            Exception: Whatever ended one of the threads.
        """
        if self.failed is not None:
            raise self.failed
        return self._inbox.take()

    def wait(self, seconds: float) -> None:
        """Return when something came, or after so long."""
        self._inbox.wait(seconds)

    def look_at(self, guest: str, paths: Sequence[str]) -> None:
        """Say whose use is to be read from now on, besides a few of the others in turn."""
        self._guests[guest].paths = tuple(paths)[:_SHOWN_MAX]

    def close(self) -> None:
        """Ask nobody any more; a thread that waits for an answer is given a moment."""
        self._closing.set()
        for guest in self._guests.values():
            guest.hang_up()
        deadline = time.monotonic() + _PATIENCE_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))


def _now_us() -> int:
    return time.monotonic_ns() // 1000


class _Guest:
    """One guest; its two threads share what is below and nothing else."""

    def __init__(
        self,
        address: Address,
        every: Intervals,
        put: Callable[[Told], None],
        closing: threading.Event,
    ) -> None:
        self._address = address
        self._every = every
        self._put = put
        self._closing = closing
        self._changed = threading.Event()
        self._last_number = 0
        self._started_at_us: int | None = None
        self._lines: dict[str, socket.socket] = {}
        self.paths: tuple[str, ...] = ()

    def hang_up(self) -> None:
        """Let whoever waits on a connection return."""
        for line in tuple(self._lines.values()):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _line(self, what: str) -> Iterator[socket.socket]:
        """A connection of its own, which `hang_up` ends."""
        with connect(self._address, timeout_s=self._every.patience, tries=1) as line:
            self._lines[what] = line
            try:
                yield line
            finally:
                del self._lines[what]

    def follow(self) -> None:
        """Follow the stream, again whenever it breaks."""
        for _ in self._tries():
            with suppress(*_TROUBLE):
                self._follow_once()

    def ask(self) -> None:
        """Ask at intervals; what is wrong is told from here alone."""
        for _ in self._tries():
            try:
                self._ask_until_lost()
            except _TROUBLE as error:
                self._tell(Lost(_why(error)))

    def _tries(self) -> Iterator[None]:
        """Go on until the end, after each failure a little later than after the one before."""
        wait_s = _RETRY_FIRST_S
        while not self._closing.is_set():
            began = time.monotonic()
            yield
            wait_s = _RETRY_FIRST_S if time.monotonic() - began > _RETRY_MOST_S else wait_s * 2
            self._closing.wait(min(wait_s, _RETRY_MOST_S))

    def _follow_once(self) -> None:
        with self._line("stream") as stream:
            status = _status(stream, GetStatus(cgroups=False), self._every.patience)
            if status.started_at_us != self._started_at_us:  # another daemon counts anew
                self._started_at_us, self._last_number = status.started_at_us, 0
            watch = Watch(status=True, since=self._last_number)
            for raw in stream_of(stream, f"{INTERFACE}.Watch", watch):
                self._take_in(decoded(raw, _Item))
                if self._closing.is_set():
                    return

    def _take_in(self, item: _Item) -> None:
        if item.decision is not None:
            self._last_number = bounded(item.decision.number)
            self._tell(Decided(item.decision, item.dropped))
        if item.status is not None:
            self._tell(StatusSeen(item.status))
            self._changed.set()

    def _ask_until_lost(self) -> None:
        every = self._every
        with connect(self._address, timeout_s=every.patience, tries=1) as stream:
            asking = _Asking(stream, every, self._tell)
            self._tell(Met())
            self._changed.set()
            while not self._closing.is_set():
                next_at = time.monotonic() + every.read
                asking.look(self.paths)
                asking.tree(self._changed)
                asking.stock()
                self._closing.wait(max(0.0, next_at - time.monotonic()))

    def _tell(self, update: Update) -> None:
        self._put(Told(str(self._address), _now_us(), update))


class _Asking:
    """What is asked over one connection, and when it is asked next."""

    def __init__(
        self, stream: socket.socket, every: Intervals, tell: Callable[[Update], None]
    ) -> None:
        self._stream = stream
        self._every = every
        self._tell = tell
        self._tree_at = self._tree_at_last = self._stock_at = 0.0
        self._others: list[str] = []
        self._turn = 0
        self._looks = True

    def look(self, paths: Sequence[str]) -> None:
        """Read what the kernel says now, of the cgroups that are seen and of some others."""
        if not self._looks:
            return
        wanted = tuple(dict.fromkeys([*paths, *self._next_others()]))
        try:
            raw = self._call("Look", Look(paths=wanted))
        except Refused as error:  # an older memreact; the rest goes on without
            self._looks = False
            self._tell(Warned(f"no readings: {_why(error)}"))
            return
        self._tell(Read(decoded(raw, Looked).reading))

    def _next_others(self) -> Sequence[str]:
        """Some of all cgroups in turn, so that each has been read after a while."""
        if self._turn >= len(self._others):
            self._turn = 0
        number = max(1, min(_OTHERS_AT_ONCE, round(_OTHERS_A_SECOND * self._every.read)))
        some = self._others[self._turn : self._turn + number]
        self._turn += len(some)
        return some

    def tree(self, changed: threading.Event) -> None:
        """Ask for all cgroups where something has changed, or nobody asked for long.

        What an answer takes is a measure of what it costs: where cgroups are very many it is asked
        for less often.
        """
        began = time.monotonic()
        if began < (self._tree_at if changed.is_set() else self._tree_at_last):
            return
        changed.clear()
        status = self._status(GetStatus())
        took = time.monotonic() - began
        self._tree_at = began + max(self._every.tree, took * _TREE_SHARE)
        self._tree_at_last = began + max(self._every.tree_at_least, took * _TREE_SHARE)
        self._others = [each.path for each in status.cgroups]
        self._tell(TreeSeen(status))

    def stock(self) -> None:
        """Have it read where the memory is, so seldom that it costs next to nothing."""
        began = time.monotonic()
        if began < self._stock_at:
            return
        status = self._status(GetStatus(cgroups=False, ledger=True))
        took = time.monotonic() - began
        self._stock_at = began + max(self._every.stock, took * _STOCK_SHARE)
        self._tell(StatusSeen(status))

    def _status(self, asked: GetStatus) -> Status:
        return _status(self._stream, asked, self._every.patience)

    def _call(self, method: str, asked: Struct) -> Raw:
        return _call(self._stream, method, asked, self._every.patience)


def _status(stream: socket.socket, asked: GetStatus, patience_s: float) -> Status:
    raw = _call(stream, "GetStatus", asked, patience_s)
    return decoded(raw, StatusAnswer).status


def _call(stream: socket.socket, method: str, asked: Struct, patience_s: float) -> Raw:
    stream.settimeout(patience_s)
    return call(stream, f"{INTERFACE}.{method}", asked)


def _why(error: Exception) -> str:
    if isinstance(error, CouldNotConnect):
        return error.why
    if isinstance(error, Refused):
        return error.name.rpartition(".")[2]
    return "no answer in time" if isinstance(error, TimeoutError) else str(error)
