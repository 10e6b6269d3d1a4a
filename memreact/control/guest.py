"""What callers may ask of the rest of the daemon: its answers, and none of what carries them.

What speaks with callers is loaded for the first of them (docs/decisions/0022), so nothing here may
load it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from memreact.actions import Because
    from memreact.events import Event, Instant
    from memreact.settings.layers import Settings
    from memreact.telemetry.ledger import Ledger
    from memreact.telemetry.recorder import Recorder
    from memreact.telemetry.squeezes import SqueezeFeed
    from memreact_schemas.control import WhatIfCgroup, WhatIfTurn
    from memreact_schemas.doctor import Report
    from memreact_schemas.explanation import Explanation
    from memreact_schemas.status import CgroupStatus, DecisionRow, GuestReading, Status
    from memreact_schemas.swap import AddSwap, RemoveSwap, SwapAdded, SwapAreas, SwapRemoved

__all__ = ["Foreseen", "Guest", "Squeezer", "Swapper"]


class Foreseen(NamedTuple):
    """What a turn would come to; see `memreact_schemas.control.WhatIfAnswer`."""

    now: WhatIfTurn
    then: WhatIfTurn
    cgroups: tuple[WhatIfCgroup, ...]
    left_out: int
    held_up: str | None
    rate_measured: bool


class Squeezer(NamedTuple):
    """What a squeeze asks of the rest of the daemon.

    Args:
        why_not: Says why none can begin now, for a cgroup and those below it.
        handle: Takes an event in, and returns when it is decided on.
        feed: Tells what becomes of it.
        ledger: Tells where the memory was when it was read last.
        take_stock: Reads where the memory is.
        swap: Says whether anonymous memory may go by the settings.
        clock: Reads the moment.
        page_bytes: Of one page.
        held_until: Says until when what a squeeze reached is kept; None where nothing is.
    """

    why_not: Callable[[str], Because | None]
    handle: Callable[[Event], object]
    feed: SqueezeFeed
    ledger: Callable[[], Ledger]
    take_stock: Callable[[], Awaitable[None]]
    swap: Callable[[], bool]
    clock: Callable[[], Instant]
    page_bytes: int
    held_until: Callable[[], Instant | None] = lambda: None


class Swapper(NamedTuple):
    """What takes disks into use, and gives them back; each raises SwapTrouble where it cannot.

    Whoever is cancelled while it waits ends what it has begun.

    Args:
        areas: Lists what is in use.
        add: Takes a disk into use.
        remove: Gives one back.
        add_at: Takes into use whatever disk with a signature is plugged in at a PCI path.
        add_path: Takes the disk that a path leads to, if its name is one of ours.
    """

    areas: Callable[[], Awaitable[SwapAreas]]
    add: Callable[[AddSwap], Awaitable[SwapAdded]]
    remove: Callable[[RemoveSwap], Awaitable[SwapRemoved]]
    add_at: Callable[[str], Awaitable[SwapAdded]]
    add_path: Callable[[str], Awaitable[SwapAdded]]


def _not_possible(why: str) -> NoReturn:
    from memreact.control.service import not_possible  # noqa: PLC0415  # see above

    raise not_possible(why)


async def _no_explanation(_: str) -> NoReturn:
    _not_possible("nothing is explained here")


async def _no_prospects(_: Settings) -> NoReturn:
    _not_possible("nothing is foreseen here")


def _no_ledger(*_: object) -> NoReturn:
    _not_possible("no ledger is kept here")


def _no_look(*_: object) -> NoReturn:
    _not_possible("nobody reads here")


class Guest(NamedTuple):
    """What the service asks of the rest of the daemon.

    Args:
        status: Tells what goes on, with these cgroups in it.
        whole_status: Tells what goes on with all cgroups in it, which are written already; between
            some of them it lets the loop go on.
        cgroups: Tells of all cgroups, or of one and those below it, one after the other, as they
            were when it was called.
        cgroups_total: Says how many there are.
        doctor: Finds out what can be done here; it reads many files, so it is run on a thread.
        handle: Takes an event in, and returns when it is decided on.
        why_not_run: Says why no turn can begin now.
        clock: Reads the moment.
        take_stock: Reads where the memory is, for the ledger in a status.
        host_holds: Takes in what the host said that it holds.
        squeezer: Squeezes; None where nobody does.
        look: Reads what the kernel says now, and the use of these cgroups.
        kept: Gives the decisions that are kept and were made after this number, oldest first.
        explain: Explains one cgroup; None where there is none. Called again only when it is done.
        recorder: Records; None where nobody does.
        foresee: Tells what a turn would come to by other settings, and touches nothing.
        swapper: Takes disks into use as swap; None where nobody does.
    """

    status: Callable[[tuple[CgroupStatus, ...]], Status]
    whole_status: Callable[[], Awaitable[Status]]
    cgroups: Callable[[str | None], Iterator[CgroupStatus]]
    doctor: Callable[[], Report]
    handle: Callable[[Event], object]
    why_not_run: Callable[[str | None], Because | None]
    clock: Callable[[], Instant]
    cgroups_total: Callable[[], int] = int
    take_stock: Callable[[], Awaitable[None]] = _no_ledger
    host_holds: Callable[[int], None] = _no_ledger
    squeezer: Squeezer | None = None
    look: Callable[[Sequence[str]], Awaitable[GuestReading]] = _no_look
    kept: Callable[[int], Iterator[DecisionRow]] = lambda _: iter(())
    explain: Callable[[str], Awaitable[Explanation | None]] = _no_explanation
    recorder: Recorder | None = None
    foresee: Callable[[Settings], Awaitable[Foreseen]] = _no_prospects
    swapper: Swapper | None = None
