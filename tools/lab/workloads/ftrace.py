"""The kernel's own word on a stop: who woke whom, when the kick came, what was evicted after it.

Source: Documentation/trace/ftrace.rst, trace_clock "mono" (CLOCK_MONOTONIC, as the daemon uses).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = [
    "EVENTS",
    "KICK",
    "WAITER",
    "WORKER",
    "Kick",
    "Kicks",
    "Seen",
    "Tracing",
    "kick_in",
    "kicks_in",
    "parse_trace",
    "probe",
    "reclaimed_pages",
]

_ROOT = "/sys/kernel/tracing"
_BUFFER_KB = 8192  # of each CPU: a round fills a small part
WAITER, WORKER = "memreact-waiter", "memreact-worker"
_NO_FILTER = "0"
KICK = 37  # SIGRTMIN + 3, as the kernel counts
EVENTS: Mapping[str, str] = {
    "sched/sched_waking": f'comm == "{WAITER}"',
    "signal/signal_generate": f"sig == {KICK}",
    "vmscan/mm_vmscan_lru_shrink_inactive": "",
}
_LINE = re.compile(r"\s*(.+)-(\d+)\s+\[\d+\]\s+\S+\s+(\d+)\.(\d{6}): (\w+): (.*)")
_RECLAIMED = re.compile(r"\bnr_reclaimed=(\d+)")


class Seen(NamedTuple):
    """One event: which task it happened in, when, what, the rest of its line, and the thread."""

    task: str
    at_us: int
    event: str
    text: str
    thread: int = 0


class Kick(NamedTuple):
    """The first kick since some moment, and the wake by the pressure thread that led to it."""

    at_us: int
    woken_us: int | None


class Kicks(NamedTuple):
    """The first kicks after one wake, each of its path; None is one that was not seen."""

    woken_us: int
    by_kernel_us: int | None
    by_thread_us: int | None

    @property
    def first_us(self) -> int | None:
        """The moment of that which came first."""
        return min((at for at in self[1:] if at is not None), default=None)


class Tracing:
    """The events, recorded from now on.

    Args:
        events: Each with the condition by which it is filtered, or an empty one.

    Raises:
        OSError: This kernel has no tracefs, or not these events.
    """

    def __init__(self, events: Mapping[str, str] = EVENTS) -> None:
        _mount()
        _write("trace_clock", "mono")
        _write("buffer_size_kb", str(_BUFFER_KB))
        for event, condition in events.items():
            _write(f"events/{event}/filter", condition or _NO_FILTER)
            _write(f"events/{event}/enable", "1")

    def clear(self) -> None:
        """Forget what was recorded."""
        _write("trace", "")

    def pause(self) -> None:
        """Record no more, so that what is there can be read from outside."""
        _write("tracing_on", "0")

    def seen(self) -> list[Seen]:
        """All since the last `clear`, in the order of time."""
        with open(f"{_ROOT}/trace") as file:
            return parse_trace(file)


def probe(definitions: Iterable[str]) -> None:
    """Make events of functions of the kernel's, by Documentation/trace/kprobetrace.rst."""
    _mount()
    # Opened without O_APPEND it would forget the events that it has; Python's "a" seeks, and fails.
    fd = os.open(f"{_ROOT}/kprobe_events", os.O_WRONLY | os.O_APPEND)
    with os.fdopen(fd, "wb", buffering=0) as file:
        for definition in definitions:
            file.write(f"{definition}\n".encode())


def _mount() -> None:
    if not os.path.exists(f"{_ROOT}/trace"):
        subprocess.run(["mount", "-t", "tracefs", "tracefs", _ROOT], check=True)


def _write(name: str, text: str) -> None:
    with open(f"{_ROOT}/{name}", "w") as file:
        file.write(text)


def parse_trace(lines: Iterable[str]) -> list[Seen]:
    """Read the text form of the trace; what is no event is left out."""
    matches = (_LINE.fullmatch(line.rstrip("\n")) for line in lines)
    return [
        Seen(match[1], int(match[3]) * 1_000_000 + int(match[4]), match[5], match[6], int(match[2]))
        for match in matches
        if match
    ]


def kick_in(seen: Iterable[Seen], since_us: int, until_us: int) -> Kick | None:
    """The first kick in a span of time.

    The waiting thread is also woken when it gets the interpreter's lock; what counts is the last
    wake by psimon, the thread that fires triggers, before the kick.
    """
    woken_us = None
    for each in seen:
        if not since_us <= each.at_us <= until_us:
            continue
        if each.event == "sched_waking" and each.task.startswith("psimon"):
            woken_us = each.at_us
        if each.event == "signal_generate":
            return Kick(each.at_us, woken_us)
    return None


def kicks_in(seen: Sequence[Seen], waiter: int) -> Kicks | None:
    """The first kick by the kernel, and by the waiting thread; None if no wake led to any.

    Args:
        seen: Wakes of one waiting thread and kicks of one worker.
        waiter: That thread.
    """
    first = kick_in(seen, 0, sys.maxsize)
    if first is None or first.woken_us is None:
        return None
    kicks = [each for each in seen if each.event == "signal_generate"]
    by_kernel = (each.at_us for each in kicks if each.thread != waiter)
    by_thread = (each.at_us for each in kicks if each.thread == waiter)
    return Kicks(first.woken_us, next(by_kernel, None), next(by_thread, None))


def reclaimed_pages(seen: Iterable[Seen], since_us: int, until_us: int) -> int:
    """Pages that memreact's worker took in a span of time."""
    return sum(
        int(match[1])
        for each in seen
        if each.event == "mm_vmscan_lru_shrink_inactive"
        and each.task == WORKER
        and since_us < each.at_us <= until_us
        and (match := _RECLAIMED.search(each.text))
    )
