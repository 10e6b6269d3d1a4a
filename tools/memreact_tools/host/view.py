"""`memreact-host view`: what the host holds of each guest beside what the guest says of it.

    held = in use + free and not told + reported, yet held - never touched - swapped out

The host reads its own pages, the guest its own; what does not agree has a name in each row.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.control import INTERFACE, GetStatus, HostHolds, StatusAnswer
from memreact_schemas.status import LedgerStatus
from memreact_tools.address import Address, AddressError, CouldNotConnect, connect
from memreact_tools.ctl.amounts import amount, bounded
from memreact_tools.ctl.show import refusal_in_words
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused, call
from memreact_tools.decoding import decoded
from memreact_tools.host.machines import Machine, MachineError, machines_here
from memreact_tools.host.qmp import QmpTrouble
from memreact_tools.host.smaps import Held, NoGuestMemory, guest_memory, parse_smaps
from memreact_tools.plain import plain, plain_json

__all__ = ["GuestView", "explained", "view", "view_of"]

_DONE, _COULD_NOT, _MISUSED = 0, 1, 2
_GIB_HOUR = (1 << 30) * 3600
_AT_ONCE = 16
_NOTABLE_BYTES = 1 << 20


class GuestView(Struct, frozen=True, kw_only=True):
    """One guest, seen from both sides; None is what could not be read.

    Args:
        name: As its monitor calls it.
        pid: Of its process.
        address: Where its memreact was asked.
        mapped_bytes: Its memory, as the monitor made it.
        held_bytes: Of that, what is in the host's memory.
        held_share_bytes: The same, with what several processes share counted in part.
        swapped_bytes: What the host swapped out.
        total_bytes: What its kernel has to give.
        free_bytes: Free in it.
        reportable_bytes: Free in blocks that can be reported.
        reported_bytes: Free, and the host was told so.
        returned_bytes: By so much less is held than when the host first told the guest.
        gib_hours: What stayed reported, over time.
        reporting: False where evictions of the last hour led to nothing reported.
        because_bytes: What is held, by cause; what lowers it is negative.
        trouble: What could not be read, and why.
    """

    name: str
    pid: int
    address: str | None = None
    mapped_bytes: int | None = None
    held_bytes: int | None = None
    held_share_bytes: int | None = None
    swapped_bytes: int | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    reportable_bytes: int | None = None
    reported_bytes: int | None = None
    returned_bytes: int | None = None
    gib_hours: float | None = None
    reporting: bool | None = None
    because_bytes: dict[str, int] = {}
    trouble: tuple[str, ...] = ()


class _Silent(Exception):  # noqa: N818  # reads as what happened
    """A guest's memreact could not be asked, or said no."""


def view(asked: Namespace, *, proc: str = "/proc") -> int:
    """Print one line for each guest; 0 if all could be read, 1 if not, 2 misused."""
    try:
        machines = machines_here(asked.guests, port=asked.port, timeout_s=asked.timeout, proc=proc)
    except (MachineError, AddressError) as error:
        return _fails(str(error), _MISUSED)
    except (QmpTrouble, OSError) as error:
        return _fails(str(error), _COULD_NOT)
    if not machines:
        return _fails("no virtual machine runs here that is known by its name: try pid:N", 1)
    views = _all(machines, asked, proc)
    if asked.json:
        print(plain_json(msgspec.json.encode(views).decode()))
    else:
        print("\n".join(plain(line) for line in _table(views)))
    return _COULD_NOT if any(each.trouble for each in views) else _DONE


def _fails(why: str, code: int) -> int:
    print(f"memreact-host: {plain(why)}", file=sys.stderr)
    return code


def _all(machines: Sequence[Machine], asked: Namespace, proc: str) -> list[GuestView]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # only for this verb

    def one(machine: Machine) -> GuestView:
        return view_of(machine, tell=asked.tell, timeout_s=asked.timeout, proc=proc)

    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(machines))) as pool:
        return list(pool.map(one, machines))


def view_of(
    machine: Machine, *, tell: bool = False, timeout_s: float = 5.0, proc: str = "/proc"
) -> GuestView:
    """Look at one guest from both sides.

    Args:
        machine: Which.
        tell: Tell the guest what the host holds of it.
        timeout_s: How long it may take to answer.
        proc: Where the host's processes are.
    """
    trouble: list[str] = []
    held = ledger = None
    try:
        held = _held(machine, proc)
    except (OSError, NoGuestMemory) as error:
        trouble.append(f"process {machine.pid}: {error}")
    try:
        ledger = _ledger(machine.address, timeout_s, afresh=True)
        if held is not None and not machine.sizes:  # the guest knows how large it is
            held = _held(machine, proc, ledger.total_bytes)
        if tell and held is not None:
            said = HostHolds(held_bytes=held.rss_bytes)
            _asked(machine.address, "HostHolds", said, timeout_s)
            ledger = _ledger(machine.address, timeout_s, afresh=False)
    except (OSError, NoGuestMemory, _Silent) as error:
        trouble.append(str(error))
    except Exception as error:  # noqa: BLE001  # whatever a guest says, the others have their rows
        trouble.append(_unreadable(machine, error))
    try:
        return _both(machine, held, ledger, tuple(trouble))
    except Exception as error:  # noqa: BLE001  # as above
        return _both(machine, held, None, (*trouble, _unreadable(machine, error)))


def _unreadable(machine: Machine, error: Exception) -> str:
    return f"{machine.address}: what it says cannot be read: {error}"


def _held(machine: Machine, proc: str, total_bytes: int | None = None) -> Held:
    with open(f"{proc}/{machine.pid}/smaps", "rb") as file:
        text = os.fsdecode(file.read())
    return guest_memory(parse_smaps(text), machine.sizes, total_bytes)


def _ledger(address: Address | None, timeout_s: float, *, afresh: bool) -> LedgerStatus:
    """Ask a guest's memreact for its ledger."""
    parameters = GetStatus(cgroups=False, ledger=afresh or None)
    raw = _asked(address, "GetStatus", parameters, timeout_s)
    try:
        ledger = decoded(raw, StatusAnswer).status.ledger
    except msgspec.MsgspecError as error:
        raise _Silent(f"{address}: {error}") from error
    if ledger is None or ledger.read_at_us is None:
        why = "it keeps no ledger" if ledger is None else ledger.problem or "nothing was read yet"
        raise _Silent(f"{address}: {why}")
    return ledger


def _asked(address: Address | None, method: str, parameters: Struct, timeout_s: float) -> Raw:
    if address is None:
        raise _Silent("its address is not known: say pid:N=vsock:CID:PORT, or another")
    try:
        with connect(address, timeout_s=timeout_s) as stream:
            return call(stream, f"{INTERFACE}.{method}", parameters)
    except CouldNotConnect as error:
        raise _Silent(str(error)) from error
    except Refused as error:
        why = refusal_in_words(error.name, bytes(error.parameters))
        raise _Silent(f"{address}: {why}") from error
    except TimeoutError as error:
        raise _Silent(f"{address}: no answer in time") from error
    except (BrokenConnection, OSError) as error:
        raise _Silent(f"{address}: {error}") from error


def _both(
    machine: Machine, held: Held | None, ledger: LedgerStatus | None, trouble: tuple[str, ...]
) -> GuestView:
    view = GuestView(
        name=machine.name,
        pid=machine.pid,
        address=None if machine.address is None else str(machine.address),
        trouble=trouble,
    )
    if held is not None:
        view = msgspec.structs.replace(
            view,
            mapped_bytes=held.size_bytes,
            held_bytes=held.rss_bytes,
            held_share_bytes=held.pss_bytes,
            swapped_bytes=held.swap_bytes,
        )
    if ledger is not None:
        view = msgspec.structs.replace(
            view,
            total_bytes=_figure(ledger.total_bytes),
            free_bytes=_figure(ledger.free_bytes),
            reportable_bytes=_figure(ledger.reportable_bytes),
            reported_bytes=_figure(ledger.reported_bytes),
            returned_bytes=_figure(ledger.returned_bytes),
            gib_hours=bounded(ledger.reported_byte_seconds_total) / _GIB_HOUR,
            reporting=ledger.reporting,
        )
    if held is not None and ledger is not None:
        causes = {cause: bounded(size) for cause, size in explained(held, ledger).items()}
        view = msgspec.structs.replace(view, because_bytes=causes)
    return view


def _figure(said: int | None) -> int | None:
    return None if said is None else bounded(said)


def explained(held: Held, ledger: LedgerStatus) -> dict[str, int]:
    """Say what the host holds, by cause: the sum is what it holds.

    Args:
        held: By the host's own figures.
        ledger: By the guest's.
    """
    free, reported = ledger.free_bytes or 0, ledger.reported_bytes or 0
    causes = {"in_use": held.size_bytes - free, **ledger.free_held_bytes}
    expected = sum(causes.values())
    if held.swap_bytes:
        causes["swapped_out"] = -held.swap_bytes
    rest = held.rss_bytes + held.swap_bytes - expected
    if rest > 0:
        causes["reported_yet_held" if reported else "unexplained"] = rest
    elif rest < 0:
        causes["never_touched"] = rest
    return {cause: size for cause, size in causes.items() if size}


# ---- for people ----------------------------------------------------------------------------------

_HEAD = ("TOTAL", "HELD", "REPORTABLE", "REPORTED", "RETURNED", "GIB*H", "GUEST", "HELD FOR")
_LEFT = 2  # the last columns are words


def _table(views: Sequence[GuestView]) -> Iterator[str]:
    rows = [_HEAD, *map(_row, views)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    figures = len(_HEAD) - _LEFT
    for row in rows:
        left = "  ".join(f"{row[at]:>{widths[at]}}" for at in range(figures))
        yield f"{left}  {row[figures]:<{widths[figures]}}  {row[figures + 1]}".rstrip()
    for each in views:
        yield from (f"! {each.name}: {trouble}" for trouble in each.trouble)


def _row(view: GuestView) -> tuple[str, ...]:
    figures = (
        view.mapped_bytes if view.mapped_bytes is not None else view.total_bytes,
        view.held_bytes,
        view.reportable_bytes,
        view.reported_bytes,
        view.returned_bytes,
    )
    hours = "-" if view.gib_hours is None else f"{view.gib_hours:.2f}"
    return (*map(_amount, figures), hours, view.name, _causes(view))


def _amount(size: int | None) -> str:
    return "-" if size is None else amount(size)


def _causes(view: GuestView) -> str:
    """The causes that matter, what is in use first, then the largest."""
    notable = {c: s for c, s in view.because_bytes.items() if abs(s) >= _NOTABLE_BYTES}
    ordered = sorted(notable.items(), key=lambda each: (each[0] != "in_use", -abs(each[1])))
    words = [
        f"{'less ' if s < 0 else ''}{c.replace('_', ' ')} {amount(abs(s))}" for c, s in ordered
    ]
    if view.reporting is False:
        words.append("its evictions of the last hour led to nothing reported")
    return ", ".join(words)
