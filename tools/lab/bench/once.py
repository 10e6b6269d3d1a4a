"""One rival beside one workload in one guest, from its restore to the figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from lab.bench.loads import LOADS, Load
from lab.bench.machine import commit, guest_machine
from lab.bench.results import Costs, Harm, Held, Run
from lab.bench.rivals import RIVALS, Rival
from lab.free_frames import free_yet_held
from lab.guest import Guest
from lab.installed import Installed
from lab.machine import MachineOptions
from lab.workload import zram_swap

__all__ = ["Probed", "costs_of", "harm_of", "run_once"]

_PROBE = Path(__file__).with_name("in_guest") / "probe.py"
_THERE = "/run/bench-probe.py"
_ZRAM_MIB = 512
_SETTLE_S = 10.0  # until what loading has freed is reported to the host
_SAMPLE_S = 2.0


class Probed(msgspec.Struct, frozen=True):
    """What the guest's probe prints."""

    at_us: int
    kernel_us: dict[str, int]
    kernel_switches: int
    major_faults: int
    refaults: int
    stalled_us: int
    steal_us: int
    zram_bytes: int
    user_us: int = 0
    system_us: int = 0
    switches: int = 0
    rss_bytes: int = 0
    anon_bytes: int = 0
    private_bytes: int = 0


def run_once(package: Path, workload: str, rival: str, number: int, seconds: float) -> Run:
    """Do it.

    Args:
        package: Of memreact, installed in every guest, whoever is measured.
        workload: A name of LOADS.
        rival: A name of RIVALS.
        number: Which run this is.
        seconds: From the rival's start to the figures.

    Raises:
        LabError: The guest, the workload or the rival failed.
    """
    with Guest.restore(MachineOptions(), package=package) as guest:
        machine = guest_machine(guest)
        Installed(guest).stop()
        zram_swap(guest, _ZRAM_MIB)
        guest.put(_PROBE, _THERE)
        load = LOADS[workload](guest)
        load.begin()
        time.sleep(_SETTLE_S)
        contender = RIVALS[rival](guest, load.pace)
        held, (before, started, after) = _watched(guest, load, contender, seconds)
        free_held_bytes = free_yet_held(guest).all_bytes
        return Run(
            workload=workload,
            rival=rival,
            number=number,
            seconds=held[-1].at_s,
            held=held,
            free_held_bytes=free_held_bytes,
            zram_bytes=after.zram_bytes,
            costs=costs_of(before, started, after),
            harm=harm_of(before, after, load.paid(after.at_us)),
            steal_us=after.steal_us - before.steal_us,
            commit=commit(),
            machine=machine,
            note="; ".join(filter(None, (contender.note, contender.ended()))),
        )


def _watched(
    guest: Guest, load: Load, rival: Rival, seconds: float
) -> tuple[tuple[Held, ...], tuple[Probed, Probed, Probed]]:
    """Start the rival, and look at the guest from outside until the time is over.

    Returns what the host held, and what the probe saw before the rival was started, once it was,
    and at the end.
    """
    before = _probe(guest, "")
    load.watch(before.at_us)
    began = time.monotonic()
    held = [Held(0.0, guest.held_bytes())]
    cgroup = rival.start()
    time.sleep(load.settled_s)
    started = _probe(guest, cgroup)
    while (at := time.monotonic() - began) < seconds:
        time.sleep(min(_SAMPLE_S, seconds - at))
        held.append(_held(guest.held_bytes, began))
    return tuple(held), (before, started, _probe(guest, cgroup))


def _held(read: Callable[[], int], began: float) -> Held:
    return Held(round(time.monotonic() - began, 2), read())


def _probe(guest: Guest, cgroup: str) -> Probed:
    words = ["/usr/bin/python3", "-I", _THERE, cgroup]
    return msgspec.json.decode(guest.run(words, timeout_s=120).stdout, type=Probed)


def costs_of(before: Probed, started: Probed, after: Probed) -> Costs:
    """What the rival used: to start, and from then on.

    Args:
        before: What was seen before it was started.
        started: What was seen once it was.
        after: What was seen at the end.
    """
    return Costs(
        start_us=started.user_us + started.system_us,
        user_us=after.user_us - started.user_us,
        system_us=after.system_us - started.system_us,
        kernel_us={
            kind: max(0, used - before.kernel_us.get(kind, 0))  # less, if a thread has ended
            for kind, used in after.kernel_us.items()
        },
        switches=after.switches
        - started.switches
        + after.kernel_switches
        - started.kernel_switches,
        rss_bytes=after.rss_bytes,
        anon_bytes=after.anon_bytes,
        private_bytes=after.private_bytes,
    )


def harm_of(before: Probed, after: Probed, paid: dict[str, int]) -> Harm:
    """What the kernel counted between two looks, and what the workload told."""
    return msgspec.convert(
        {
            "major_faults": after.major_faults - before.major_faults,
            "refaults": after.refaults - before.refaults,
            "stalled_us": after.stalled_us - before.stalled_us,
            **paid,
        },
        Harm,
    )
