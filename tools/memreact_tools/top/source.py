"""Where updates come from: live guests, or a recording. Both feed the one model.

A source never waits for whoever looks: `take` gives what came since the last time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from memreact_schemas.status import DecisionRow, GuestReading, Status

__all__ = [
    "Decided",
    "Lost",
    "Met",
    "Player",
    "Read",
    "Source",
    "Stalled",
    "StatusSeen",
    "Told",
    "TreeSeen",
    "Update",
    "Warned",
]


class Met(NamedTuple):
    """The guest answers."""


class Lost(NamedTuple):
    """The guest answers no more, or not yet.

    Args:
        why: For people.
    """

    why: str


class Warned(NamedTuple):
    """Something that whoever looks should know.

    Args:
        text: For people.
    """

    text: str


class StatusSeen(NamedTuple):
    """A status, without cgroups."""

    status: Status


class TreeSeen(NamedTuple):
    """A status with every cgroup."""

    status: Status


class Decided(NamedTuple):
    """One decision, and how many the guest did not tell so far because nobody read in time."""

    row: DecisionRow
    dropped: int = 0


class Read(NamedTuple):
    """What the kernel's files say."""

    reading: GuestReading


class Stalled(NamedTuple):
    """How long the whole guest has stalled since its boot, memory and io together.

    Args:
        at_us: On the guest's clock.
        total_us: So long.
    """

    at_us: int
    total_us: int


Update: TypeAlias = Met | Lost | Warned | StatusSeen | TreeSeen | Decided | Read | Stalled


class Told(NamedTuple):
    """One update.

    Args:
        guest: Of which guest, by its name.
        at_us: When it came, on a clock of the source's own that never jumps back.
        update: What.
    """

    guest: str
    at_us: int
    update: Update


class Source(Protocol):
    """Gives updates."""

    @property
    def guests(self) -> tuple[str, ...]:
        """Names of the guests, in the order in which they were given."""

    def start(self) -> None:
        """Begin."""

    def now_us(self) -> int:
        """The moment, on the clock of its updates."""

    def take(self) -> list[Told]:
        """Take what came since the last time; it never waits."""

    def wait(self, seconds: float) -> None:
        """Return when something came, or after so long."""

    def look_at(self, guest: str, paths: Sequence[str]) -> None:
        """Say whose use is to be read from now on."""

    def close(self) -> None:
        """End; nothing comes any more."""


@runtime_checkable
class Player(Source, Protocol):
    """A source that plays what was recorded: it can stand still, and go anywhere.

    After a jump back `take` gives all that was before the new moment again, and `generation` is
    another: whoever keeps a model begins a new one.
    """

    generation: int
    playing: bool
    speed: float

    @property
    def behind(self) -> bool:
        """Something was recorded up to where it stands, and not taken yet."""

    def play(self, *, on: bool) -> None:
        """Play, or stand still."""

    def step(self) -> None:
        """Go to the next decision, and stand still."""

    def faster(self, factor: float) -> None:
        """Multiply the speed."""

    def jump(self, seconds: float) -> None:
        """Go to so many seconds after the recording's begin."""

    def position(self) -> tuple[float, float]:
        """Seconds since the recording's begin, of how many."""
