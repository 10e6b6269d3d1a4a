"""Frames of plain text, for serial consoles, pipes and scripts; and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from memreact_schemas.status import CgroupUse, DecisionRow, GuestReading, Status
from memreact_tools.plain import plain_json
from memreact_tools.top.board import Board
from memreact_tools.top.lines import text_of
from memreact_tools.top.model import GuestModel

__all__ = ["frame", "sample"]

_LOG_LINES = 5


def frame(board: Board, width: int, height: int | None) -> Iterator[str]:
    """One picture, without blanks at the ends of its lines.

    Args:
        board: What is looked at.
        width: In cells.
        height: Lines at the most; None for every cgroup there is.
    """
    lines = [*board.panels(width, height or 0)]
    log = min(len(board.log()), _LOG_LINES)
    cgroups = [each for each in board.places() if each.guest == board.focus and each.node]
    room = None if height is None else max(height - len(lines) - log - 3, 1)
    places = cgroups[:room]
    board.look_at(places)
    if places:
        lines += [board.head(width), *(board.place(each, width) for each in places)]
        hidden = len(cgroups) - len(places)
        if hidden:
            lines.append(((f" and {hidden} more", "dim"),))
    first = len(board.log()) - log
    if log:
        lines.append(board.log_title(width))
        lines += [board.log_line(at, width) for at in range(first, first + log)]
    for line in lines:
        yield text_of(line).rstrip()


class Sample(Struct, omit_defaults=True):
    """A guest at one moment, for programs.

    Args:
        address: Of the guest.
        state: "connecting", "live" or "lost".
        why: What is wrong.
        stall_ppm: Of the whole guest, since the reading before.
        own_cpu_ppm: What memreact takes of one CPU.
        status: With every cgroup.
        reading: What the kernel says.
        uses: Of each cgroup that was read so far.
        decisions: Those since the last sample.
    """

    address: str
    state: str
    why: str = ""
    stall_ppm: int | None = None
    own_cpu_ppm: int | None = None
    status: Status | None = None
    reading: GuestReading | None = None
    uses: tuple[CgroupUse, ...] = ()
    decisions: tuple[DecisionRow, ...] = ()


def sample(guest: GuestModel, since: int) -> str:
    """One line of JSON in which a terminal finds nothing to act on.

    Args:
        guest: Of which guest.
        since: Tell decisions with numbers above this one.
    """
    own, status = guest.own(), guest.status
    if status is not None:
        cgroups = tuple(guest.cgroups.values())
        status = msgspec.structs.replace(status, cgroups=cgroups)
    reading = guest.reading
    made = Sample(
        address=guest.name,
        state=guest.state,
        why=guest.why,
        stall_ppm=guest.points[-1].ppm if guest.points else None,
        own_cpu_ppm=own.cpu_ppm if own else None,
        status=status,
        reading=None if reading is None else msgspec.structs.replace(reading, cgroups=()),
        uses=tuple(guest.uses.values()),
        decisions=tuple(e.row for e in guest.log if e.row is not None and e.row.number > since),
    )
    return plain_json(msgspec.json.encode(made).decode(errors="replace"))
