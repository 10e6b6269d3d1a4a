"""Taskstats: how long a process waited for the CPU, for disks, and for memory to be reclaimed.

The delays of a whole process (a thread group) come over generic netlink. pyroute2 encodes and
decodes the messages; the socket is our own, non-blocking and plainly readable, so that any event
loop can watch it. The layout of the figures is read here: pyroute2's ends before the memory delays.

All but the wait for the CPU stays 0 unless kernel.task_delayacct is 1 (delayacct.py), and tasks
started before that count nothing.

Source: Documentation/accounting/taskstats.rst, delay-accounting.rst; include/uapi/linux/taskstats.h
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import Any, NamedTuple

from kernelio.errors import KernelioError, MalformedReading, Refused, Unsupported, Vanished
from kernelio.netlink import ctrlmsg, genlmsg, nla, nlmsgerr

__all__ = ["Answer", "TaskDelays", "Taskstats", "parse_delays"]

_NAME = "netlink:TASKSTATS"  # stands for a path in errors
_NETLINK_GENERIC = 16  # linux/netlink.h
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_TASKSTATS_CMD_GET = 1
_TASKSTATS_VERSION = 1
_HEADER = struct.Struct("=4xH2xI")  # of struct nlmsghdr, type and sequence number
_RECEIVE_BYTES = 65536
_MOST_PENDING = 1024  # answers come at once; what is older than this many requests is lost
_MOST_READ = 64  # answers taken in one turn of the loop
_TIMEOUT_MS = 1000

# Offsets in struct taskstats, in bytes. Versions 13, 14, 16, 17 agree; 15 put fields between.
_VERSION = struct.Struct("=H")
_TOTAL = struct.Struct("=Q")
_CPU, _BLOCK_IO, _SWAP_IN = 24, 40, 56
_RECLAIM, _THRASHING, _COMPACT = 320, 336, 360
_ODD_VERSION = 15
_NS = 1000


class TaskDelays(NamedTuple):
    """Time that the living threads of a process waited so far, in microseconds; each only grows.

    None means that this version of the kernel does not say.
    """

    cpu_us: int
    block_io_us: int
    swap_in_us: int
    reclaim_us: int | None
    thrashing_us: int | None
    compact_us: int | None


class Answer(NamedTuple):
    """What came back for one request; `delays` is None when there is no such process any more."""

    tgid: int
    delays: TaskDelays | None


class _Request(genlmsg):  # type: ignore[misc]
    nla_map = (
        ("TASKSTATS_CMD_ATTR_UNSPEC", "none"),
        ("TASKSTATS_CMD_ATTR_PID", "uint32"),
        ("TASKSTATS_CMD_ATTR_TGID", "uint32"),
    )


class _Reply(genlmsg):  # type: ignore[misc]
    nla_map = (
        ("TASKSTATS_TYPE_UNSPEC", "none"),
        ("TASKSTATS_TYPE_PID", "uint32"),
        ("TASKSTATS_TYPE_TGID", "uint32"),
        ("TASKSTATS_TYPE_STATS", "cdata"),
        ("TASKSTATS_TYPE_AGGR_PID", "aggregate"),
        ("TASKSTATS_TYPE_AGGR_TGID", "aggregate"),
        ("TASKSTATS_TYPE_NULL", "none"),
    )

    class aggregate(nla):  # type: ignore[misc]  # noqa: N801  # the codec looks it up by this name
        nla_map = (
            ("TASKSTATS_TYPE_UNSPEC", "none"),
            ("TASKSTATS_TYPE_PID", "uint32"),
            ("TASKSTATS_TYPE_TGID", "uint32"),
            ("TASKSTATS_TYPE_STATS", "cdata"),
        )


def parse_delays(stats: bytes) -> TaskDelays:
    """Read the delays out of a struct taskstats of any length.

    Raises:
        Unsupported: Version 15, whose layout is its own.
        MalformedReading: Shorter than its first version was.
    """
    if len(stats) < _SWAP_IN + _TOTAL.size:
        raise MalformedReading(_NAME, f"{len(stats)} bytes", "a struct taskstats")
    version = _VERSION.unpack_from(stats)[0]
    if version == _ODD_VERSION:
        raise Unsupported(_NAME, f"version {version} of the figures has a layout of its own")
    return TaskDelays(
        cpu_us=_us_at(stats, _CPU) or 0,
        block_io_us=_us_at(stats, _BLOCK_IO) or 0,
        swap_in_us=_us_at(stats, _SWAP_IN) or 0,
        reclaim_us=_us_at(stats, _RECLAIM),
        thrashing_us=_us_at(stats, _THRASHING),
        compact_us=_us_at(stats, _COMPACT),
    )


def _us_at(stats: bytes, offset: int) -> int | None:
    if len(stats) < offset + _TOTAL.size:
        return None
    nanoseconds: int = _TOTAL.unpack_from(stats, offset)[0]
    return nanoseconds // _NS


class Taskstats:
    """A socket that asks for the delays of processes; requests and answers need not alternate."""

    def __init__(self, sock: socket.socket, family: int) -> None:
        self._socket = sock
        self._family = family
        self._sequence = 1
        self._pending: dict[int, int] = {}

    @classmethod
    def open(cls) -> Taskstats:
        """Connect and ask the kernel for the family's number.

        Raises:
            Unsupported: Built without TASKSTATS, or not in the first network or user namespace.
        """
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_GENERIC)
            sock.bind((0, 0))
        except OSError as error:
            raise Unsupported(_NAME, os.strerror(error.errno or 0)) from error
        try:
            return cls(sock, _ask_family(sock))
        except KernelioError:
            sock.close()
            raise

    def fileno(self) -> int:
        """Readable when an answer is there."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; answers under way are lost."""
        self._socket.close()

    def request(self, tgid: int) -> None:
        """Ask for one process by its id (of the first pid namespace).

        Raises:
            Refused: The kernel takes no more requests now.
        """
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        message = _Request()
        message.update(cmd=_TASKSTATS_CMD_GET, version=_TASKSTATS_VERSION)
        message["attrs"] = [("TASKSTATS_CMD_ATTR_TGID", tgid)]
        _send(self._socket, message, self._family, self._sequence)
        self._pending[self._sequence] = tgid
        if len(self._pending) > _MOST_PENDING:
            del self._pending[next(iter(self._pending))]

    def read(self) -> list[Answer]:
        """Take the answers that are there, a bounded number of them; never waits.

        Raises:
            Unsupported: Not permitted (CAP_NET_ADMIN), or a layout that we do not know.
            MalformedReading: The answer is none.
        """
        answers: list[Answer] = []
        for _ in range(_MOST_READ):
            data = _receive(self._socket)
            if data is None:
                break
            kind, sequence = _HEADER.unpack_from(data)
            tgid = self._pending.pop(sequence, None)
            if tgid is not None:  # else an answer to a request that was dropped
                answers.append(Answer(tgid, _delays_of(data, kind)))
        return answers

    def read_delays(self, tgid: int) -> TaskDelays:
        """Ask for one process and wait for the answer (about 60 us); not for an event loop.

        Raises:
            Vanished: There is no such process.
            Unsupported: As for `read`, or no answer within a second.
        """
        self.request(tgid)
        while select.select([self._socket], [], [], _TIMEOUT_MS / 1000)[0]:
            for answer in self.read():
                if answer.tgid == tgid:
                    if answer.delays is None:
                        raise Vanished(f"/proc/{tgid}")
                    return answer.delays
        raise Unsupported(_NAME, "no answer within a second")


def _send(sock: socket.socket, message: Any, family: int, sequence: int) -> None:  # noqa: ANN401
    message["header"]["type"] = family
    message["header"]["flags"] = _NLM_F_REQUEST
    message["header"]["sequence_number"] = sequence
    message.encode()
    try:
        sock.send(message.data)
    except OSError as error:
        raise Refused(_NAME, error.errno or 0, os.strerror(error.errno or 0)) from error


def _receive(sock: socket.socket) -> bytes | None:
    """One message, or None when none is there."""
    while True:
        try:
            return sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            # ENOBUFS is told once, before what is in the queue: an answer found no room there.
            if error.errno != errno.ENOBUFS:
                raise Unsupported(_NAME, os.strerror(error.errno or 0)) from error


def _ask_family(sock: socket.socket) -> int:
    message = ctrlmsg()
    message.update(cmd=_CTRL_CMD_GETFAMILY, version=1)
    message["attrs"] = [("CTRL_ATTR_FAMILY_NAME", "TASKSTATS")]
    _send(sock, message, _GENL_ID_CTRL, 1)
    select.select([sock], [], [], _TIMEOUT_MS / 1000)
    data = _receive(sock)
    if data is None or _HEADER.unpack_from(data)[0] == _NLMSG_ERROR:
        raise Unsupported(_NAME, "not in this kernel")
    reply = ctrlmsg(data)
    reply.decode()
    return int(reply.get_attr("CTRL_ATTR_FAMILY_ID"))


def _delays_of(data: bytes, kind: int) -> TaskDelays | None:
    if kind == _NLMSG_ERROR:
        _refuse_unless_gone(data)
        return None
    reply = _Reply(data)
    reply.decode()
    aggregate = reply.get_attr("TASKSTATS_TYPE_AGGR_TGID")
    stats = aggregate.get_attr("TASKSTATS_TYPE_STATS") if aggregate else None
    if not isinstance(stats, bytes | bytearray):
        raise MalformedReading(_NAME, f"{len(data)} bytes", "the figures of a process")
    return parse_delays(bytes(stats))


def _refuse_unless_gone(data: bytes) -> None:
    error = nlmsgerr(data)
    error.decode()
    number = -int(error["error"])
    if number != errno.ESRCH:
        raise Unsupported(_NAME, os.strerror(number))
