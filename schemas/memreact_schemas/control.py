"""What is said on io.memreact: each call, its answer, and each error.

The interface in Varlink's own language, io.memreact.varlink beside this file, is written from these
structs by `memreact_schemas.idl`. Varlink has no unions, so two things differ from settings files:
`compact.compact_order` is text here ("auto" or digits; a number is taken too), and the values
before and after a change are JSON in text. A key that a table does not say is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, TypeAlias

from msgspec import Meta, Struct, to_builtins

from memreact_schemas import doctor
from memreact_schemas.config import CgroupEntry, Config, LogLevel, Node
from memreact_schemas.explanation import Explanation
from memreact_schemas.status import DecisionRow, GuestReading, LedgerTally, Status
from memreact_schemas.swap import (
    AddSwap,
    AlreadySwap,
    ListSwap,
    NoSuchDevice,
    NoSuchSwap,
    NotEnoughMemory,
    NotForSwap,
    RemoveSwap,
    SwapAdded,
    SwapAreas,
    SwapoffEnded,
    SwapRefused,
    SwapRemoved,
)

__all__ = [
    "ERRORS",
    "HOLD_SECONDS_MAX",
    "INTERFACE",
    "LOOK_CGROUPS_MAX",
    "METHODS",
    "PORT",
    "SOCKET",
    "SQUEEZE_SECONDS_MAX",
    "AddRule",
    "Busy",
    "Change",
    "Changed",
    "ChangedKey",
    "DeleteRule",
    "Doctor",
    "DropPushed",
    "Explain",
    "Explained",
    "GetDoctor",
    "GetSettings",
    "GetStatus",
    "HostHolds",
    "Look",
    "Looked",
    "Method",
    "NoSuchRule",
    "NotPossible",
    "Nothing",
    "PatchSettings",
    "Pause",
    "Paused",
    "Problem",
    "Record",
    "RecordItem",
    "ReleaseSqueeze",
    "Resume",
    "RevisionConflict",
    "RuleExists",
    "RuleTable",
    "RunNow",
    "SetLogLevel",
    "SetRule",
    "SettingsInForce",
    "SettingsRefused",
    "SettingsTables",
    "Squeeze",
    "SqueezeEnd",
    "SqueezeItem",
    "SqueezeProgress",
    "StatusAnswer",
    "Watch",
    "WatchItem",
    "WhatIf",
    "WhatIfAnswer",
    "WhatIfCgroup",
    "WhatIfTurn",
    "tables_from_wire",
    "tables_to_wire",
]

INTERFACE = "io.memreact"
SOCKET = "/run/memreact/io.memreact"
PORT = 1050
HOLD_SECONDS_MAX = 86_400  # a day: a pause always ends
LOOK_CGROUPS_MAX = 256  # ten files are read of each

SQUEEZE_SECONDS_MAX = 3_600  # an hour: a squeeze always ends

_DIGITS_MAX = 20

SettingsTables: TypeAlias = Annotated[dict[str, object], Meta(extra={"of": Config})]
"""Tables of settings by their names; checked by whoever merges them, who can say more."""

RuleTable: TypeAlias = Annotated[dict[str, object], Meta(extra={"of": CgroupEntry})]
"""One `[[memcg.cgroup]]`; checked by whoever merges it."""

_Rev: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Call(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A call: a parameter that is misspelt is refused."""


class _Answer(Struct, frozen=True, kw_only=True):
    """An answer or an error: a client does not mind what a later service adds."""


class Change(_Call, frozen=True, kw_only=True):
    """A change of settings.

    Args:
        expected_revision: Refuse unless this is in force.
        dry_run: Answer as if, and change nothing.
    """

    expected_revision: _Rev | None = None
    dry_run: bool | None = None


class GetSettings(_Call, frozen=True, kw_only=True):
    """Ask for the settings in force, and where each value comes from."""


class Problem(_Answer, frozen=True, kw_only=True):
    """What is wrong in a layer of settings, and where it stands."""

    origin: str
    key: str | None = None
    found: str | None = None
    expected: str
    line: int | None = None
    column: int | None = None


class SettingsInForce(_Answer, frozen=True, kw_only=True):
    """Settings in force.

    Args:
        settings: All layers merged.
        revision: Grows by one with each change.
        origins: Where each value comes from, by `memcg.swap` or `memcg.cgroup[/a].swap`.
        problem: Why a file that changed was not taken.
        unsaved: Why a restart of the daemon would lose what was pushed last.
        warnings: What was not taken, or has no effect.
    """

    settings: SettingsTables
    revision: int
    origins: dict[str, str]
    problem: Problem | None = None
    unsaved: str | None = None
    warnings: tuple[str, ...]


class PatchSettings(Change, frozen=True, kw_only=True):
    """Lay these keys over what is in force, all of them or none."""

    patch: SettingsTables


class AddRule(Change, frozen=True, kw_only=True):
    """Add an entry for a cgroup that has none."""

    rule: RuleTable


class SetRule(Change, frozen=True, kw_only=True):
    """Change keys of a cgroup's entry; the others stay."""

    rule: RuleTable


class DeleteRule(Change, frozen=True, kw_only=True):
    """Take a cgroup's entry away, until the next boot if a file has it."""

    path: str
    numa: Annotated[tuple[Node, ...], Meta(max_length=1024)] | None = None


class DropPushed(Change, frozen=True, kw_only=True):
    """Forget values that were pushed, so that the files' hold again; all if none is named."""

    keys: tuple[str, ...] | None = None


class ChangedKey(_Answer, frozen=True, kw_only=True):
    """One value that changed.

    Args:
        key: As in `memcg.swap` or `memcg.cgroup[/a].swap`.
        before: JSON; None where there was no value.
        after: JSON; None where there is none any more.
        origin: Where the new value comes from.
    """

    key: str
    before: str | None = None
    after: str | None = None
    origin: str


class Changed(_Answer, frozen=True, kw_only=True):
    """What a change came to.

    Args:
        revision: Now in force; with a dry run still in force.
        changed: What differs; nothing where all was so already.
        notes: What the change does not reach, or has no effect here.
    """

    revision: int
    changed: tuple[ChangedKey, ...]
    notes: tuple[str, ...]


class GetStatus(_Call, frozen=True, kw_only=True):
    """Ask what goes on.

    Args:
        path: Of one cgroup to tell of, and those below it; None for all.
        cgroups: Tell of cgroups at all; None means yes.
        ledger: Take stock first, which reads a flag of every free block; None means no, and the
            ledger is that of the last reading.
    """

    path: str | None = None
    cgroups: bool | None = None
    ledger: bool | None = None


class StatusAnswer(_Answer, frozen=True, kw_only=True):
    """What goes on."""

    status: Status


class Look(_Call, frozen=True, kw_only=True):
    """Read once what the kernel says now: for whoever looks on, so that nobody reads otherwise.

    Args:
        paths: Of cgroups to read the use of; None for none.
    """

    paths: Annotated[tuple[str, ...], Meta(max_length=LOOK_CGROUPS_MAX)] | None = None


class Looked(_Answer, frozen=True, kw_only=True):
    """What the kernel says now."""

    reading: GuestReading


class Explain(_Call, frozen=True, kw_only=True):
    """Ask why no more of a cgroup is evicted, what was decided, and what would change it.

    Args:
        path: Of the cgroup.
    """

    path: str


class Explained(_Answer, frozen=True, kw_only=True):
    """What explains a cgroup."""

    explanation: Explanation


class GetDoctor(_Call, frozen=True, kw_only=True):
    """Ask what can be done in this guest, and what stands in the way."""


class Doctor(_Answer, frozen=True, kw_only=True):
    """What can be done in this guest."""

    report: doctor.Report


class Pause(_Call, frozen=True, kw_only=True):
    """Break off what runs, and begin nothing for a while; it ends by itself.

    Args:
        seconds: For how long, at most a day.
        reason: Shown in status and log.
    """

    seconds: Annotated[int, Meta(ge=1, le=HOLD_SECONDS_MAX)]
    reason: Annotated[str, Meta(max_length=200)] | None = None


class Paused(_Answer, frozen=True, kw_only=True):
    """Until when.

    Args:
        until_us: CLOCK_MONOTONIC of the guest, microseconds.
    """

    until_us: int


class Resume(_Call, frozen=True, kw_only=True):
    """End such a pause."""


class RunNow(_Call, frozen=True, kw_only=True):
    """Begin a turn now, as if every period were due.

    Args:
        path: Of one cgroup, and those below it, to run for; None for all.
    """

    path: str | None = None


class HostHolds(_Call, frozen=True, kw_only=True):
    """Tell the guest how much of its memory its host holds; it is shown in its ledger.

    Args:
        held_bytes: Resident in the host, swapped out there or not.
    """

    held_bytes: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class SetLogLevel(Change, frozen=True, kw_only=True):
    """Say what reaches the journal: the least important that does."""

    level: LogLevel


class Watch(_Call, frozen=True, kw_only=True):
    """Ask for a row of answers: decisions as they are made, status as it changes.

    Args:
        decisions: None means yes.
        status: None means no.
        since: Tell first of the decisions that are kept and have a number above this one.
    """

    decisions: bool | None = None
    status: bool | None = None
    since: _Rev | None = None


class WatchItem(_Answer, frozen=True, kw_only=True):
    """One of a row of answers.

    Args:
        decision: What was decided.
        status: What goes on.
        dropped: How many decisions this follower was not told, so far, because it did not read in
            time. A status is never counted: a newer one takes its place.
    """

    decision: DecisionRow | None = None
    status: Status | None = None
    dropped: int


class Squeeze(_Call, frozen=True, kw_only=True):
    """Give back memory now: evict the coldest, gather what that frees, until a target is reached.

    It ends at its target, at its deadline or when the guest is hurt, whichever comes first, and
    when whoever asked goes away. Its last answer has `end`, those before it `progress`. Exactly one
    of `target_bytes`, `held_percent` and `cold` is given.

    Args:
        target_bytes: So much more is to be reported to the host.
        held_percent: The host is to hold no more than this of the guest's memory.
        cold: All that is cold by the settings, and no more.
        scope: Of one cgroup, and those below it, to squeeze; None for all.
        deadline_seconds: For how long at the most; it overruns by one write or one aging.
        then: "hold" keeps as much reportable afterwards, whenever a turn ends, until it is
            released or its time is over; it needs a number of bytes or a share. None means
            "release".
        hold_seconds: For how long from now on, with "hold" alone, and then it must be given.
    """

    target_bytes: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    held_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    cold: bool | None = None
    scope: str | None = None
    deadline_seconds: Annotated[int, Meta(ge=1, le=SQUEEZE_SECONDS_MAX)]
    then: Literal["release", "hold"] | None = None
    hold_seconds: Annotated[int, Meta(ge=1, le=HOLD_SECONDS_MAX)] | None = None


class ReleaseSqueeze(_Call, frozen=True, kw_only=True):
    """Keep nothing any more that a squeeze has reached; one that runs ends."""


class SqueezeProgress(_Answer, frozen=True, kw_only=True):
    """How far a squeeze is.

    Args:
        stage: "look", "evict" or "gather"; "report" while the kernel tells the host.
        evicted_bytes: What it took so far.
        reportable_grew_bytes: By its last look; None where nobody could look.
        left_us: Until its deadline.
    """

    stage: str
    evicted_bytes: int
    reportable_grew_bytes: int | None = None
    left_us: int


class SqueezeEnd(_Answer, frozen=True, kw_only=True):
    """What a squeeze came to, and why it brought no more.

    Args:
        because: "target", "cold_gone", "deadline", "pressure", "nothing_left" or another word of
            the journal.
        detail: How, where there is more to say.
        wanted_bytes: What was to become reportable; None where that was all that is cold.
        tally: What it took.
        reportable_bytes: Free in blocks that can be reported, when it was over.
        reportable_grew_bytes: By so much more than before it; None where that cannot be read.
        reported_bytes: Free, and the host was told so, when it was over.
        reported_grew_bytes: By so much more than before it; None where that cannot be read.
        returned_bytes: By so much less is held since the host first said what it holds.
        settled: The kernel had the time to report all of it; if not, more will follow.
        took_us: To the end of the last work.
        overrun_us: Of it, after the deadline.
        held_until_us: What was wanted is kept until then; None where it is not.
        free_held_bytes: Free memory that the host was not told of, by cause.
        used_estimates_bytes: Memory in use, by the cause for which it is.
        left_alone: How many cgroups are left, on all nodes, by the last reason that was given.
        problem: Why it could not be read where the memory is.
    """

    because: str
    detail: str | None = None
    wanted_bytes: int | None = None
    tally: LedgerTally
    reportable_bytes: int | None = None
    reportable_grew_bytes: int | None = None
    reported_bytes: int | None = None
    reported_grew_bytes: int | None = None
    returned_bytes: int | None = None
    settled: bool
    took_us: int
    overrun_us: int
    held_until_us: int | None = None
    free_held_bytes: dict[str, int]
    used_estimates_bytes: dict[str, int]
    left_alone: dict[str, int]
    problem: str | None = None


class SqueezeItem(_Answer, frozen=True, kw_only=True):
    """One of a row of answers; the last one has the end."""

    progress: SqueezeProgress | None = None
    end: SqueezeEnd | None = None


class Record(_Call, frozen=True, kw_only=True):
    """Ask for a row of answers that is a recording, line by line; see docs/recording.md.

    Four follow what happens at a time, three of them may be such as may only read: another one is
    told NotPossible.

    Args:
        flight: What the flight recorder holds, which ends by itself; None means no: all that
            happens from now on.
        status_seconds: Seconds between two lines of status, 0 for none; None means 10. What the
            flight recorder holds has those of turns and pauses.
    """

    flight: bool | None = None
    status_seconds: Annotated[int, Meta(ge=0, le=3600)] | None = None


class RecordItem(_Answer, frozen=True, kw_only=True):
    """Some lines of a recording, in their order."""

    lines: tuple[object, ...]


class WhatIf(_Call, frozen=True, kw_only=True):
    """Ask what a turn would come to with other settings; nothing is changed and nothing touched.

    Of those who may only read one asks at a time: another one is told NotPossible.

    Args:
        patch: Laid over what is in force.
    """

    patch: SettingsTables


class WhatIfTurn(_Answer, frozen=True, kw_only=True):
    """What the next turn, as one of all cgroups, would come to.

    Args:
        at_most_bytes: Evicted: the kernel lets go of nothing that it finds in use.
        anon_bytes: Of it, anonymous memory.
        unaged_bytes: Of that, what may be in use as well: it has no age, for without swap the
            kernel does not look at it.
        after_aging_bytes: Of it, only after an aging, which may find more in use.
        aged: How many cgroups would be aged, on all nodes.
        took_us: How long it would take, as fast as evictions were so far.
        due_in_us: From now to its begin.
        protected_bytes: More would go if no cgroup were protected.
        stalled_bytes: More would go if no cgroup had stalled in its last period.
        left_alone: How many cgroups would be left, on all nodes, by the last reason for each.
        refused: Why there would be no turn at all.
        compaction_bytes: What a compaction of free memory as it lies now should make reportable;
            what the turn frees is not in it.
        compaction_because: Why one would begin now, or why none would.
    """

    at_most_bytes: int = 0
    anon_bytes: int = 0
    unaged_bytes: int = 0
    after_aging_bytes: int = 0
    aged: int = 0
    took_us: int = 0
    due_in_us: int = 0
    protected_bytes: int = 0
    stalled_bytes: int = 0
    left_alone: dict[str, int] = {}
    refused: str | None = None
    compaction_bytes: int = 0
    compaction_because: str = ""


class WhatIfCgroup(_Answer, frozen=True, kw_only=True):
    """One cgroup on one node.

    Args:
        path: Of it.
        node: The NUMA node.
        now_bytes: What would go by the settings in force.
        now_because: Why no more, or why nothing.
        then_bytes: What would go by the others.
        then_anon_bytes: Of it, anonymous memory.
        then_after_aging: Only after an aging, which may find more in use.
        then_because: Why no more, or why nothing.
    """

    path: str
    node: int
    now_bytes: int
    now_because: str
    then_bytes: int
    then_anon_bytes: int
    then_after_aging: bool
    then_because: str


class WhatIfAnswer(_Answer, frozen=True, kw_only=True):
    """What other settings would come to.

    Args:
        changed: The values that would differ.
        notes: What would have no effect.
        now: By the settings in force.
        then: By the others.
        cgroups: Those of which something would go, most first, and those that change.
        left_out: How many of these are not told.
        held_up: Why no turn can begin just now, whatever the settings.
        rate_measured: How long it takes is reckoned from evictions of this daemon.
    """

    changed: tuple[ChangedKey, ...]
    notes: tuple[str, ...]
    now: WhatIfTurn
    then: WhatIfTurn
    cgroups: tuple[WhatIfCgroup, ...]
    left_out: int
    held_up: str | None = None
    rate_measured: bool


class Nothing(_Answer, frozen=True, kw_only=True):
    """It was done."""


class SettingsRefused(Problem, frozen=True, kw_only=True):
    """A value, or a key, that cannot be taken; nothing was changed."""


class RevisionConflict(_Answer, frozen=True, kw_only=True):
    """Other settings are in force than the call expects; nothing was changed."""

    expected: int
    actual: int


class RuleExists(_Answer, frozen=True, kw_only=True):
    """The cgroup has an entry for these nodes; nothing was changed."""

    path: str
    numa: tuple[int, ...]


class NoSuchRule(_Answer, frozen=True, kw_only=True):
    """The cgroup has no entry for these nodes; nothing was changed."""

    path: str
    numa: tuple[int, ...]


class Busy(_Answer, frozen=True, kw_only=True):
    """Somebody else's squeeze is under way, or what it has reached is kept.

    Args:
        by: Whose.
        left_us: Until its deadline, or its end.
    """

    by: str
    left_us: int


class NotPossible(_Answer, frozen=True, kw_only=True):
    """It was understood, and cannot be done now, as where too many ask for it already."""

    why: str


class Method(NamedTuple):
    """What a method takes and gives.

    Args:
        call: Its parameters.
        answer: What it answers with.
        writes: It changes something: whoever may only read may not call it.
        streams: It answers in a row of answers.
    """

    call: type[Struct]
    answer: type[Struct]
    writes: bool
    streams: bool = False


METHODS: Mapping[str, Method] = {
    "GetSettings": Method(GetSettings, SettingsInForce, writes=False),
    "PatchSettings": Method(PatchSettings, Changed, writes=True),
    "AddRule": Method(AddRule, Changed, writes=True),
    "SetRule": Method(SetRule, Changed, writes=True),
    "DeleteRule": Method(DeleteRule, Changed, writes=True),
    "DropPushed": Method(DropPushed, Changed, writes=True),
    "GetStatus": Method(GetStatus, StatusAnswer, writes=False),
    "Look": Method(Look, Looked, writes=False),
    "Explain": Method(Explain, Explained, writes=False),
    "GetDoctor": Method(GetDoctor, Doctor, writes=False),
    "Pause": Method(Pause, Paused, writes=True),
    "Resume": Method(Resume, Nothing, writes=True),
    "RunNow": Method(RunNow, Nothing, writes=True),
    "Squeeze": Method(Squeeze, SqueezeItem, writes=True, streams=True),
    "ReleaseSqueeze": Method(ReleaseSqueeze, Nothing, writes=True),
    "HostHolds": Method(HostHolds, Nothing, writes=True),
    "ListSwap": Method(ListSwap, SwapAreas, writes=False),
    "AddSwap": Method(AddSwap, SwapAdded, writes=True),
    "RemoveSwap": Method(RemoveSwap, SwapRemoved, writes=True),
    "SetLogLevel": Method(SetLogLevel, Changed, writes=True),
    "Record": Method(Record, RecordItem, writes=False, streams=True),
    "WhatIf": Method(WhatIf, WhatIfAnswer, writes=False),
    "Watch": Method(Watch, WatchItem, writes=False, streams=True),
}

ERRORS: tuple[type[Struct], ...] = (
    SettingsRefused,
    RevisionConflict,
    RuleExists,
    NoSuchRule,
    NotPossible,
    Busy,
    NoSuchDevice,
    NotForSwap,
    AlreadySwap,
    NoSuchSwap,
    NotEnoughMemory,
    SwapoffEnded,
    SwapRefused,
)


def tables_to_wire(config: Config) -> dict[str, object]:
    """Write settings as they cross Varlink: what is not said is left out, and so is empty."""
    tables = _said(to_builtins(config, str_keys=True))
    compact = tables.get("compact")
    if isinstance(compact, dict) and "compact_order" in compact:
        compact["compact_order"] = str(compact["compact_order"])
    return tables


def tables_from_wire(tables: Mapping[str, object]) -> dict[str, object]:
    """Write tables that came over Varlink as `config_from` reads them; nothing is checked."""
    compact = tables.get("compact")
    order = compact.get("compact_order") if isinstance(compact, dict) else None
    if not isinstance(compact, dict) or not _is_digits(order):
        return dict(tables)
    return {**tables, "compact": {**compact, "compact_order": int(str(order))}}


def _is_digits(value: object) -> bool:
    return (
        isinstance(value, str) and len(value) <= _DIGITS_MAX and value.isascii() and value.isdigit()
    )


def _said(value: Mapping[str, object]) -> dict[str, object]:
    """Take what is not null, empty tables and empty lists of what differs left out."""
    found: dict[str, object] = {}
    for key, each in value.items():
        kept = each
        if isinstance(each, dict):
            kept = _said(each)
        elif isinstance(each, (list, tuple)):
            kept = [_said(one) if isinstance(one, dict) else one for one in each]
        if kept is not None and kept not in ({}, []):
            found[key] = kept
    return found
