"""The lines of a recording: what happened, what was decided on it, and from where to go on.

One JSON object a line, of the kind that its `line` names. Moments (`at`, `wake_at`) are
CLOCK_MONOTONIC of the guest in microseconds. Events, actions, settings and the policy's state are
kept as they came until somebody needs them: who only looks needs none of the daemon.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Raw, Struct

from memreact_schemas.status import Status

__all__ = [
    "FORMAT",
    "LINE_BYTES_MAX",
    "NULL",
    "VERSION",
    "Checkpoint",
    "Decided",
    "End",
    "Failed",
    "Gap",
    "Header",
    "Line",
    "SettingsLine",
    "Source",
    "StatusLine",
    "Stepped",
    "Why",
]

FORMAT = "memreact-recording"
VERSION = 1
"""Grows when a line changes its meaning, or when a kind of line is added that may not be missed."""

LINE_BYTES_MAX = 64 << 20
"""A survey or a checkpoint of every cgroup that a guest can have is far smaller."""

NULL = Raw(b"null")
"""Stands where nothing is."""

Source: TypeAlias = Literal["flight", "record", "trace", "crash", "limit"]
"""Who wrote it: the flight recorder as it was asked for, whoever follows, `memreact run --trace`, a
daemon that ended by a bug, one that saw a limit breached."""


class _Line(Struct, frozen=True, kw_only=True, tag_field="line", omit_defaults=True):
    """A line; what a later memreact adds to one is not looked at.

    Args:
        at: When.
    """

    at: int


class Header(_Line, frozen=True, kw_only=True, tag="header", tag_field="line"):
    """The first line, and again where a daemon began anew.

    Args:
        format: "memreact-recording".
        version: Of the format.
        memreact: The version of memreact that wrote it.
        source: Who wrote it.
        wall_us: The same moment as `at`, in microseconds since 1970.
        boot_id: Of the guest's boot; None where the kernel does not tell.
        kernel: Its release.
    """

    format: str
    version: int
    memreact: str
    source: Source
    wall_us: int
    boot_id: str | None = None
    kernel: str = ""


class Checkpoint(_Line, frozen=True, kw_only=True, tag="checkpoint", tag_field="line"):
    """From here on everything can be decided again: it takes the place of all that was before.

    Args:
        revision: Of the settings in force.
        settings: These, complete, as in a settings file.
        state: What the policy remembers; its form belongs to the memreact that wrote it.
    """

    revision: int
    settings: Raw
    state: Raw


class SettingsLine(_Line, frozen=True, kw_only=True, tag="settings", tag_field="line"):
    """Other settings are in force from the next step on.

    Args:
        revision: Of them.
        settings: As in a checkpoint.
    """

    revision: int
    settings: Raw


class Why(Struct, frozen=True):
    """Why: a code that never changes its meaning, and the figures behind it."""

    code: str
    saw: dict[str, int | str] = {}


class Decided(Struct, frozen=True):
    """What was decided about one cgroup (and node), or about the guest where `path` is empty."""

    verdict: str
    because: Why
    path: str = ""
    node: int | None = None


class Stepped(_Line, frozen=True, kw_only=True, tag="step", tag_field="line"):
    """One event, and what it led to.

    Args:
        event: What happened, with its readings; `type` in it names its kind.
        actions: What is to be done; `type` in each names its kind.
        decisions: What was decided, and why.
        wake_at: When time alone changes something next; None where nothing is due.
    """

    event: Raw
    actions: tuple[Raw, ...] = ()
    decisions: tuple[Decided, ...] = ()
    wake_at: int | None = None


class Failed(_Line, frozen=True, kw_only=True, tag="failed", tag_field="line"):
    """The event that the daemon was at when it ended by a bug.

    Args:
        event: What happened; null where nothing did just then.
        error: The last line of the trace of the bug.
    """

    event: Raw = NULL
    error: str


class StatusLine(_Line, frozen=True, kw_only=True, tag="status", tag_field="line"):
    """What went on at that moment, as `memreact-ctl status` has it; for those who look.

    Args:
        status: With its cgroups only where the recording was asked for them.
    """

    status: Status


class Gap(_Line, frozen=True, kw_only=True, tag="gap", tag_field="line"):
    """Lines are missing here; a checkpoint follows.

    Args:
        lines: How many.
    """

    lines: int


class End(_Line, frozen=True, kw_only=True, tag="end", tag_field="line"):
    """The last line: a recording without it was cut off.

    Args:
        because: "asked", "time_over", "stopping", "connection_lost", "bug" or "limit".
    """

    because: str


Line: TypeAlias = Header | Checkpoint | SettingsLine | Stepped | Failed | StatusLine | Gap | End
