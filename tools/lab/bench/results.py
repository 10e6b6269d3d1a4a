"""What was measured, as lines of a result file: each is kept as soon as it is there. Pure.

A series that was broken off goes on where it was: what the file has is not measured again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

__all__ = [
    "STALL",
    "Costs",
    "Harm",
    "Held",
    "Machine",
    "Micro",
    "Result",
    "Run",
    "Stops",
    "line_of",
    "missing",
    "read_results",
]


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured.

    Args:
        cpus: Of the machine that measured.
        memory_mib: Of the same.
        kernel: The one it runs.
        load: Of the last minute when the measurement began: 0 is a quiet machine.
        guest: The guest's kernel and size, and how its processor is made; empty without a guest.
    """

    cpus: int
    memory_mib: int
    kernel: str
    load: float
    guest: str = ""


class Micro(msgspec.Struct, frozen=True, tag="micro"):
    """One part of memreact, on this machine without a guest.

    Args:
        name: Of the part.
        values_us: How long it took, each time.
        commit: Of memreact.
        machine: Where.
    """

    name: str
    values_us: tuple[float, ...]
    commit: str
    machine: Machine


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What the host held of the guest, so many seconds after the rival was started."""

    at_s: float
    held_bytes: int


class Costs(msgspec.Struct, frozen=True):
    """What a rival used, once it was started, until the end of the run.

    Args:
        start_us: Processor time of its own processes until it was started.
        user_us: Processor time of its own processes outside of the kernel.
        system_us: The same, inside.
        kernel_us: Processor time of the kernel's threads that reclaim, monitor, compact and count
            pressure, by their kind; of a thread that has ended, nothing.
        switches: How often one of its threads, or of kdamond's, was given a processor.
        rss_bytes: Of its processes at the end.
        anon_bytes: Of these, what is anonymous.
        private_bytes: Of these, what nobody shares.
    """

    start_us: int = 0
    user_us: int = 0
    system_us: int = 0
    kernel_us: dict[str, int] = {}
    switches: int = 0
    rss_bytes: int = 0
    anon_bytes: int = 0
    private_bytes: int = 0


class Harm(msgspec.Struct, frozen=True):
    """What the workload paid meanwhile; None is what it does not tell.

    Args:
        major_faults: Of the guest.
        refaults: Pages that came back after they had been evicted.
        stalled_us: The guest's stall on memory and on io together.
        long_passes: Passes over the hot set that took more than 5 ms.
        lost_us: Time over these 5 ms.
        passes: All of them.
        p50_us: Half of redis's requests were answered within it.
        p99_us: All but one in a hundred.
        job_us: A job, the first time.
        rerun_us: The same job again, at the end.
    """

    major_faults: int
    refaults: int
    stalled_us: int
    long_passes: int | None = None
    lost_us: int | None = None
    passes: int | None = None
    p50_us: int | None = None
    p99_us: int | None = None
    job_us: int | None = None
    rerun_us: int | None = None


class Run(msgspec.Struct, frozen=True, tag="run"):
    """One rival beside one workload in one guest.

    Args:
        workload: Its name.
        rival: Its name.
        number: Which of the runs, from 1.
        seconds: From the rival's start to its end.
        held: What the host held, over that time.
        free_held_bytes: Free in the guest at the end, and the host holds it nevertheless.
        zram_bytes: What zram takes at the end.
        costs: Of the rival.
        harm: To the workload.
        steal_us: Processor time that the guest wanted and did not get.
        commit: Of memreact.
        machine: Where.
        note: What a reader has to know of this one; empty for nothing.
    """

    workload: str
    rival: str
    number: int
    seconds: float
    held: tuple[Held, ...]
    free_held_bytes: int
    zram_bytes: int
    costs: Costs
    harm: Harm
    steal_us: int
    commit: str
    machine: Machine
    note: str = ""


class Stops(msgspec.Struct, frozen=True, tag="stops"):
    """Evictions of one rival that were interrupted.

    Args:
        rival: Its name.
        number: Which of the runs, from 1.
        latency_us: How long evictions went on, by what interrupted them.
        taken_bytes: How much they took meanwhile.
        voids: Rounds that told nothing, by why.
        commit: Of memreact.
        machine: Where.
    """

    rival: str
    number: int
    latency_us: dict[str, tuple[int, ...]]
    taken_bytes: dict[str, tuple[int, ...]]
    voids: dict[str, int]
    commit: str
    machine: Machine


Result = Micro | Run | Stops
STALL = "stall"
"""The workload that interrupts."""


def read_results(data: bytes) -> list[Result]:
    """All whole lines; one that was being written when the power went is left out.

    Raises:
        ValueError: A line is no result, and which.
    """
    found: list[Result] = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            found.append(msgspec.json.decode(line, type=Result))
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number} is no result: {error}") from error
    return found


def line_of(result: Result) -> bytes:
    """The line to append."""
    return msgspec.json.encode(result) + b"\n"


def missing(
    results: Iterable[Result], workloads: Iterable[str], rivals: Iterable[str], runs: int
) -> list[tuple[str, str, int]]:
    """What is still to run, so that rivals of one number follow one another, every other time back.

    Alternating, because a machine that grows slow or busy would else be one rival's fault.
    """
    have = {
        (STALL if isinstance(r, Stops) else r.workload, r.rival, r.number)
        for r in results
        if not isinstance(r, Micro)
    }
    there, back = tuple(rivals), tuple(rivals)[::-1]
    order = [
        (workload, rival, number)
        for workload in workloads
        for number in range(1, runs + 1)
        for rival in (there if number % 2 else back)
    ]
    return [each for each in order if each not in have]
