"""A guest to look at, made of values, and a daemon that tells of it on a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from memreact_schemas.status import (
    CgroupLimits,
    CgroupStatus,
    CgroupUse,
    Counters,
    DecisionRow,
    GenerationStatus,
    GuestReading,
    LedgerStatus,
    LedgerTally,
    NextEviction,
    NodeStatus,
    OwnCost,
    PauseStatus,
    StallShare,
    Status,
    SwapAreaReading,
)
from memreact_tools.top.source import Decided, Met, Read, StatusSeen, Told, TreeSeen, Update

__all__ = [
    "BEGAN",
    "MIB",
    "NOW",
    "SECOND",
    "FakeDaemon",
    "Scripted",
    "cgroup",
    "decision",
    "paused",
    "reading",
    "sample",
    "status",
    "use",
]

MIB = 1 << 20
SECOND = 1_000_000
_MINUTE = 60 * SECOND
BEGAN = 1_000 * SECOND
NOW = BEGAN + 40 * _MINUTE
"""On the sample guest's clock."""


def decision(number: int, **differs: object) -> DecisionRow:
    """A decision that nothing is done to a cgroup, unless it says otherwise."""
    row = DecisionRow(
        number=number, at_us=NOW, verdict="leave", because="nothing_cold_yet", path="/a"
    )
    return replace(row, **differs)


def cgroup(
    path: str,
    sizes: Sequence[tuple[int, int]] = (),
    *,
    cold_mib: int = 0,
    **differs: object,
) -> CgroupStatus:
    """A cgroup with generations of so many MiB of anon and file, the oldest first."""
    ages = (30 * _MINUTE, 20 * _MINUTE, 10 * _MINUTE, 2 * _MINUTE)
    generations = tuple(
        GenerationStatus(seq=at, age_us=ages[at], anon_bytes=anon * MIB, file_bytes=file * MIB)
        for at, (anon, file) in enumerate(sizes)
    )
    coming = NextEviction(
        waits_for="next_turn", text="untouched for 3 periods is cold", at_us=NOW + 3 * _MINUTE
    )
    node = NodeStatus(
        node=0,
        disabled=False,
        swap=True,
        period_us=5 * _MINUTE,
        aging_count_min=3,
        cold_bytes=cold_mib * MIB,
        generations=generations,
        next_eviction=coming,
    )
    made = CgroupStatus(
        path=path,
        populated=True,
        frozen=False,
        surveyed_at_us=NOW - 2 * _MINUTE,
        anon_bytes=sum(anon for anon, _ in sizes) * MIB,
        file_bytes=sum(file for _, file in sizes) * MIB,
        cold_bytes=cold_mib * MIB,
        nodes=(node,),
        counters=Counters(),
        next_eviction=coming,
    )
    return replace(made, **differs)


def use(path: str, mib: int, **limits: object) -> CgroupUse:
    """What a cgroup uses."""
    made = replace(CgroupLimits(current_bytes=mib * MIB), **limits)
    return CgroupUse(path=path, limits=made, stall_us=0)


def status(cgroups: Sequence[CgroupStatus] = (), **differs: object) -> Status:
    """A guest at rest."""
    made = Status(
        version="0.1.0",
        revision=4,
        now_us=NOW,
        started_at_us=BEGAN,
        doing="resting",
        next_turn_at_us=NOW + 3 * _MINUTE,
        next_eviction=NextEviction(waits_for="next_turn", text="the next turn"),
        pressure=StallShare(stall_us=20_000, over_us=10 * SECOND, limit_ppm=100_000),
        counters=Counters(agings=42, evictions=17, evicted_bytes=611 * MIB),
        turns=8,
        decisions=96,
        page_bytes=4096,
        cgroups_total=len(cgroups),
        cgroups=tuple(cgroups),
    )
    return replace(made, **differs)


def reading(at_us: int = NOW, **differs: object) -> GuestReading:
    """What the kernel of a guest of 2 GiB says."""
    made = GuestReading(
        at_us=at_us,
        total_bytes=1985 * MIB,
        free_bytes=1120 * MIB,
        available_bytes=1400 * MIB,
        memory_stall_us=0,
        io_stall_us=0,
        own=OwnCost(cpu_us=0, rss_bytes=27 * MIB, anon_bytes=17 * MIB, wake_ups=0),
        swap=(
            SwapAreaReading(
                path="/dev/zram0",
                size_bytes=512 * MIB,
                used_bytes=131 * MIB,
                priority=100,
                zram_taken_bytes=38 * MIB,
            ),
        ),
        cgroups_total=10,
    )
    return replace(made, **differs)


_LEDGER = LedgerStatus(
    read_at_us=NOW - 5 * SECOND,
    total_bytes=1985 * MIB,
    free_bytes=1118 * MIB,
    reportable_bytes=1064 * MIB,
    reported_bytes=1031 * MIB,
    since_start=LedgerTally(evicted_file_bytes=480 * MIB, evicted_anon_bytes=131 * MIB),
    host_holds_bytes=934 * MIB,
    host_said_at_us=NOW - 5 * SECOND,
    returned_bytes=742 * MIB,
    reporting=True,
)


def _evicted(number: int, ago_s: int, path: str, pages: int) -> DecisionRow:
    return decision(
        number,
        at_us=NOW - ago_s * SECOND,
        verdict="end",
        because="cold_gone",
        path=path,
        node=0,
        figures={"evicted_pages": pages, "took_us": 184_000, "cold_pages": pages},
    )


def _log() -> list[DecisionRow]:
    redis = "/system.slice/redis-server.service"
    stall = {"stall_us": 24_310, "over_us": SECOND, "limit_ppm": 10_000, "evicted_pages": 6144}
    wait = {"possible_in_us": 9 * _MINUTE, "cold_pages": 0}
    return [
        _evicted(84, 302, "/demo.slice/cold", 76_800),
        decision(
            85,
            at_us=NOW - 301 * SECOND,
            path="/user.slice/user-1000.slice",
            node=0,
            figures=wait,
        ),
        _evicted(86, 300, redis, 33_536),
        decision(
            87,
            at_us=NOW - 128 * SECOND,
            verdict="turn",
            because="turn_over",
            path="",
            figures={"evicted_pages": 110_336, "aged": 9},
        ),
        decision(
            88,
            at_us=NOW - 39 * SECOND,
            verdict="hold",
            because="stall_below_limit",
            path="/demo.slice/batch",
            figures={"stall_us": 4100, "over_us": SECOND, "limit_ppm": 10_000},
        ),
        decision(
            89,
            at_us=NOW - 38 * SECOND,
            verdict="end",
            because="stall_over_limit",
            path="/demo.slice/batch",
            node=0,
            figures=stall,
        ),
        decision(
            90,
            at_us=NOW - 37 * SECOND,
            verdict="pause",
            because="guest_stall_over_limit",
            path="",
            figures={"stall_us": 131_000, "over_us": SECOND, "limit_ppm": 100_000},
        ),
        decision(91, at_us=NOW - 21 * SECOND, verdict="resume", because="quiet_window", path=""),
        decision(
            92,
            at_us=NOW - 9 * SECOND,
            path="/system.slice/ssh.service",
            because="protected",
            node=0,
            figures={"floor_bytes": 8 * MIB, "current_bytes": 7 * MIB},
        ),
    ]


def _tree() -> list[CgroupStatus]:
    log = {row.path: row for row in _log() if row.path}
    redis, batch = "/system.slice/redis-server.service", "/demo.slice/batch"
    rows = [
        cgroup("/", [(0, 2), (0, 0), (0, 4), (1, 6)]),
        cgroup("/demo.slice"),
        cgroup("/demo.slice/cold", [(0, 18), (0, 0), (0, 2), (0, 1)], cold_mib=18),
        cgroup(batch, [(14, 190), (6, 20), (22, 31), (40, 12)], cold_mib=204),
        cgroup("/demo.slice/client", [(1, 0), (2, 1), (1, 2), (6, 4)], cold_mib=1),
        cgroup("/system.slice", [(0, 3), (0, 0), (0, 0), (0, 1)], cold_mib=3),
        cgroup(redis, [(0, 0), (18, 1), (33, 2), (41, 1)], floor_bytes=64 * MIB),
        cgroup("/system.slice/ssh.service", [(1, 0), (1, 2), (0, 1), (2, 1)]),
        cgroup("/system.slice/cron.service", [(0, 0), (1, 0), (0, 0), (1, 0)], frozen=True),
        cgroup("/user.slice", populated=False),
        cgroup("/user.slice/user-1000.slice", [(9, 4), (4, 9), (11, 8), (26, 13)], cold_mib=13),
    ]
    return [
        replace(each, last=log.get(each.path), counters=_done(log.get(each.path))) for each in rows
    ]


def _done(last: DecisionRow | None) -> Counters:
    pages = 0 if last is None else last.figures.get("evicted_pages", 0)
    reasons = {} if last is None else {last.because: 3}
    return Counters(agings=8, evictions=2, evicted_bytes=pages * 4096, because=reasons)


def sample(name: str = "unix:/run/memreact/io.memreact", at_us: int = NOW) -> list[Told]:
    """What is told of a guest that has worked for forty minutes, all at once; it ends at `at_us`.

    Seconds are readings: memory is short for some of them, and memreact stays away.
    """
    told: list[Update] = [Met(), StatusSeen(status(ledger=_LEDGER))]
    told += [Decided(row) for row in _log()]
    shift = at_us - NOW
    updates = [Told(name, at_us, each) for each in told]
    memory = io = 0
    for second in range(240, -1, -1):
        memory += _stalled(second)
        io += (7 * second) % 11 * 300
        own = OwnCost(
            cpu_us=(240 - second) * 2_400,
            rss_bytes=27 * MIB,
            anon_bytes=17 * MIB,
            wake_ups=(240 - second) * 2,
        )
        said = reading(
            NOW - second * SECOND, memory_stall_us=memory, io_stall_us=io, own=own, cgroups=_uses()
        )
        updates.append(Told(name, NOW - second * SECOND + shift, Read(said)))
    return [*updates, Told(name, at_us, TreeSeen(status(_tree(), ledger=_LEDGER)))]


def _stalled(second: int) -> int:
    """Microseconds of one second: calm, a first wave, and the one that paused us."""
    wave = {0: 0, 1: 2_000, 2: 0, 3: 900}[second % 4]
    if 30 < second < 42:
        wave += 132_000 - 11_000 * abs(38 - second)
    if 110 < second < 118:
        wave += 21_000
    return wave


def _uses() -> tuple[CgroupUse, ...]:
    return (
        use("/demo.slice", 380, max_bytes=768 * MIB),
        use("/demo.slice/batch", 344, high_bytes=352 * MIB, swap_bytes=21 * MIB),
        use("/demo.slice/cold", 22),
        use("/demo.slice/client", 18),
        use("/system.slice", 152, low_bytes=48 * MIB),
        use("/system.slice/redis-server.service", 102, min_bytes=64 * MIB, swap_bytes=96 * MIB),
        use("/system.slice/ssh.service", 8, low_bytes=8 * MIB),
        use("/system.slice/cron.service", 2),
        use("/user.slice", 91),
        use("/user.slice/user-1000.slice", 88, swap_bytes=14 * MIB),
    )


@dataclass
class Scripted:
    """A source that gives what it was given, on a clock that stands."""

    waiting: list[Told] = field(default_factory=list)
    names: tuple[str, ...] = ("unix:/run/memreact/io.memreact",)
    at_us: int = NOW
    looked_at: dict[str, tuple[str, ...]] = field(default_factory=dict)
    closed: bool = False

    @property
    def guests(self) -> tuple[str, ...]:
        """Their names."""
        return self.names

    def start(self) -> None:
        """It has begun already."""

    def now_us(self) -> int:
        """The moment that was set."""
        return self.at_us

    def take(self) -> list[Told]:
        """Take what was given."""
        taken, self.waiting = self.waiting, []
        return taken

    def tell(self, update: Update, guest: str = "") -> None:
        """Give one more."""
        self.waiting.append(Told(guest or self.names[0], self.at_us, update))

    def wait(self, seconds: float) -> None:
        """Let the time pass, at once."""
        self.at_us += int(seconds * SECOND)

    def look_at(self, guest: str, paths: Sequence[str]) -> None:
        """Remember what was wanted."""
        self.looked_at[guest] = tuple(paths)

    def close(self) -> None:
        """Remember that it ended."""
        self.closed = True


class FakeDaemon:
    """Answers as the daemon does; the test says what, and may end its connections.

    Args:
        cgroups: Those that it tells of.
        started_at_us: When it began: another number is another daemon.
    """

    def __init__(self, cgroups: Sequence[CgroupStatus] = (), started_at_us: int = BEGAN) -> None:
        self.cgroups = tuple(cgroups)
        self.started_at_us = started_at_us
        self.decisions: list[DecisionRow] = []
        self.looked: list[tuple[str, ...]] = []
        self.asked: list[str] = []
        self.since: list[int | None] = []
        self.refuses: frozenset[str] = frozenset()
        self.silent = threading.Event()
        self._streams: list[socket.socket] = []
        self._news = threading.Condition()
        self._ended = False
        self._reads = self._lines = self.stocks = 0

    def decide(self, row: DecisionRow) -> None:
        """Make one decision, and tell it."""
        with self._news:
            self.decisions.append(row)
            self._news.notify_all()

    def hang_up(self) -> None:
        """End every connection, as a daemon that stops."""
        with self._news:
            self._ended = True
        self.hang_up_once()

    def hang_up_once(self) -> None:
        """End the connections that there are; others may come."""
        streams, self._streams = self._streams, []
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        with self._news:
            self._lines += 1
            self._news.notify_all()

    def serve(self, stream: socket.socket) -> None:
        """Answer calls until the connection ends."""
        self._streams.append(stream)
        held = b""
        while chunk := stream.recv(1 << 16):
            held += chunk
            while b"\0" in held:
                frame, _, held = held.partition(b"\0")
                self._answer(stream, msgspec.json.decode(frame))

    def _answer(self, stream: socket.socket, call: dict[str, Any]) -> None:
        method = call["method"].rpartition(".")[2]
        parameters = call.get("parameters") or {}
        self.asked.append(method)
        if self.silent.is_set():
            return
        if method in self.refuses:
            error = "org.varlink.service.MethodNotFound"
            self._send(stream, {"error": error, "parameters": {"method": method}})
            return
        answers = {"GetStatus": self._status, "Look": self._look, "Watch": self._watch}
        answers[method](stream, parameters)

    def _status(self, stream: socket.socket, parameters: dict[str, Any]) -> None:
        self.stocks += bool(parameters.get("ledger"))
        shown = () if parameters.get("cgroups") is False else self.cgroups
        self._send(stream, {"parameters": {"status": self._now(shown)}})

    def _now(self, cgroups: Sequence[CgroupStatus]) -> Status:
        return status(
            cgroups, started_at_us=self.started_at_us, decisions=len(self.decisions), ledger=_LEDGER
        )

    def _look(self, stream: socket.socket, parameters: dict[str, Any]) -> None:
        paths = tuple(parameters.get("paths") or ())
        self.looked.append(paths)
        self._reads += 1
        said = reading(
            NOW + self._reads * SECOND,
            memory_stall_us=self._reads * 5_000,
            cgroups=tuple(use(path, 5) for path in paths),
        )
        self._send(stream, {"parameters": {"reading": said}})

    def _watch(self, stream: socket.socket, parameters: dict[str, Any]) -> None:
        self.since.append(parameters.get("since"))
        sent = parameters.get("since") or 0
        self._send(stream, _item(status=self._now(())))
        while rows := self._newer(sent):
            for row in rows:
                self._send(stream, _item(decision=row))
            sent = rows[-1].number

    def _newer(self, number: int) -> list[DecisionRow]:
        """Wait for decisions with larger numbers; nothing where the daemon ends."""
        rows: list[DecisionRow] = []
        with self._news:
            line = self._lines
            while not rows and not self._ended and line == self._lines:
                rows = [row for row in self.decisions if row.number > number]
                if not rows and not self._news.wait(20):
                    break
        return rows

    def _send(self, stream: socket.socket, reply: dict[str, Any]) -> None:
        stream.sendall(msgspec.json.encode(reply) + b"\0")


def _item(**item: object) -> dict[str, Any]:
    return {"parameters": {"dropped": 0, **item}, "continues": True}


def paused(since_us: int) -> PauseStatus:
    """Memreact stays away."""
    return PauseStatus(
        since_us=since_us, because="guest_stall_over_limit", looks_at_us=since_us + SECOND
    )
