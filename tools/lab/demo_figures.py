"""What the demo measured, what follows from it, and whether it shows what it should. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

__all__ = [
    "Held",
    "Latency",
    "Moment",
    "Returned",
    "Stop",
    "Story",
    "Waited",
    "decode_requests",
    "decode_waited",
    "failures",
    "find_stop",
    "gib_minutes_saved",
    "latency",
    "table",
]

_MIB = 1 << 20
_COLD_BACK_PERCENT = 90
# A p99 of 800 requests under emulation jumps from window to window, with nothing going on.
_NOISE = 1.5
_NOISE_US = 1000
_ORDER = 10
_RECORD = struct.Struct("<QQ")


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Guest memory that the host holds at a moment, in seconds since the demo began."""

    at_s: float
    held_bytes: int


class Latency(msgspec.Struct, frozen=True):
    """Of the requests of one span of time."""

    requests: int
    p50_us: int
    p99_us: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What the guest and the host held at one moment.

    Args:
        held_bytes: Guest memory that the host holds.
        swapped_bytes: Anonymous memory in zram, before it is compressed.
        zram_bytes: What zram uses for it.
    """

    held_bytes: int
    swapped_bytes: int
    zram_bytes: int


@dataclass(frozen=True, slots=True)
class Returned:
    """What went back from one moment to a later one.

    Args:
        before: Without memreact.
        after: Later.
        cold_bytes: Page frames that the cold files took before.
        cold_back_bytes: Those of them that lie in blocks the host was told of, later.
    """

    before: Moment
    after: Moment
    cold_bytes: int
    cold_back_bytes: int

    @property
    def anon_bytes(self) -> int:
        """Anonymous memory that was evicted, less what zram grew by."""
        swapped = self.after.swapped_bytes - self.before.swapped_bytes
        return swapped - (self.after.zram_bytes - self.before.zram_bytes)

    @property
    def cold_back_percent(self) -> float:
        """What came back, as a share of the cold files."""
        return 100 * self.cold_back_bytes / max(1, self.cold_bytes)


@dataclass(frozen=True, slots=True)
class Stop:
    """How an eviction ended after a stall began.

    Args:
        after_us: From the first stalled microsecond to the end of the last write; below zero
            where that came first.
        because: Why, as memreact says.
        evicted_pages: By the whole eviction, as memreact says.
    """

    after_us: int
    because: str
    evicted_pages: int


@dataclass(frozen=True, slots=True)
class Waited:
    """What redis waited while it had too little memory, as memreact explained it.

    Args:
        stalled_us: memory.pressure's total grew by so much.
        by_kind_us: What its processes waited meanwhile, by kind.
    """

    stalled_us: int
    by_kind_us: dict[str, int]

    @property
    def agree(self) -> bool:
        """Whether both are of one order of magnitude."""
        waited_us = sum(self.by_kind_us.values())
        return self.stalled_us > 0 and self.stalled_us < _ORDER * waited_us < (
            _ORDER**2 * self.stalled_us
        )


@dataclass(frozen=True, slots=True)
class Story:
    """All that the table tells."""

    returned: Returned
    saved_gib_min: float
    before: tuple[Latency, ...]
    during: Latency
    after: Latency
    stop: Stop | None
    waited: Waited | None


class _Because(msgspec.Struct):
    code: str
    saw: dict[str, int | str] = {}


class _Decision(msgspec.Struct):
    verdict: str
    because: _Because
    path: str = ""


class _Event(msgspec.Struct):
    type: str
    path: str = ""
    ended_at: int = 0


class _Entry(msgspec.Struct):
    at: int
    event: _Event
    decisions: list[_Decision] = []


class _Pressure(msgspec.Struct):
    memory_total_us: int


class _Delays(msgspec.Struct):
    reclaim_us: int = 0
    swap_in_us: int = 0
    thrashing_us: int = 0
    compact_us: int = 0


class _Harm(msgspec.Struct):
    since_last_look: _Delays | None = None


class _Explanation(msgspec.Struct):
    pressure: _Pressure
    harm: _Harm


class _Explained(msgspec.Struct):
    explanation: _Explanation


_LIMIT_HIT = "limit_hit"
_STALL_CODES = ("stall", _LIMIT_HIT)


def decode_requests(log: bytes) -> list[tuple[int, int]]:
    """Moments and durations in microseconds; a last record that is half written is left out."""
    whole = len(log) // _RECORD.size * _RECORD.size
    return list(_RECORD.iter_unpack(log[:whole]))


def decode_waited(before: str, after: str) -> Waited | None:
    """Compare two answers of `memreact-ctl explain --json`; None where no delays were told."""
    first, second = (
        msgspec.json.decode(text, type=_Explained).explanation for text in (before, after)
    )
    delays = second.harm.since_last_look
    if delays is None:
        return None
    stalled_us = second.pressure.memory_total_us - first.pressure.memory_total_us
    by_kind = {name.removesuffix("_us"): us for name, us in msgspec.structs.asdict(delays).items()}
    return Waited(stalled_us, by_kind)


def latency(requests: Iterable[tuple[int, int]], from_us: int, until_us: int) -> Latency:
    """Percentiles, nearest rank, of the requests that were due in this span.

    Raises:
        ValueError: There are none.
    """
    took = sorted(us for at, us in requests if from_us <= at < until_us)
    if not took:
        raise ValueError(f"no request was due from {from_us} to {until_us} us")
    return Latency(len(took), _percentile(took, 50), _percentile(took, 99))


def _percentile(ordered: Sequence[int], percent: int) -> int:
    return ordered[-(-len(ordered) * percent // 100) - 1]


def gib_minutes_saved(held: Sequence[Held]) -> float:
    """Area between the first figure, had it stayed, and what the host held; negative if it grew."""
    total = 0.0
    for left, right in pairwise(held):
        saved_bytes = held[0].held_bytes - (left.held_bytes + right.held_bytes) / 2
        total += saved_bytes * (right.at_s - left.at_s)
    return total / 2**30 / 60


def find_stop(trace: bytes, cgroup: str, asked_us: int, stalled_us: int) -> Stop | None:
    """Find in memreact's trace how the eviction of a cgroup ended once a stall was made.

    The limit that makes somebody stall may be heard of before anybody has.

    Args:
        trace: As far as it goes.
        cgroup: Its path.
        asked_us: When the stall was asked for.
        stalled_us: When somebody stalled for the first time.

    Returns:
        None where the stall was not the reason, or no write was under way when it was made.
    """
    lines = trace[: trace.rfind(b"\n") + 1].splitlines()
    steps = (line for line in lines if b'"event":{' in line)
    entries = [msgspec.json.decode(line, type=_Entry) for line in steps]
    ended_us = [
        entry.event.ended_at
        for entry in entries
        if entry.event.type == "BatchEnded" and entry.event.path == cgroup
    ]
    end = next(
        (
            (entry.at, decision.because)
            for entry in entries
            if entry.at >= asked_us
            for decision in entry.decisions
            if decision.path == cgroup and decision.verdict == "end"
        ),
        None,
    )
    if end is None or not any(word in end[1].code for word in _STALL_CODES):
        return None
    # A write that ends before its end is told belongs to the run; the next turn's do not.
    since_us = asked_us if end[1].code == _LIMIT_HIT else stalled_us
    last_us = max((us for us in ended_us if since_us <= us <= end[0]), default=None)
    if last_us is None:
        return None
    pages = end[1].saw.get("evicted_pages", 0)
    return Stop(last_us - stalled_us, end[1].code, pages if isinstance(pages, int) else 0)


def failures(story: Story) -> list[str]:
    """What the run does not show, a sentence each; empty when it shows everything."""
    found = []
    percent = story.returned.cold_back_percent
    if percent < _COLD_BACK_PERCENT:
        found.append(
            f"only {percent:.0f} % of the cold file cache is back with the host after 4 periods, "
            f"not {_COLD_BACK_PERCENT} %"
        )
    most_us = _NOISE * max(window.p99_us for window in story.before) + _NOISE_US
    for when, seen in (("while memreact evicted", story.during), ("afterwards", story.after)):
        if seen.p99_us > most_us:
            found.append(
                f"redis's p99 {when} was {seen.p99_us / 1000:.1f} ms; without memreact the noise "
                f"reaches to {most_us / 1000:.1f} ms"
            )
    if story.stop is None:
        found.append("no eviction was seen to stop because of the stall")
    if story.waited is None or not story.waited.agree:
        found.append("what redis waited when it was short of memory is not what it stalled")
    return found


def table(story: Story) -> str:
    """All figures, a line each."""
    back = story.returned
    mib = [f"{value / _MIB:8.0f} MiB" for value in (back.before.held_bytes, back.after.held_bytes)]
    swapped = back.after.swapped_bytes - back.before.swapped_bytes
    rows = [
        ("guest memory held, before", mib[0]),
        ("guest memory held, 4 periods later", mib[1]),
        (
            "cold file cache back",
            _show_cold(back),
        ),
        (
            "anonymous evicted, net of zram",
            f"{back.anon_bytes / _MIB:8.0f} MiB ({swapped / _MIB:.0f} evicted)",
        ),
        ("saved", f"{story.saved_gib_min:8.2f} GiB·min"),
        *(
            (f"redis without memreact, window {number}", _show(window))
            for number, window in enumerate(story.before, 1)
        ),
        ("redis while memreact evicts", _show(story.during)),
        ("redis afterwards", _show(story.after)),
        ("first stalled microsecond to stop", _show_stop(story.stop)),
        ("redis short of memory, stalled", _show_waited(story.waited)),
    ]
    return "\n".join(f"  {name:36}{text}" for name, text in rows)


def _show_cold(back: Returned) -> str:
    told, cold = back.cold_back_bytes / _MIB, back.cold_bytes / _MIB
    return f"{told:8.0f} MiB of {cold:.0f} ({back.cold_back_percent:.0f} %, by page frame)"


def _show(seen: Latency) -> str:
    return (
        f"{seen.p50_us / 1000:8.1f} ms p50 {seen.p99_us / 1000:8.1f} ms p99 "
        f"({seen.requests} requests)"
    )


def _show_stop(stop: Stop | None) -> str:
    if stop is None:
        return "     not seen"
    return f"{stop.after_us / 1000:8.1f} ms ({stop.because}; {stop.evicted_pages} pages evicted)"


def _show_waited(waited: Waited | None) -> str:
    if waited is None:
        return "     not told"
    kinds = ", ".join(f"{name} {us / 1000:.0f}" for name, us in waited.by_kind_us.items())
    return f"{waited.stalled_us / 1000:8.0f} ms; waited, ms: {kinds}"
