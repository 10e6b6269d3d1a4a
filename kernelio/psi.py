"""Pressure stall information: readings, triggers, and the wait for triggers.

Source: Documentation/accounting/psi.rst; kernel/sched/psi.c.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from kernelio.errors import MalformedReading, Refused, Unsupported, Vanished
from kernelio.files import meaning_of, read_record
from kernelio.layout import Layout

__all__ = [
    "Fired",
    "Pressure",
    "PressureLine",
    "Stall",
    "TriggerSet",
    "arm_trigger",
    "can_arm_short_windows",
    "guest_trigger_file",
    "own_stall",
    "parse_pressure",
    "parse_some_total_us",
    "read_cgroup_stall",
    "read_children_stall",
    "read_guest_stall",
    "read_own_stall",
    "read_pressure",
]

_SOME_FIRST = re.compile(
    rb"some avg10=[\d.]{4,6} avg60=[\d.]{4,6} avg300=[\d.]{4,6} total=(\d{1,20})\n"
)
_LINE = re.compile(
    rb"(some|full) avg10=(\d{1,3}\.\d\d) avg60=(\d{1,3}\.\d\d) avg300=(\d{1,3}\.\d\d)"
    rb" total=(\d{1,20})"
)
_ROOT_INODE = 1  # of the root cgroup, and of none else: kernfs numbers from here
_EXPECTED = "`some|full avg10=N avg60=N avg300=N total=N`, each once"


class PressureLine(NamedTuple):
    """Shares of the last 10, 60 and 300 s in percent, and the stall since boot in microseconds."""

    avg10: float
    avg60: float
    avg300: float
    total_us: int


class Pressure(NamedTuple):
    """One pressure file; None is a line that the kernel does not print."""

    some: PressureLine | None
    full: PressureLine | None


class Stall(NamedTuple):
    """Microseconds since boot in which at least one task waited for memory, and for io."""

    memory_us: int
    io_us: int

    @property
    def total_us(self) -> int:
        """Both together; an instant in which both waited counts twice."""
        return self.memory_us + self.io_us


class Fired(NamedTuple):
    """One trigger fired, or is gone (its cgroup was removed, or it never was a trigger)."""

    name: str
    gone: bool
    at_us: int  # CLOCK_MONOTONIC when the waiting thread woke up


def parse_pressure(text: bytes, path: str) -> Pressure:
    """Parse a pressure file.

    Raises:
        MalformedReading: A line is not one of the two, or is there twice, or none is.
    """
    found: dict[bytes, PressureLine] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[1] in found:
            raise MalformedReading(path, os.fsdecode(line), _EXPECTED)
        found[match[1]] = PressureLine(
            float(match[2]), float(match[3]), float(match[4]), int(match[5])
        )
    if not found:
        raise MalformedReading(path, "", _EXPECTED)
    return Pressure(found.get(b"some"), found.get(b"full"))


def read_pressure(path: str) -> Pressure:
    """Read a pressure file of the guest (/proc/pressure/...) or of a cgroup (*.pressure).

    Raises:
        Unsupported: PSI is built out, off (psi=0), or off for this cgroup (cgroup.pressure).
        Vanished: The cgroup was removed.
        MalformedReading: The file says something else.
    """
    return parse_pressure(read_record(path, fixed=_is_of_the_guest(path)), path)


def guest_trigger_file(layout: Layout, resource: str) -> str:
    """Where to arm the guest's triggers: at best the root cgroup's file, which shows the same.

    What fires there is told to inotify too (from 6.5 on), and never on those of /proc/pressure.

    Args:
        layout: The guest.
        resource: "memory" or "io".

    Source: cgroup_psi() in include/linux/psi.h
    """
    of_root = f"{layout.cgroup_root}/{resource}.pressure"
    try:
        at_root = os.stat(layout.cgroup_root).st_ino == _ROOT_INODE
        if at_root and os.access(of_root, os.R_OK | os.W_OK):  # else mounted to be read alone
            return of_root
    except OSError:
        pass
    return layout.proc(f"pressure/{resource}")


def _is_of_the_guest(path: str) -> bool:
    # The guest's files stand in /proc/pressure, which a kernel has or has not; they never vanish.
    return not path.endswith(".pressure")


def parse_some_total_us(text: bytes, path: str) -> int:
    """Parse how long some task has waited, of a pressure file; of each cgroup nobody wants more.

    Raises:
        MalformedReading: It has no such line, or what it has instead is none.
    """
    first = _SOME_FIRST.match(text)
    if first is not None:
        return int(first[1])
    some = parse_pressure(text, path).some
    if some is None:
        raise MalformedReading(path, "full", "a `some` line")
    return some.total_us


def _read_some_total_us(path: str) -> int:
    return parse_some_total_us(read_record(path, fixed=_is_of_the_guest(path)), path)


def read_cgroup_stall(directory: str) -> Stall:
    """Read what a cgroup and all below it have stalled since boot; errors as read_pressure."""
    return Stall(
        _read_some_total_us(f"{directory}/memory.pressure"),
        _read_some_total_us(f"{directory}/io.pressure"),
    )


def read_guest_stall(layout: Layout) -> Stall:
    """Read what the whole guest has stalled since boot; errors as read_pressure."""
    return Stall(
        _read_some_total_us(layout.proc("pressure/memory")),
        _read_some_total_us(layout.proc("pressure/io")),
    )


def own_stall(parent: Stall, children: Iterable[Stall]) -> Stall:
    """Take the children's stall off the parent's, file by file, never below zero.

    `some` is a union: siblings that stall at the same time are both taken off, so this is a lower
    bound of what the parent's own tasks stalled.
    """
    memory_us, io_us = parent
    for child in children:
        memory_us -= child.memory_us
        io_us -= child.io_us
    return Stall(max(memory_us, 0), max(io_us, 0))


def read_children_stall(directory: str) -> dict[str, Stall]:
    """Read the stall of each direct child by its name.

    A child that vanishes meanwhile or has no pressure files (cgroup.pressure=0) counts as zero.
    Each total is since that child's birth: when one goes, its share falls back to what is computed
    for the parent, so compare only readings that name the same children.

    Raises:
        Vanished: The directory itself is gone.
    """
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError as error:
        raise Vanished(directory) from error
    except OSError as error:
        raise meaning_of(error, directory) from error
    return {name: _read_child_stall(f"{directory}/{name}") for name in names}


def _read_child_stall(directory: str) -> Stall:
    return Stall(
        _read_some_total_or_zero(f"{directory}/memory.pressure"),
        _read_some_total_or_zero(f"{directory}/io.pressure"),
    )


def _read_some_total_or_zero(path: str) -> int:
    try:
        return _read_some_total_us(path)
    except (Unsupported, Vanished):
        return 0


def read_own_stall(directory: str) -> Stall:
    """Read what a cgroup's own tasks have stalled, without its children's; see own_stall.

    Raises:
        Unsupported, Vanished, MalformedReading: Of the cgroup itself, never because a child lacks
            something.
    """
    # Children first: what stalls between the readings is then the parent's, the careful side.
    children = read_children_stall(directory)
    return own_stall(read_cgroup_stall(directory), children.values())


def arm_trigger(path: str, kind: Literal["some", "full"], *, stall_us: int, window_us: int) -> int:
    """Arm a trigger and return the fd to poll for POLLPRI, the caller's to close.

    Arming takes some 10 us; closing waits for RCU, some 8 ms: leave that to a thread that nobody
    waits for.

    Args:
        path: A pressure file, of the whole guest or of one cgroup.
        kind: Stall of some tasks, or of all of them at once.
        stall_us: Stall within one window that fires the trigger.
        window_us: Length of the window; without CAP_SYS_RESOURCE a multiple of 2 s.

    Raises:
        Unsupported: PSI is built out or switched off, or this kernel wants more privilege.
        Vanished: The cgroup was removed.
        Refused: The kernel does not take this stall in this window.

    Source: Documentation/accounting/psi.rst, "Monitoring for pressure thresholds"
    """
    # psi_write() puts a NUL over the last byte: without ours it eats the window's last digit.
    command = b"%s %d %d\0" % (kind.encode(), stall_us, window_us)
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, command)
        except OSError:
            os.close(fd)
            raise
    except OSError as error:
        if error.errno == errno.EINVAL:
            detail = f"refused the trigger `{kind} {stall_us} {window_us}`"
            raise Refused(path, errno.EINVAL, detail) from error
        raise meaning_of(error, path, fixed=_is_of_the_guest(path)) from error
    return fd


def can_arm_short_windows(path: str) -> bool:
    """Try whether windows other than multiples of 2 s are taken, which needs CAP_SYS_RESOURCE.

    Takes some 10 ms where the answer is yes: the trigger is closed again.

    Raises:
        Vanished: The cgroup was removed.
    """
    try:
        # 500 ms is the shortest window of 6.1.
        os.close(arm_trigger(path, "some", stall_us=500_000, window_us=500_000))
    except (Refused, Unsupported):
        return False
    return True


class _EpollEvent(ctypes.Structure):
    # Packed on x86-64 only, where the kernel keeps the layout of 32 bits: <linux/eventpoll.h>.
    if platform.machine() == "x86_64":
        _pack_ = 1
    _fields_ = (("events", ctypes.c_uint32), ("token", ctypes.c_uint64))


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.epoll_ctl.argtypes = (ctypes.c_int,) * 3 + (ctypes.POINTER(_EpollEvent),)
_LIBC.epoll_wait.argtypes = (ctypes.c_int, ctypes.POINTER(_EpollEvent), ctypes.c_int, ctypes.c_int)

_CTL_ADD = 1
_CTL_DEL = 2
_WAKE = 0  # the token of our own eventfd
_AT_ONCE = 64  # events of one epoll_wait; more come with the next
_OVER = select.EPOLLERR | select.EPOLLHUP


def _os_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _nothing() -> None:
    """Be what is called where nobody asks for more."""


class TriggerSet:
    """The triggers that one thread waits for.

    A trigger's event is eaten by the first poll that sees it, so one epoll holds the triggers and
    one thread waits on it: never put this set's fd, or a trigger, into another loop. `add`,
    `discard` and `wake` may be called by any thread while that one waits.

    Python's own epoll tells which fd number is ready. A number is reused as soon as it is closed,
    so each registration has a token of its own here, and an event of a discarded one has no name.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ready = (_EpollEvent * _AT_ONCE)()
        self._lock = threading.Lock()  # never held by `wait`, unless a trigger is gone
        self._next_token = _WAKE + 1
        self._tokens: dict[int, int] = {}  # fd -> token
        self._names: dict[int, tuple[int, str]] = {}  # token -> fd, name
        self._control(_CTL_ADD, self._wake, select.EPOLLIN, _WAKE)

    def _control(self, what: int, fd: int, events: int, token: int) -> None:
        event = _EpollEvent(events, token)
        if _LIBC.epoll_ctl(self._epoll.fileno(), what, fd, ctypes.byref(event)) < 0:
            raise _os_error()

    def add(self, fd: int, name: str) -> None:
        """Wait for this trigger too; events of it will carry `name`. The fd stays the caller's.

        Adding it again changes its name. An event between arming and here may be lost: read the
        totals once after adding.

        Raises:
            Refused, Unsupported: It is nothing that can be waited for.
        """
        with self._lock:
            if fd in self._tokens:
                self._remove(fd)
            token = self._next_token
            self._next_token += 1
            self._tokens[fd], self._names[token] = token, (fd, name)
            try:
                self._control(_CTL_ADD, fd, select.EPOLLPRI | select.EPOLLERR, token)
            except OSError as error:
                self._forget(fd)
                raise meaning_of(error, name) from error

    def discard(self, fd: int) -> None:
        """Stop waiting for this trigger, if it is in the set; does not close it."""
        with self._lock:
            if fd in self._tokens:
                self._remove(fd)

    def _remove(self, fd: int) -> None:
        self._forget(fd)
        try:
            self._control(_CTL_DEL, fd, 0, _WAKE)
        except OSError as error:
            # Closed before it was discarded: the kernel took it out by itself.
            if error.errno not in (errno.EBADF, errno.ENOENT):
                raise

    def _forget(self, fd: int) -> None:
        token = self._tokens.pop(fd, None)
        if token is not None:
            del self._names[token]

    def wait(
        self, timeout_ms: int | None = None, at_once: Callable[[], None] = _nothing
    ) -> list[Fired]:
        """Wait until something fires and return what did; for one thread only.

        A trigger whose cgroup was removed is reported once, as gone, and leaves the set by itself:
        it would be ready for ever. Its fd is still the caller's to close.

        Args:
            timeout_ms: How long at most; None for ever, 0 not at all.
            at_once: Called as soon as anything is ready, before it is looked at: another thread may
                take the interpreter's lock away again any moment.

        Returns:
            What fired; nothing after the timeout or a `wake`.
        """
        count = self._wait_for_events(timeout_ms)
        if count:
            at_once()
        at_us = time.monotonic_ns() // 1000
        fired = []
        for event in self._ready[:count]:
            if event.token == _WAKE:
                os.eventfd_read(self._wake)
            elif (known := self._names.get(event.token)) is not None:
                gone = bool(event.events & _OVER)
                fired.append(Fired(known[1], gone, at_us))
                if gone:
                    self._drop(event.token)
        return fired

    def _wait_for_events(self, timeout_ms: int | None) -> int:
        epoll, size = self._epoll.fileno(), len(self._ready)
        ends_ms = None if timeout_ms is None else time.monotonic_ns() // 1_000_000 + timeout_ms
        left_ms = -1 if timeout_ms is None else timeout_ms
        while (count := _LIBC.epoll_wait(epoll, self._ready, size, left_ms)) < 0:
            if (error := _os_error()).errno != errno.EINTR:
                raise error
            if ends_ms is not None:
                left_ms = max(ends_ms - time.monotonic_ns() // 1_000_000, 0)
        return int(count)

    def _drop(self, token: int) -> None:
        with self._lock:
            # Looked up again: meanwhile another thread may have discarded it and reused the fd.
            if (known := self._names.get(token)) is not None:
                self._remove(known[0])

    def wake(self) -> None:
        """Make `wait` return, now or the next time it is called."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give back the set's own fds; the triggers stay their owners'. Nobody may be waiting."""
        self._epoll.close()
        os.close(self._wake)
