"""What goes on in a guest, as it is told over Varlink: flat values, with units in the names.

Moments (`_at_us`, `until_us`, `now_us`) are CLOCK_MONOTONIC of the guest in microseconds; a share
is two numbers (`stall_us` of `over_us`), its limit in parts per million. What this guest does not
show, or nobody has read yet, is None. A name that is no text has its odd bytes escaped. A number
that Varlink's 64 bits with a sign do not hold is 2^63-1.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = [
    "CgroupDelays",
    "CgroupLimits",
    "CgroupStatus",
    "CgroupUse",
    "CompactionStatus",
    "Counters",
    "DecisionRow",
    "Delays",
    "Doing",
    "GenerationStatus",
    "GuestReading",
    "HoldStatus",
    "HurtStatus",
    "KeepStatus",
    "LedgerRun",
    "LedgerStatus",
    "LedgerTally",
    "NextEviction",
    "NodeStatus",
    "OwnCost",
    "PauseStatus",
    "PromotionStatus",
    "SqueezeStatus",
    "StallShare",
    "Status",
    "SwapAreaReading",
]

Doing = Literal[
    "starting",
    "idle",
    "resting",
    "surveying",
    "evicting",
    "aging",
    "compacting",
    "paused",
    "held",
    "stopping",
]
"""What the one worker is at; "resting" is between two turns, or between two works of one, "idle"
where nothing may be done."""


class DecisionRow(Struct, frozen=True, kw_only=True, gc=False):
    """One decision: what was chosen, why, and on which figures.

    Args:
        number: Counts all decisions since the start, from 1; a gap is what was dropped.
        at_us: When it was made.
        verdict: What was chosen, in one word.
        because: Why: a code that never changes its meaning.
        path: The cgroup; empty for the whole guest.
        node: The NUMA node, if it is about one.
        figures: The numbers behind it, units in their names.
        words: What is behind it and is no number.
    """

    number: int
    at_us: int
    verdict: str
    because: str
    path: str = ""
    node: int | None = None
    figures: dict[str, int] = {}
    words: dict[str, str] = {}


class Counters(Struct, frozen=True, kw_only=True, gc=False):
    """What was done, and why no more; they only grow.

    Args:
        agings: How often generations were aged.
        evictions: How many evictions there were.
        evicted_bytes: What they brought.
        because: How often each reason was given.
    """

    agings: int = 0
    evictions: int = 0
    evicted_bytes: int = 0
    because: dict[str, int] = {}


class StallShare(Struct, frozen=True, kw_only=True, gc=False):
    """Time lost waiting for memory and io together.

    Args:
        stall_us: Stalled.
        over_us: Of so long.
        limit_ppm: The most that the settings allow, per million.
    """

    stall_us: int
    over_us: int
    limit_ppm: int


class NextEviction(Struct, frozen=True, kw_only=True, gc=False):
    """When something can be evicted at the earliest, and why not sooner.

    Args:
        at_us: The moment, if what is known now goes on; None where it cannot be said.
        waits_for: What stands before it, as a code.
        text: The same in words.
    """

    at_us: int | None = None
    waits_for: str
    text: str


class GenerationStatus(Struct, frozen=True, kw_only=True, gc=False):
    """One generation as the last survey saw it.

    Args:
        seq: Its number; the oldest has the smallest.
        age_us: Since it was made, now.
        anon_bytes: Anonymous memory in it.
        file_bytes: Page cache in it.
    """

    seq: int
    age_us: int
    anon_bytes: int
    file_bytes: int


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A cgroup on one NUMA node.

    Args:
        node: Its number.
        rule: Path of the entry that holds here; None where it is the base.
        disabled: The settings leave it alone.
        swap: Anonymous memory may go too.
        period_us: Time between turns.
        aging_count_min: Periods that memory is untouched before it is cold.
        cold_bytes: What is cold by these settings, were it to be evicted now.
        generations: Oldest first.
        next_eviction: When something can go.
    """

    node: int
    rule: str | None = None
    disabled: bool
    swap: bool
    period_us: int
    aging_count_min: int
    cold_bytes: int = 0
    generations: tuple[GenerationStatus, ...] = ()
    next_eviction: NextEviction


class CgroupLimits(Struct, frozen=True, kw_only=True, gc=False):
    """What a cgroup uses, what the kernel keeps for it, and what it may use: read when asked for.

    Args:
        current_bytes: In use, with all below it.
        min_bytes: memory.min; 2^63-1 stands for all.
        low_bytes: memory.low; the same.
        high_bytes: memory.high, where there is one.
        max_bytes: memory.max, where there is one.
        swap_bytes: Swapped out.
        swap_max_bytes: memory.swap.max, where there is one.
    """

    current_bytes: int | None = None
    min_bytes: int = 0
    low_bytes: int = 0
    high_bytes: int | None = None
    max_bytes: int | None = None
    swap_bytes: int = 0
    swap_max_bytes: int | None = None


class PromotionStatus(Struct, frozen=True, kw_only=True, gc=False):
    """What came back to a cgroup from swap, and whether so much that no more of it goes there.

    Args:
        promoted_bytes: Came back, from one turn to the next.
        over_us: Within so long.
        workingset_bytes: What the cgroup touches, of which the limit is a share.
        limit_ppm_per_min: The most that may come back in a minute, per million; 0 is no limit.
        over_limit: No anonymous memory goes before its next turn.
    """

    promoted_bytes: int
    over_us: int
    workingset_bytes: int
    limit_ppm_per_min: int
    over_limit: bool


class CgroupStatus(Struct, frozen=True, kw_only=True):
    """One cgroup: what is known of it, what was done to it, and what comes next.

    Args:
        path: As the kernel writes it.
        populated: Processes live in it or below it.
        frozen: They stand still.
        surveyed_at_us: When its generations were read; None before the first time.
        anon_bytes: In its generations, on all nodes, without what is below it.
        file_bytes: The same.
        cold_bytes: Of that, what is cold by its settings.
        nodes: By NUMA node.
        counters: What was done to it since it appeared.
        last: The last decision on it.
        next_eviction: The soonest of its nodes.
        pressure: Its own stall, without what is below it, from its last turn to the last survey.
        promotion: What its last turn judged by; None where nothing can have come back from swap.
        away_until_us: It ran out of memory, and is left alone until then.
        floor_bytes: What the settings keep for it; None where that is nothing.
        limits: Read only where one cgroup was asked for.
    """

    path: str
    populated: bool
    frozen: bool
    surveyed_at_us: int | None = None
    anon_bytes: int = 0
    file_bytes: int = 0
    cold_bytes: int = 0
    nodes: tuple[NodeStatus, ...] = ()
    counters: Counters
    last: DecisionRow | None = None
    next_eviction: NextEviction
    pressure: StallShare | None = None
    promotion: PromotionStatus | None = None
    away_until_us: int | None = None
    floor_bytes: int | None = None
    limits: CgroupLimits | None = None


class Delays(Struct, frozen=True, kw_only=True, gc=False):
    """What living processes waited, summed: five that wait for a second are five seconds.

    Args:
        since_us: From when on; None where it is since each of them began.
        processes: How many were asked about.
        gone: How many have ended since then, with what they waited last.
        left_out: How many were too many to ask about.
        reclaim_us: For memory to be reclaimed, which they did themselves; None where this kernel
            does not say.
        swap_in_us: For swapped-out memory to come back.
        thrashing_us: For memory that had been in use when it was evicted; it may be in swap-in too;
            None as above.
        compact_us: For memory to be compacted; None as above.
        block_io_us: For disks.
    """

    since_us: int | None = None
    processes: int = 0
    gone: int = 0
    left_out: int = 0
    reclaim_us: int | None = None
    swap_in_us: int = 0
    thrashing_us: int | None = None
    compact_us: int | None = None
    block_io_us: int = 0


class CgroupDelays(Struct, frozen=True, kw_only=True):
    """What a cgroup's processes waited while memreact worked, until after it let go.

    Args:
        path: The cgroup, without those below it.
        delays: What they waited.
    """

    path: str
    delays: Delays


class HurtStatus(Struct, frozen=True, kw_only=True):
    """Who waited for memory when work was broken off last, where the kernel counts delays.

    Args:
        at_us: When that was read.
        since_us: From when on it is counted: work began after it.
        left_out: Processes that were too many to ask about.
        cgroups: The worst first; a few of them.
    """

    at_us: int
    since_us: int
    left_out: int = 0
    cgroups: tuple[CgroupDelays, ...] = ()


class PauseStatus(Struct, frozen=True, kw_only=True, gc=False):
    """The guest is hurt, and we stay away until it is quiet.

    Args:
        since_us: From when on.
        because: What hurt, as a code.
        figures: The numbers behind it.
        looks_at_us: When the totals are read next.
        looks: How often it was not quiet yet.
    """

    since_us: int
    because: str
    figures: dict[str, int] = {}
    looks_at_us: int
    looks: int = 0


class HoldStatus(Struct, frozen=True, kw_only=True, gc=False):
    """An operator's pause; it ends by itself.

    Args:
        since_us: From when on.
        until_us: Until when, at the latest.
        by: Who asked.
        reason: What they said.
    """

    since_us: int
    until_us: int
    by: str
    reason: str = ""


class SqueezeStatus(Struct, frozen=True, kw_only=True):
    """A squeeze that is under way.

    Args:
        by: Who asked.
        scope: For this cgroup, and those below it.
        since_us: Its begin.
        deadline_us: When it ends at the latest.
        target_bytes: What is to become reportable; None for all that is cold.
        evicted_bytes: What it took so far.
        gained_bytes: What became reportable by its last look; None where nobody could look.
    """

    by: str
    scope: str
    since_us: int
    deadline_us: int
    target_bytes: int | None = None
    evicted_bytes: int = 0
    gained_bytes: int | None = None


class KeepStatus(Struct, frozen=True, kw_only=True):
    """What a squeeze has reached, and is kept.

    Args:
        by: Who asked.
        scope: This cgroup, and those below it, are squeezed for it.
        since_us: Its begin.
        until_us: When it ends by itself.
        reportable_bytes: So much is to be reportable.
    """

    by: str
    scope: str
    since_us: int
    until_us: int
    reportable_bytes: int


class LedgerTally(Struct, frozen=True, kw_only=True, gc=False):
    """What evictions and compactions did; they only grow.

    Args:
        evicted_file_bytes: Page cache.
        evicted_anon_bytes: Anonymous and shared memory.
        zram_taken_bytes: Of the guest's memory, what zram took for that: it is not free.
        migrated_bytes: What compactions moved, and dirtied by that.
    """

    evicted_file_bytes: int = 0
    evicted_anon_bytes: int = 0
    zram_taken_bytes: int = 0
    migrated_bytes: int = 0


class LedgerRun(Struct, frozen=True, kw_only=True, gc=False):
    """The last run that evicted or moved something, between the readings before and after it.

    Args:
        began_at_us: Its begin.
        ended_at_us: Its end.
        tally: What it took.
        reportable_grew_bytes: By so much more of the free memory can be reported; None before the
            reading after it, or where that cannot be known.
        reported_grew_bytes: By so much more was reported; the same.
    """

    began_at_us: int
    ended_at_us: int
    tally: LedgerTally
    reportable_grew_bytes: int | None = None
    reported_grew_bytes: int | None = None


class CompactionStatus(Struct, frozen=True, kw_only=True, gc=False):
    """Compactions: what they were to bring, what they brought, and when free memory is looked at.

    Args:
        next_look_at_us: When; None where nobody compacts in this guest, or one is under way.
        order: Blocks of this order and larger are reported; None before the first look.
        checks: How often free memory was looked at.
        runs: How many compactions began.
        broken_off: How many of them did not get to their end.
        moved_bytes: What moved while they ran, whoever moved it.
        expected_bytes: What should have become reportable by those that were measured.
        gained_bytes: What did.
        took_us: How long they ran.
        because: How often each reason was given, for a skipped look and for an end.
        last: The last of these decisions.
        left_alone_until_us: Zones in which the last ones brought much less than was expected, and
            until when what lies in pieces there is not hoped for; a zone is "NODE/NAME".
    """

    next_look_at_us: int | None = None
    order: int | None = None
    checks: int = 0
    runs: int = 0
    broken_off: int = 0
    moved_bytes: int = 0
    expected_bytes: int = 0
    gained_bytes: int = 0
    took_us: int = 0
    because: dict[str, int] = {}
    last: DecisionRow | None = None
    left_alone_until_us: dict[str, int] = {}


class LedgerStatus(Struct, frozen=True, kw_only=True):
    """Where the memory is: what was taken, what the host was told of, and why no more.

    Amounts of now are those of the last reading: it is done when a run has ended and the kernel
    has had the time to report, and when somebody asks for it. An estimate is called so.

    Args:
        read_at_us: When; None before the first reading, and then the amounts are None or 0.
        problem: Why the last reading failed.
        total_bytes: Of the guest, as its kernel counts it.
        free_bytes: Free.
        reportable_bytes: Free in blocks of the reporting order, in zones that may be reported from.
        reported_bytes: Free, and the host was told so; None where that cannot be read.
        reported_byte_seconds_total: What stayed reported, over time: at least so much.
        since_start: What was done.
        run: The last that did something.
        free_held_bytes: Free memory that the host was not told of, by cause.
        used_estimates_bytes: Memory in use, by the cause for which it is; a page may have several,
            and counts once.
        used_again_estimate_bytes: Was evicted, and is in use again, for whatever.
        freed_by_others_estimate_bytes: More is free than we evicted.
        host_holds_bytes: Of this guest's memory, as the host said.
        host_said_at_us: When.
        returned_bytes: By so much less than when the host first said.
        reporting: False where evictions of the last hour led to nothing reported; None where
            too little was evicted to tell.
        not_reporting_because: The cause of most of it.
    """

    read_at_us: int | None = None
    problem: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    reportable_bytes: int | None = None
    reported_bytes: int | None = None
    reported_byte_seconds_total: int = 0
    since_start: LedgerTally
    run: LedgerRun | None = None
    free_held_bytes: dict[str, int] = {}
    used_estimates_bytes: dict[str, int] = {}
    used_again_estimate_bytes: int = 0
    freed_by_others_estimate_bytes: int = 0
    host_holds_bytes: int | None = None
    host_said_at_us: int | None = None
    returned_bytes: int | None = None
    reporting: bool | None = None
    not_reporting_because: str | None = None


class Status(Struct, frozen=True, kw_only=True):
    """What goes on.

    Args:
        version: Of memreact.
        revision: Of the settings in force.
        now_us: The moment of this status.
        started_at_us: When the daemon began.
        doing: What the worker is at.
        at_work: The cgroup that is evicted just now.
        idle_because: Why nothing may be done in this guest at all.
        pause: The guest is hurt, and we stay away.
        hold: An operator's pause.
        hurt: Who waited when work was broken off last; None before that.
        squeeze: An operator wants memory back, now.
        keep: An operator wants that to stay so.
        next_turn_at_us: When the next turn begins; None where nothing is due or one runs.
        next_eviction: The soonest of all cgroups.
        pressure: The whole guest's, without our own, while work runs.
        counters: Of all cgroups that exist.
        turns: How many turns there were.
        decisions: How many decisions were made.
        compaction: Compactions; None where this guest cannot compact.
        rungs: What does each job in this guest, by the job.
        ledger: Where the memory is.
        problem: Why settings that changed were not taken.
        unsaved: Why a restart of the daemon would lose what was pushed last: its file could not be
            written. It is tried again with the next change, reload or turn, and at the stop; None
            while the file is as it should be.
        warnings: What was not taken, or has no effect here.
        subscribers: Who follows the stream.
        dropped: Decisions that followers, also those who left, did not read in time. A status is
            never counted: a newer one takes its place.
        page_bytes: Figures in pages are of this size.
        cgroups_total: How many cgroups exist, whether they are told here or not.
        cgroups: Each that was asked for, by path.
    """

    version: str
    revision: int
    now_us: int
    started_at_us: int
    doing: Doing
    at_work: str | None = None
    idle_because: str | None = None
    pause: PauseStatus | None = None
    hold: HoldStatus | None = None
    hurt: HurtStatus | None = None
    squeeze: SqueezeStatus | None = None
    keep: KeepStatus | None = None
    next_turn_at_us: int | None = None
    next_eviction: NextEviction
    pressure: StallShare | None = None
    counters: Counters
    turns: int = 0
    decisions: int = 0
    compaction: CompactionStatus | None = None
    rungs: dict[str, str] = {}
    ledger: LedgerStatus | None = None
    problem: str | None = None
    unsaved: str | None = None
    warnings: tuple[str, ...] = ()
    subscribers: int = 0
    dropped: int = 0
    page_bytes: int = 0
    cgroups_total: int = 0
    cgroups: tuple[CgroupStatus, ...] = ()


class CgroupUse(Struct, frozen=True, kw_only=True, gc=False):
    """What one cgroup uses and has stalled, read at once.

    Args:
        path: As the kernel writes it.
        limits: In use, kept for it, and what it may use.
        stall_us: Its stall on memory and io since it was made; None where it is not counted.
    """

    path: str
    limits: CgroupLimits
    stall_us: int | None = None


class SwapAreaReading(Struct, frozen=True, kw_only=True, gc=False):
    """One place where anonymous memory goes.

    Args:
        path: Of the device or file.
        size_bytes: What it can hold.
        used_bytes: What it holds.
        priority: Higher is used first.
        zram_taken_bytes: What zram takes of the guest's memory for it; None where it is no zram.
    """

    path: str
    size_bytes: int
    used_bytes: int
    priority: int
    zram_taken_bytes: int | None = None


class OwnCost(Struct, frozen=True, kw_only=True, gc=False):
    """What memreact costs its guest.

    Args:
        cpu_us: CPU time since the start, of it and of the children that compacted.
        rss_bytes: Resident.
        anon_bytes: Of it, what cannot be dropped and read again.
        wake_ups: How often one of its threads was woken.
    """

    cpu_us: int
    rss_bytes: int
    anon_bytes: int
    wake_ups: int


class GuestReading(Struct, frozen=True, kw_only=True):
    """What the kernel's files say at one moment: totals, of which two readings make a rate.

    Args:
        at_us: The moment.
        total_bytes: Memory of the guest.
        free_bytes: Free.
        available_bytes: What programs could have without swapping, as the kernel estimates.
        memory_stall_us: Time since boot in which somebody waited for memory; None without PSI.
        io_stall_us: The same for io.
        own: What memreact costs; None where that cannot be read.
        swap: Where anonymous memory goes.
        decisions: How many decisions were made.
        cgroups_total: How many cgroups exist.
        cgroups: Each that was asked for, and exists.
    """

    at_us: int
    total_bytes: int
    free_bytes: int
    available_bytes: int
    memory_stall_us: int | None = None
    io_stall_us: int | None = None
    own: OwnCost | None = None
    swap: tuple[SwapAreaReading, ...] = ()
    decisions: int = 0
    cgroups_total: int = 0
    cgroups: tuple[CgroupUse, ...] = ()
