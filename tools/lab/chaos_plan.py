"""What goes wrong in a chaos run, and when: a seed and a length make the same plan every time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["KINDS", "Fault", "Kind", "plan"]

_REST_S = 1.5
"""Faults begin so far apart on average; most of them last longer, and so overlap."""

_SHARES = 1000
_EARLY = 2 / 3


class Kind(NamedTuple):
    """One way of going wrong.

    Args:
        what: It, in words, for the table.
        often: Its weight among the others once each of them was there.
        seconds: How long it lasts, at least and at most.
        by_host: QEMU does it, so that it is not asked of the guest.
        once: Not more often than once in a run.
        early: In the first two thirds alone, so that one daemon lives long enough to be measured.
    """

    what: str
    often: int
    seconds: tuple[float, float]
    by_host: bool = False
    once: bool = False
    early: bool = False


KINDS: Mapping[str, Kind] = {
    "churn": Kind("cgroups made and removed, 200 a second, hostile names", 3, (2.0, 6.0)),
    "hog": Kind("a hog in a cgroup with memory.high", 3, (2.0, 5.0)),
    "oom": Kind("a hog in a cgroup with memory.max: an OOM kill", 3, (1.0, 2.0)),
    "freeze": Kind("a cgroup frozen and thawed", 2, (1.0, 4.0)),
    "storm": Kind(
        "settings pushed and read over vsock, by Varlink and as Kata's client", 4, (2, 6)
    ),
    "leave": Kind("clients that die in mid-call, on vsock and unix sockets", 3, (0.5, 2.0)),
    "flood": Kind("300 silent connections to one vsock port", 2, (2.0, 4.0)),
    "hold": Kind("memreact paused by a call, and resumed", 3, (1.0, 4.0)),
    "stop": Kind("the unit stopped and started", 1, (1.0, 3.0), early=True),
    "kill": Kind("kill -9 of the daemon", 2, (0.1, 0.2), early=True),
    "halt": Kind("SIGSTOP and SIGCONT of the daemon", 2, (0.5, 4.0)),
    "clock": Kind("the time of day steps, by up to a day", 2, (0.1, 0.5)),
    "unread": Kind(
        "a file of the kernel's that is empty, cut, garbled, or cannot be read", 5, (2, 5)
    ),
    "unswap": Kind("the swap device in use vanishes, and comes again", 1, (1.0, 3.0)),
    "halt_vm": Kind("QEMU stops the guest and lets it go on", 2, (0.5, 2.5), by_host=True),
    "restore": Kind(
        "the guest is saved, and goes on in another QEMU", 1, (0, 0), by_host=True, once=True
    ),
}


class Fault(NamedTuple):
    """One thing that goes wrong.

    Args:
        at_s: When it begins, from the begin of the run.
        kind: A key of KINDS.
        seconds: How long it lasts.
        share: A number below 1000 by which it chooses among what it may do.
    """

    at_s: float
    kind: str
    seconds: float
    share: int


def plan(seed: int, seconds: float) -> tuple[Fault, ...]:
    """Make the plan of a run: every kind once if there is room, then by weight, in random order.

    Args:
        seed: The same one gives the same plan.
        seconds: The last fault has begun by then.
    """
    chance = random.Random(seed)  # noqa: S311  # to be repeatable is its use
    count = max(1, int(seconds / _REST_S))
    kinds = [*KINDS][:count] if count < len(KINDS) else [*KINDS]
    often = [name for name, kind in KINDS.items() if not kind.once for _ in range(kind.often)]
    kinds += [often[int(chance.random() * len(often))] for _ in range(count - len(kinds))]
    return tuple(sorted(_fault(chance, seconds, kind) for kind in kinds))


def _fault(chance: random.Random, seconds: float, kind: str) -> Fault:
    at_s = chance.random() * seconds * (_EARLY if KINDS[kind].early else 1)
    least, most = KINDS[kind].seconds
    lasts = least + chance.random() * (most - least)
    return Fault(round(at_s, 3), kind, round(lasts, 3), int(chance.random() * _SHARES))
