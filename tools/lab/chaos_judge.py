"""What must hold in a chaos run, judged by what the guest's kernel, clients and workloads saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from lab.chaos_plan import KINDS, Fault
from lab.workload import Line
from lab.workloads.ftrace import Seen

__all__ = ["INVARIANTS", "Run", "Span", "breaches", "stops", "table", "writes"]

_AWAY_US_MAX = 60_000_000
_LIFE_SAMPLES = 30
_EDGE_SAMPLES = 10
_GROWTH_KIB_MAX = 6 << 10
_GROWTH_FDS_MAX = 8
_PROBED = ("lru_gen", "reclaim")


class Span(NamedTuple):
    """From when to when, in microseconds of CLOCK_MONOTONIC, and in which thread or process."""

    from_us: int
    until_us: int
    who: int = 0


class Run(NamedTuple):
    """All that was seen of a run.

    Args:
        plan: What was to go wrong.
        lines: What the guest's part and the host's printed.
        kept: What the checked workloads printed, by their names.
        seen: Writes to lru_gen and memory.reclaim, as the kernel traced them.
        trace_lost: Events that the kernel's buffer had no room for.
        defects: Lines of the journal that tell of a mistake of ours.
    """

    plan: Sequence[Fault]
    lines: Sequence[Line]
    kept: Mapping[str, Sequence[Line]]
    seen: Sequence[Seen]
    trace_lost: int = 0
    defects: Sequence[str] = ()

    def told(self, *kinds: str) -> list[Line]:
        """Lines of these kinds."""
        return [line for line in self.lines if line.what in kinds]

    def total(self, name: str, *kinds: str) -> int:
        """The sum of a figure over all lines of these kinds."""
        return sum(int(line.figures.get(name, 0)) for line in self.told(*kinds))


def writes(seen: Sequence[Seen]) -> list[Span]:
    """Writes that the kernel saw, by their begin; one that never ended lasts to the end."""
    begun: dict[tuple[int, str], int] = {}
    found = []
    for each in seen:
        file, _, edge = each.event.rpartition("_")
        if file not in _PROBED:
            continue
        if edge == "in":
            begun[each.thread, file] = each.at_us
        elif (from_us := begun.pop((each.thread, file), None)) is not None:
            found.append(Span(from_us, each.at_us, each.thread))
    last_us = seen[-1].at_us if seen else 0
    found += [Span(from_us, last_us, thread) for (thread, _), from_us in begun.items()]
    return sorted(found)


def stops(run: Run) -> list[Span]:
    """When nobody might write: while it was paused, and while the unit was stopped.

    A pause ends with the daemon that was told of it, and with the first Resume.
    """
    held = [_span(line) for line in run.told("hold") if "from_us" in line.figures]
    stopped = [_span(line) for line in run.told("stop")]
    ends = [span.until_us for span in held] + [span.from_us for span in stopped]
    ends += [int(line.figures["began_us"]) for line in run.told("kill")]
    samples = run.told("sample")
    ends += [
        before.at_us
        for before, after in pairwise(samples)
        if before.figures["pid"] != after.figures["pid"]
    ]
    cut = [
        held_span._replace(until_us=min(end for end in ends if end >= held_span.from_us))
        for held_span in held
    ]
    return sorted(cut + stopped)


def _span(line: Line) -> Span:
    return Span(int(line.figures["from_us"]), int(line.figures["until_us"]))


def _alive(run: Run) -> Iterator[str]:
    for line in run.told("kill"):
        if not line.figures.get("back", 1):
            yield f"killed at {line.at_us} us, and not back after {line.figures['away_us']} us"
    for pid, group in groupby(run.told("sample"), key=lambda line: line.figures["pid"]):
        lasted = list(group)
        away_us = lasted[-1].at_us - lasted[0].at_us
        if not pid and away_us > _AWAY_US_MAX:
            yield f"no daemon for {away_us} us from {lasted[0].at_us} us on"
    ends = run.told("end")
    if not ends:
        yield "the run did not get to its end"
    elif not ends[0].figures["served"]:
        yield "nobody is served at the end"


def _protected(run: Run) -> Iterator[str]:
    looked = run.told("protected")
    if not looked:
        yield "nobody looked"
    for line in looked:
        for counter, pages in line.figures.items():
            if pages:
                yield f"{counter} is {pages}"


def _stopped(run: Run) -> Iterator[str]:
    spans = writes(run.seen)
    if not spans:
        yield "the kernel saw no write at all"
    for stop in stops(run):
        late = [span for span in spans if stop.from_us < span.from_us < stop.until_us]
        if late:
            after_us = late[0].from_us - stop.from_us
            yield f"{len(late)} writes began in a stop, the first {after_us} us after its answer"


def _one_worker(run: Run) -> Iterator[str]:
    last = Span(0, 0)
    for span in writes(run.seen):
        if span.who != last.who and span.from_us < last.until_us:
            yield f"thread {span.who} wrote at {span.from_us} us while {last.who} did"
        last = max(last, span, key=lambda each: each.until_us)


def _orphans(run: Run) -> Iterator[str]:
    for before, after in pairwise(run.told("sample")):
        if before.figures["orphans"] and after.figures["orphans"]:
            yield f"{after.figures['orphans']} processes without a parent at {after.at_us} us"


def _flat(run: Run) -> Iterator[str]:
    whole = [line for line in run.told("sample") if "anon_kib" in line.figures]
    lives = [list(group) for _, group in groupby(whole, key=lambda line: line.figures["pid"])]
    long = [life for life in lives if len(life) >= _LIFE_SAMPLES]
    if not long:
        yield f"no daemon lived for {_LIFE_SAMPLES} samples"
    for life in long:
        for name, most in (("anon_kib", _GROWTH_KIB_MAX), ("fds", _GROWTH_FDS_MAX)):
            first = min(line.figures[name] for line in life[_EDGE_SAMPLES : 2 * _EDGE_SAMPLES])
            last = min(line.figures[name] for line in life[-_EDGE_SAMPLES:])
            if last > first + most:
                yield f"{name} grew from {first} to {last} in {len(life)} samples"


def _whole(run: Run) -> Iterator[str]:
    if not run.total("answered", "storm"):
        yield "no push was answered"
    for name, words in (("half", "were half of one push"), ("refused", "pushes were refused")):
        if count := run.total(name, "storm"):
            yield f"{count} {words}"


def _answered(run: Run) -> Iterator[str]:
    for line in run.lines:
        if hung := line.figures.get("hung"):
            yield f"{line.what}: {hung} calls were neither answered nor closed"
    yield from (f"stuck: {', '.join(line.figures)}" for line in run.told("stuck"))


def _right(run: Run) -> Iterator[str]:
    for name, lines in run.kept.items():
        readings = [line for line in lines if line.what == "read"]
        if not readings:
            yield f"{name} was never read"
        elif wrong := readings[-1].figures["wrong"]:
            yield f"{name}: {wrong} readings were wrong"


def _no_defects(run: Run) -> Iterator[str]:
    yield from run.defects


def _happened(run: Run) -> Iterator[str]:
    if run.trace_lost:
        yield f"the kernel's trace lost {run.trace_lost} events"
    for line in run.lines:
        if line.what.startswith("failed "):
            yield f"{line.what}: {', '.join(key for key in line.figures if key != 'began_us')}"
    planned = Counter(fault.kind for fault in run.plan)
    made = Counter(line.what.removeprefix("failed ") for line in run.lines)
    for kind, count in planned.items():
        if made[kind] < count:
            yield f"{kind} was made {made[kind]} times of {count}"


INVARIANTS: Mapping[str, Callable[[Run], Iterator[str]]] = {
    "the daemon lives, or systemd brings it back": _alive,
    "no page of a protected cgroup is taken": _protected,
    "nothing is written after a stop": _stopped,
    "no two workers write at a time": _one_worker,
    "no child is left without a parent": _orphans,
    "memory and open files are flat": _flat,
    "settings are one push or another, whole": _whole,
    "every call is answered, or its connection closed": _answered,
    "the workloads' checksums are right": _right,
    "the journal tells of no defect": _no_defects,
    "all faults of the plan were made, and seen": _happened,
}
"""What must hold; each yields what does not, in words."""


def breaches(run: Run) -> dict[str, list[str]]:
    """By invariant, what breaks it; an empty list where it holds."""
    return {name: list(judge(run)) for name, judge in INVARIANTS.items()}


def table(run: Run) -> str:
    """Each kind of fault: how often, and what was seen of it, summed up; then the invariants."""
    rows = [f"{'fault':62} {'times':>5}  seen"]
    for name, kind in KINDS.items():
        lines = run.told(name)
        rows.append(f"{kind.what:62} {len(lines):5}  {_seen(lines)}")
    rows += ["", f"writes that the kernel saw: {len(writes(run.seen))}; stops: {len(stops(run))}"]
    for name, broken in breaches(run).items():
        rows.append(f"{'BROKEN' if broken else 'holds':7} {name}")
        rows += [f"        {words}" for words in broken[:_SHOWN]]
        rows += [f"        and {len(broken) - _SHOWN} more"] if len(broken) > _SHOWN else []
    return "\n".join(rows)


_SHOWN = 6
_UNSUMMED = {"began_us", "from_us", "until_us", "halted", "stepped_s", "share", "a_second"}


def _seen(lines: Sequence[Line]) -> str:
    sums: Counter[str] = Counter()
    for line in lines:
        for name, value in line.figures.items():
            if name not in _UNSUMMED:
                sums[name] += 1 if name == "killed" and line.what == "kill" else int(value)
    return ", ".join(f"{name} {value}" for name, value in sums.items() if value)
