"""How much swap a guest is worth, and when that is acted on: decided here, done elsewhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple, TypeAlias

__all__ = [
    "GRAIN_BYTES",
    "PREFIX",
    "RESERVE_BYTES",
    "Decision",
    "Grow",
    "Need",
    "Pace",
    "Rest",
    "Room",
    "Shrink",
    "SwapFile",
    "SwapSettings",
    "Wait",
    "decide",
    "is_swap_name",
    "need_of",
    "next_name",
    "pace_after_failure",
    "pace_after_refusal",
    "pace_at",
    "target_bytes",
]

# A multiple of every page size and of every sector size that a guest may have.
GRAIN_BYTES = 1 << 20
# What is left to others on the file system that the files lie on.
RESERVE_BYTES = 1 << 30
PREFIX = "swap"

_NAME = re.compile(PREFIX + r"(0|[1-9][0-9]{0,5})", re.ASCII)
_SECOND_US = 1_000_000
_RETRY_US = 120 * _SECOND_US
_RETRIES_MAX = 2
# What memory alone is worth is this many steps: a need that grows by less changes nothing.
_STEPS = 4


@dataclass(frozen=True, slots=True)
class SwapSettings:
    """What was set, by the names of Kata's options.

    Args:
        enable_guest_swap: Whether the guest gets any.
        guest_swap_path: Folder on the host with one folder for each guest.
        guest_swap_size_percent: Of the memory that the guest has now.
        guest_swap_create_threshold_secs: How long the memory's size has to hold before it counts.
    """

    enable_guest_swap: bool
    guest_swap_path: str
    guest_swap_size_percent: int
    guest_swap_create_threshold_secs: int

    @property
    def threshold_us(self) -> int:
        """The same threshold, in microseconds."""
        return self.guest_swap_create_threshold_secs * _SECOND_US


class SwapFile(NamedTuple):
    """A file that a guest has as a disk."""

    name: str
    size_bytes: int


class Grow(NamedTuple):
    """One more file is wanted."""

    name: str
    size_bytes: int


class Shrink(NamedTuple):
    """These files are more than the guest is worth: the target is met without them."""

    names: tuple[str, ...]


class Wait(NamedTuple):
    """Something may have to be done, but not before a moment."""

    until_us: int


class Rest(NamedTuple):
    """Nothing is to be done before the guest's memory changes."""

    because: str


Decision: TypeAlias = Grow | Shrink | Wait | Rest


class Need(NamedTuple):
    """What swap has to be for what the guest has swapped out, whatever its memory is.

    Args:
        grow_bytes: With less it is given more: a quarter of it is to be free.
        keep_bytes: Only what is more than this is taken back: half of it is to be free then.
    """

    grow_bytes: int = 0
    keep_bytes: int = 0


NO_NEED = Need()
"""Nothing is swapped out, or nobody says."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Since when the guest has and needs what it does, and how often growing failed since.

    Args:
        memory_bytes: What the guest has.
        due_us: Not before then is anything done; None is not before one of both changes.
        failures: How often growing failed with this much memory.
        need: What it needs for what it has swapped out.
    """

    memory_bytes: int
    due_us: int | None
    failures: int = 0
    need: Need = NO_NEED


class Room(NamedTuple):
    """What a file system has for files that are not written in advance.

    Args:
        available_bytes: What it says it has.
        promised_bytes: What files that are there already may still come to take of that.
    """

    available_bytes: int
    promised_bytes: int

    def short_by(self, size_bytes: int) -> int:
        """Return the bytes that lack for a file of this size and the reserve; 0 if it fits."""
        wanted = size_bytes + RESERVE_BYTES + self.promised_bytes
        return max(0, wanted - self.available_bytes)


def target_bytes(settings: SwapSettings, memory_bytes: int) -> int:
    """Return how much swap a guest is worth, whole MiB: a size is nowhere rounded again."""
    exact = memory_bytes * settings.guest_swap_size_percent // 100
    return exact - exact % GRAIN_BYTES


def need_of(settings: SwapSettings, memory_bytes: int, used_bytes: int, most_percent: int) -> Need:
    """Return what swap has to be for what lies in it.

    Args:
        settings: What was set.
        memory_bytes: What the guest has.
        used_bytes: What it has swapped out.
        most_percent: Of its memory: for its need alone no guest is given more.
    """
    worth = target_bytes(settings, memory_bytes)
    if not worth:
        return NO_NEED
    step = max(GRAIN_BYTES, _whole(worth // _STEPS))
    most = max(worth, _whole(memory_bytes * most_percent // 100))
    wanted = (used_bytes * 4 // 3, used_bytes * 2)
    return Need(*(min(most, -(-size // step) * step) for size in wanted))


def pace_at(
    pace: Pace | None,
    settings: SwapSettings,
    memory_bytes: int,
    now_us: int,
    need: Need = NO_NEED,
) -> Pace:
    """Return the pace, begun anew where the guest's memory or its need is not what it was."""
    if pace is not None and (pace.memory_bytes, pace.need) == (memory_bytes, need):
        return pace
    return Pace(memory_bytes, now_us + settings.threshold_us, need=need)


def pace_after_failure(pace: Pace, settings: SwapSettings, now_us: int) -> Pace:
    """Return when growing is tried again: twice, and then not before the memory changes."""
    failures = pace.failures + 1
    again_us = now_us + _RETRY_US + settings.threshold_us
    return replace(pace, failures=failures, due_us=again_us if failures <= _RETRIES_MAX else None)


def pace_after_refusal(pace: Pace, settings: SwapSettings, now_us: int) -> Pace:
    """Return when a guest is asked again for what it would not give back: again and again."""
    return replace(pace, due_us=now_us + _RETRY_US + settings.threshold_us)


def decide(settings: SwapSettings, pace: Pace, files: Sequence[SwapFile], now_us: int) -> Decision:
    """Decide what is to be done now.

    Args:
        settings: What was set.
        pace: With the memory that the guest has now.
        files: What the guest has as disks.
        now_us: The moment, in microseconds of a clock that only goes forward.
    """
    if not settings.enable_guest_swap:
        return Rest("enable_guest_swap is false")
    worth, has = target_bytes(settings, pace.memory_bytes), sum(file.size_bytes for file in files)
    missing = max(worth, pace.need.grow_bytes) - has
    spare = tuple(_spare(files, has - max(worth, pace.need.keep_bytes)))
    if missing < GRAIN_BYTES and not spare:
        return Rest("the guest has the swap that it is worth")
    if pace.due_us is None:
        return Rest("it failed as often as it is tried")
    if now_us < pace.due_us:
        return Wait(pace.due_us)
    return Shrink(spare) if spare else Grow(next_name(each.name for each in files), _whole(missing))


def _whole(size_bytes: int) -> int:
    return size_bytes - size_bytes % GRAIN_BYTES


def _spare(files: Sequence[SwapFile], surplus: int) -> Iterator[str]:
    """Name the files without which the target is still met, the newest first."""
    for file in sorted(files, key=_number, reverse=True):
        if file.size_bytes <= surplus:
            surplus -= file.size_bytes
            yield file.name


def _number(file: SwapFile) -> int:
    digits = file.name.removeprefix(PREFIX)
    return int(digits) if digits.isdigit() else -1


def is_swap_name(name: str) -> bool:
    """Say whether a swap file may be called so: swap0, swap1 and so on up to swap999999."""
    return _NAME.fullmatch(name) is not None


def next_name(taken: Iterator[str] | Collection[str]) -> str:
    """Return the first name that is not taken: swap0, swap1 and so on."""
    names = set(taken)
    return next(name for name in (f"{PREFIX}{n}" for n in count()) if name not in names)
