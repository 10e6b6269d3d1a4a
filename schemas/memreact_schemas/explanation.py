"""Why no more of a cgroup is evicted: what it is, what was decided, and what would change it.

Moments and lengths are as in `memreact_schemas.status`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from memreact_schemas.status import (
    CgroupStatus,
    DecisionRow,
    Delays,
    HoldStatus,
    PauseStatus,
)

__all__ = [
    "Explanation",
    "GuardStatus",
    "HarmStatus",
    "ObstacleStatus",
    "PressureNow",
    "SettingHere",
    "WayOut",
]


class SettingHere(Struct, frozen=True, kw_only=True, gc=False):
    """One setting that holds for the cgroup on a node, and who said so.

    Args:
        node: The NUMA node.
        key: As in a rule: "swap", "period_secs".
        value: JSON.
        rule: Path of the rule that it comes from; None where it is the base's.
        origin: Which layer said it: a file's path, "default", "pushed by root".
    """

    node: int
    key: str
    value: str
    rule: str | None = None
    origin: str


class GuardStatus(Struct, frozen=True, kw_only=True, gc=False):
    """What the cgroup, or one above it, keeps: by memory.min or low, or a floor of the settings.

    Args:
        path: Whose.
        current_bytes: In use there, with all below it.
        protected_bytes: What stays; 2^63-1 stands for all.
        spare_bytes: What an eviction may ask for before that is reached: one batch of the kernel,
            which may take more than it was asked for, is kept back.
    """

    path: str
    current_bytes: int
    protected_bytes: int
    spare_bytes: int


class PressureNow(Struct, frozen=True, kw_only=True, gc=False):
    """The cgroup's stall as the kernel tells it now, with all below it, and what the limits are.

    Args:
        memory_permyriad: Of the last 10 s, for memory, some task stalled: hundredths of a percent.
        io_permyriad: For io.
        memory_total_us: Since it was made, for memory.
        io_total_us: For io.
        own_stall_us: Memory and io together, without what is below it, since its last turn.
        own_over_us: Of so long.
        period_limit_ppm: Over this share a turn leaves it alone.
        eviction_limit_ppm: Over this share of a window its eviction is broken off.
        guest_limit_ppm: Over this share of a window everything pauses.
        window_us: The window.
    """

    memory_permyriad: int | None = None
    io_permyriad: int | None = None
    memory_total_us: int | None = None
    io_total_us: int | None = None
    own_stall_us: int | None = None
    own_over_us: int | None = None
    period_limit_ppm: int
    eviction_limit_ppm: int
    guest_limit_ppm: int
    window_us: int


class WayOut(Struct, frozen=True, kw_only=True, gc=False):
    """One change that takes an obstacle away; of several each one is enough.

    Args:
        kind: "wait" for time alone; "set" a setting; "lower" or "raise" a file of the kernel; "do"
            something else.
        key: The setting, of the cgroup's rule or with its table; or the file.
        value: JSON for a setting, bytes for a file.
        path: Whose file it is.
        in_us: How long it takes if nothing else changes.
        text: The same in words, with the command where there is one.
    """

    kind: Literal["wait", "set", "lower", "raise", "do"]
    key: str | None = None
    value: str | None = None
    path: str | None = None
    in_us: int | None = None
    text: str


class ObstacleStatus(Struct, frozen=True, kw_only=True):
    """What keeps memory of the cgroup from being evicted.

    Args:
        node: The NUMA node; None where it is about all of them.
        because: Why: a word of the journal.
        figures: The numbers behind it, units in their names.
        words: What is behind it and is no number.
        withheld_bytes: So much stays for it, seen alone; obstacles overlap. None where that cannot
            be said.
        text: The same in words.
        ways_out: What would take it away; nothing where only its workload can.
    """

    node: int | None = None
    because: str
    figures: dict[str, int] = {}
    words: dict[str, str] = {}
    withheld_bytes: int | None = None
    text: str
    ways_out: tuple[WayOut, ...] = ()


class HarmStatus(Struct, frozen=True, kw_only=True):
    """The kernel's delay accounting of a cgroup and all below it.

    Args:
        total: Since its processes began, or since delays are counted.
        since_last_look: The same since somebody looked last; None at the first time.
        missing: Why it cannot be told, or not all of it, and what would mend that.
    """

    total: Delays | None = None
    since_last_look: Delays | None = None
    missing: str | None = None


class Explanation(Struct, frozen=True, kw_only=True):
    """All that explains a cgroup.

    Args:
        now_us: The moment of this explanation.
        cgroup: What it is, what was done to it, and what comes next.
        settings: What holds for it, and where each value comes from.
        guards: What it and those above it keep, the nearest first.
        kept_bytes: Its effective floor: so much of it stays, whoever keeps it; None where nothing
            does.
        spare_bytes: So much more may go before that is reached; None where nothing keeps any.
        pressure: Its stall now, and the limits.
        pause: The guest is hurt, and nothing is done.
        hold: An operator's pause.
        decisions: The last ones on it, and on the whole guest, oldest first.
        obstacles: What would have to change for more to be reclaimed.
        harm: What its processes waited.
    """

    now_us: int
    cgroup: CgroupStatus
    settings: tuple[SettingHere, ...] = ()
    guards: tuple[GuardStatus, ...] = ()
    kept_bytes: int | None = None
    spare_bytes: int | None = None
    pressure: PressureNow
    pause: PauseStatus | None = None
    hold: HoldStatus | None = None
    decisions: tuple[DecisionRow, ...] = ()
    obstacles: tuple[ObstacleStatus, ...] = ()
    harm: HarmStatus
