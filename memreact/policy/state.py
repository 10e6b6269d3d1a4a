"""All that the policy remembers, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from memreact.actions import (
    Action,
    Age,
    AgeTarget,
    Because,
    Compact,
    Decision,
    Evict,
    Inspect,
    ReadFragmentation,
    Reclaim,
    Survey,
)
from memreact.events import (
    CapabilitiesRead,
    Fragmentation,
    HarmSeen,
    Inspection,
    Instant,
    MemcgView,
    PressureSample,
)
from memreact.policy.pressure import Samples, remember
from memreact.policy.promotion import PromotionLore, Promotions
from memreact.policy.refault import Appetite
from memreact.value import Struct, field, replace

__all__ = [
    "START",
    "TOLD",
    "Aside",
    "Baseline",
    "Candidate",
    "CompactCounters",
    "Compacting",
    "Compaction",
    "Counters",
    "Eviction",
    "Hold",
    "Keep",
    "Key",
    "Memcg",
    "Pause",
    "Squeeze",
    "SqueezeStage",
    "Stage",
    "State",
    "Step",
    "Turn",
    "Work",
    "ZoneKey",
    "ZoneLore",
    "decided",
    "nothing",
    "sampled",
    "with_memcg",
    "with_turn",
]

TOLD = "hurt"
"""The verdict of what is told of a memcg and decides nothing about it."""

START = Instant(0)
"""Before anything happened."""

Stage = Literal["survey", "evict", "recheck", "age", "close"]

SqueezeStage = Literal["look", "evict", "gather"]

Work = Survey | Inspect | Evict | Reclaim | Age | ReadFragmentation | Compact
"""What the one worker does: never two of them at a time."""

Key = tuple[str, int]
"""A memcg on a node: its path and the node."""

ZoneKey = tuple[int, str]
"""A zone: its node and its name."""


class Counters(Struct, frozen=True):
    """What was done to one memcg since it appeared, and why no more; they only grow."""

    agings: int = 0
    evicted_pages: int = 0
    evictions: int = 0
    because: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


class Memcg(Struct, frozen=True):
    """One memcg: what it is, and what the last turns taught about it."""

    path: str
    inode: int
    populated: bool = True
    frozen: bool = False
    stall_us: tuple[int, int] | None = None
    stall_at: Instant = START
    appetite: Appetite = field(default_factory=Appetite)
    promotion: PromotionLore = field(default_factory=PromotionLore)
    away_until: Instant = START
    oom_total: int | None = None
    counters: Counters = field(default_factory=Counters)
    last: Decision | None = None
    last_at: Instant = START
    view: MemcgView | None = None
    viewed_at: Instant = START


class Candidate(Struct, frozen=True):
    """A memcg on a node with pages that may go this turn.

    `idle_us` is how long nobody touched them, where that is what orders the evictions. `promoted`
    is what came back from swap, where that is too much for anonymous pages to go.
    """

    path: str
    inode: int
    memcg_id: int
    node: int
    seq: int
    anon_pages: int
    file_pages: int
    idle_us: int = 0
    promoted: Promotions | None = None

    @property
    def pages(self) -> int:
        """Both kinds together."""
        return self.anon_pages + self.file_pages


class Eviction(Struct, frozen=True):
    """The eviction of one candidate, from its first reading to its last write.

    Args:
        candidate: Who, where, and how much is cold.
        started_at: The moment of the first reading.
        first: What the memcg looked like then.
        last: What it looked like last.
        fresh: Whether `last` is recent enough to write on.
        allowed_pages: How much may go, by what earlier turns taught.
        evicted_pages: What our writes took.
        anon_left: Cold anonymous pages that are still there, as far as we know.
        file_left: The same for file pages.
        stuck_pages: Cold pages that the kernel was asked for and did not give.
        write_ends_by: When the write under way is broken off.
        overdue: Whether that happened.
        armed: Whether the memcg's triggers are armed.
        ends: Why it is over as soon as the write under way has returned.
    """

    candidate: Candidate
    started_at: Instant = START
    first: Inspection | None = None
    last: Inspection | None = None
    fresh: bool = False
    allowed_pages: int = 0
    evicted_pages: int = 0
    anon_left: int = 0
    file_left: int = 0
    stuck_pages: int = 0
    write_ends_by: Instant = START
    overdue: bool = False
    armed: bool = False
    ends: Because | None = None

    @property
    def key(self) -> Key:
        """The memcg and the node."""
        return self.candidate.path, self.candidate.node


class Aside(Struct, frozen=True):
    """A memcg that stalled, and waits for a quiet window."""

    until: Instant
    since: PressureSample | None
    checks: int = 0


class ZoneLore(Struct, frozen=True):
    """What compactions have taught about one zone.

    Args:
        yield_ppm: How much of what was to be gathered became reportable, per million.
        left_pages: What the last one left in pieces.
        left_until: Until when that is not hoped for again.
        misses: How often in a row it brought much less than was expected.
    """

    yield_ppm: int = 500_000
    left_pages: int = 0
    left_until: Instant = START
    misses: int = 0


class Baseline(Struct, frozen=True):
    """What the last whole compaction left: the rule "threshold" compares with it.

    Args:
        memfree_bytes: Free in the whole guest.
        small_pages: Free in blocks below the order.
        movable_pages: Of these, the movable kind; None where that was not read.
    """

    memfree_bytes: int = 0
    small_pages: int = 0
    movable_pages: int | None = None


class Settling(Struct, frozen=True):
    """Since when a compaction would pay, and waits for free memory to settle.

    Args:
        since: The first look that found that it would.
        grown_at: The last one that found much more to gather.
        expected_bytes: What should have become reportable by then.
    """

    since: Instant
    grown_at: Instant
    expected_bytes: int


class CompactCounters(Struct, frozen=True):
    """What compactions did since the start; they only grow.

    Args:
        checks: How often free memory was looked at.
        runs: How many compactions began.
        broken_off: How many of them did not get to their end.
        moved_pages: What moved while they ran, whoever moved it.
        expected_bytes: What should have become reportable by those that were measured.
        gained_bytes: What did.
        took_us: How long they ran.
        because: How often each reason was given, for a skipped check and for an end.
    """

    checks: int = 0
    runs: int = 0
    broken_off: int = 0
    moved_pages: int = 0
    expected_bytes: int = 0
    gained_bytes: int = 0
    took_us: int = 0
    because: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


class Compacting(Struct, frozen=True):
    """All that is remembered between two compactions.

    Args:
        due: When free memory is looked at next; None where nothing may be done.
        ended_at: When that was done last.
        checked: The pressure at the last check; the next one compares with it.
        skips: Checks since the last compaction.
        asked: An operator asked for the next look: what would pay waits for nothing.
        evicted_pages: By the turn before the next look.
        settling: What waits for free memory to settle; None where nothing would pay.
        order: What all of the following was learnt at.
        base: What the last whole compaction left.
        zones: What they taught.
        moved_permille: Pages that move for a thousand that become reportable, by node.
        counters: What was done.
        last: The last decision.
        last_at: When it was made.
    """

    due: Instant | None = None
    ended_at: Instant | None = None
    checked: PressureSample | None = None
    skips: int = 0
    asked: bool = False
    evicted_pages: int = 0
    settling: Settling | None = None
    order: int | None = None
    base: Baseline = Baseline()
    zones: Mapping[ZoneKey, ZoneLore] = field(default_factory=lambda: MappingProxyType({}))
    moved_permille: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    counters: CompactCounters = CompactCounters()
    last: Decision | None = None
    last_at: Instant = START


class Compaction(Struct, frozen=True):
    """One look at free memory, and the compaction that follows if it is worth it.

    Args:
        stage: How far it got.
        before: What was seen.
        after: What was seen after the last node.
        nodes: Those still to be compacted, in this order.
        done: Those that were, to their end or until the time was over.
        moved: Pages that moved meanwhile, by node; of those that were broken off too.
        expected_bytes: What should become reportable.
        started_at: When the first node began.
        ends_by: When the last one ends at the latest.
        breaks_at: When the one under way is broken off, and broken off again.
        took_us: How long the kernel was at it.
        tries: How often a node was broken off though no limit was crossed.
        late: The time was over before the last node was done.
        ends: Why it is over as soon as what is under way has returned.
        again: Whether it is looked at again as soon as it may be, not a period later.
    """

    stage: Literal["look", "run", "measure"] = "look"
    before: Fragmentation | None = None
    after: Fragmentation | None = None
    nodes: tuple[int, ...] = ()
    done: tuple[int, ...] = ()
    moved: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    expected_bytes: int = 0
    started_at: Instant = START
    ends_by: Instant = START
    breaks_at: Instant = START
    took_us: int = 0
    tries: int = 0
    late: bool = False
    ends: Because | None = None
    again: bool = False


class Turn(Struct, frozen=True):
    """One pass: evict what is cold, then age; or one compaction, which is never beside it.

    Args:
        started_at: Its begin.
        periods: Whose turn it is: those whose rules name one of these periods.
        emptied: Memcgs without processes, whose turn it is whatever their period.
        asked: An operator asked for it; no period had to be due.
        within: It is for this memcg and those below it alone, and moves nobody's next turn.
        squeezes: It is a piece of the squeeze.
        stage: How far it got.
        candidates: What is evicted next, in this order.
        agings: What is aged next, in this order.
        ripening: Whether a memcg becomes cold by the agings of this turn.
        ripened: Whether that was waited for already.
        eviction: The one that is under way.
        doing: What the worker does now.
        plan_again: The plan no longer holds.
        dropped: Those that are left alone until their next turn.
        done: Those that had their eviction in this turn.
        aside: Those that wait for a quiet window.
        armed: Whether the guest's triggers are armed.
        worked: Whether anything was written.
        evicted_pages: What the turn brought.
        aged: How many were aged.
        aged_from: The youngest generation that each of them had before.
        surveys: How many were read.
        surveyed_at: When the last one was.
        out_of_reach_pages: What it saw of memcgs that were removed and cannot be evicted.
        hold_until: Nothing begins before.
        look: Whether the pressure is read once more before anything begins.
        compaction: The whole of the turn, if it is one.
    """

    started_at: Instant
    periods: frozenset[int]
    emptied: frozenset[str] = frozenset()
    asked: bool = False
    within: str | None = None
    squeezes: bool = False
    stage: Stage = "survey"
    candidates: tuple[Candidate, ...] = ()
    agings: tuple[AgeTarget, ...] = ()
    ripening: bool = False
    ripened: bool = False
    eviction: Eviction | None = None
    doing: Work | None = None
    plan_again: bool = False
    dropped: frozenset[Key] = frozenset()
    done: frozenset[Key] = frozenset()
    aside: Mapping[Key, Aside] = field(default_factory=lambda: MappingProxyType({}))
    armed: bool = False
    worked: bool = False
    evicted_pages: int = 0
    aged: int = 0
    aged_from: Mapping[Key, int] = field(default_factory=lambda: MappingProxyType({}))
    surveys: int = 0
    surveyed_at: Instant = START
    out_of_reach_pages: int = 0
    hold_until: Instant = START
    look: bool = False
    compaction: Compaction | None = None

    @property
    def in_flight(self) -> bool:
        """Whether the worker has something to do."""
        return self.doing is not None


class Pause(Struct, frozen=True):
    """We stay away: the guest is being hurt, and not by what we can see of ourselves.

    Args:
        since: Its begin.
        check_at: When the totals are read next.
        because: What hurt.
        base: The reading that the next one is compared with.
        checks: How often it was not quiet yet.
    """

    since: Instant
    check_at: Instant
    because: Because
    base: PressureSample | None = None
    checks: int = 0


class Hold(Struct, frozen=True):
    """An operator wants nothing to be done.

    Args:
        since: Its begin.
        until: When it is over by itself.
        by: Who asked.
        reason: What they said.
    """

    since: Instant
    until: Instant
    by: str
    reason: str = ""


class Squeeze(Struct, frozen=True):
    """What an operator wants to become reportable, and how far that is.

    It is a row of turns: a look at free memory, evictions, a look with the least compaction that
    makes what they freed reportable, and again evictions where that was not enough.

    Args:
        by: Who asked.
        path: Of the memcg that it is for, with those below it.
        asked_at: When.
        deadline: When it ends at the latest.
        target_pages: Pages that are to become reportable; None for all that is cold.
        stage: What comes next, or runs.
        order: Of the blocks that count; that of the first look.
        base_pages: Reportable at the first look; None while nobody could look.
        reportable_pages: The same at the last one.
        evicted_pages: By the turns that ended.
        enough_pages: So many evicted pages are enough before the next look.
        agings: Rounds of agings.
        dropped: Memcgs that stalled, and are left alone from then on.
        dry: The last evictions brought nothing.
        hold_us: For so long from its begin what it reached is kept.
        at_least_pages: It keeps so many reportable, all in all, and the target follows from that.
        ends: Why it is over as soon as what is under way has returned.
    """

    by: str
    path: str
    asked_at: Instant
    deadline: Instant
    target_pages: int | None
    stage: SqueezeStage = "look"
    order: int = 0
    base_pages: int | None = None
    reportable_pages: int = 0
    evicted_pages: int = 0
    enough_pages: int = 0
    agings: int = 0
    dropped: frozenset[Key] = frozenset()
    dry: bool = False
    hold_us: int = 0
    at_least_pages: int | None = None
    ends: Because | None = None


class Keep(Struct, frozen=True):
    """What a squeeze reached, or should have, and what is to stay so.

    Free memory is looked at when a turn of a period ends, and now and then between, and what is
    missing is squeezed.

    Args:
        by: Who asked.
        path: Of the memcg that is squeezed for it, with those below it.
        pages: So many are to be reportable.
        order: In blocks of this order.
        since: When the squeeze was asked for.
        until: When it is over by itself.
        round_us: How long each squeeze may take.
        seen_pages: So many were, at the last look.
        seen_at: When that was.
        apart_us: From it to the next one.
        told: How the last squeeze that was told of ended, as a code.
        due: A turn ended since the last one.
    """

    by: str
    path: str
    pages: int
    order: int
    since: Instant
    until: Instant
    round_us: int
    seen_pages: int
    seen_at: Instant
    apart_us: int
    told: str
    due: bool = False


class State(Struct, frozen=True):
    """The whole of it.

    Args:
        guest: What it can do.
        memcgs: Those that exist, by path.
        due: When each period's next turn begins; empty where nothing may be done.
        emptied: Memcgs that were left by their last process, and whose memory may go at once.
        look: Whether everything is to be read once, so that stall is counted from the start.
        soon: When `emptied` or `look` is served.
        turn: The one under way.
        turns: How many there were.
        turn_ended_at: When the last one ended.
        pause: Why nothing is done just now.
        hold: Who wants that nothing is done.
        squeeze: Who wants more to be reportable, now.
        keep: Who wants that it stays so.
        compact: What is remembered of compactions, and when the next one is due.
        ooms: Where an OOM kill was heard of, and when: it hit a memcg there or below.
        samples: Pressure readings of the last window.
        hurt: Who waited for memory when work was broken off last, as far as that is counted.
        stopping: Nothing new begins.
    """

    guest: CapabilitiesRead | None = None
    memcgs: Mapping[str, Memcg] = field(default_factory=lambda: MappingProxyType({}))
    due: Mapping[int, Instant] = field(default_factory=lambda: MappingProxyType({}))
    emptied: frozenset[str] = frozenset()
    look: bool = False
    soon: Instant = START
    turn: Turn | None = None
    turns: int = 0
    turn_ended_at: Instant = START
    pause: Pause | None = None
    hold: Hold | None = None
    squeeze: Squeeze | None = None
    keep: Keep | None = None
    compact: Compacting = Compacting()
    ooms: Mapping[str, Instant] = field(default_factory=lambda: MappingProxyType({}))
    samples: Samples = ()
    hurt: HarmSeen | None = None
    stopping: bool = False


class Step(Struct, frozen=True):
    """One decision: the state after it, what to do, when to wake, and why."""

    state: State
    actions: tuple[Action, ...] = ()
    decisions: tuple[Decision, ...] = ()
    wake_at: Instant | None = None

    def then(self, later: Step) -> Step:
        """This step, followed by one that was decided on its state."""
        return Step(
            later.state,
            (*self.actions, *later.actions),
            (*self.decisions, *later.decisions),
        )


def nothing(state: State) -> Step:
    """Nothing to do and nothing to say."""
    return Step(state)


def with_memcg(state: State, memcg: Memcg) -> State:
    """The state with this memcg in place of what stood under its path."""
    return replace(state, memcgs={**state.memcgs, memcg.path: memcg})


def with_turn(state: State, turn: Turn | None) -> State:
    """The state with this turn."""
    return replace(state, turn=turn)


def decided(state: State, decisions: tuple[Decision, ...], now: Instant) -> State:
    """Remember the last decision on each memcg, and count its reason."""
    changed: dict[str, Memcg] = {}
    for decision in decisions:
        if decision.verdict == TOLD:
            continue
        memcg = changed.get(decision.path) or state.memcgs.get(decision.path)
        if memcg is not None:
            changed[decision.path] = _counted(memcg, decision, now)
    return replace(state, memcgs={**state.memcgs, **changed}) if changed else state


def sampled(state: State, sample: PressureSample, window_us: int) -> State:
    """Remember a pressure reading."""
    return replace(state, samples=remember(state.samples, sample, window_us))


def _counted(memcg: Memcg, decision: Decision, now: Instant) -> Memcg:
    code = decision.because.code
    because = {**memcg.counters.because, code: memcg.counters.because.get(code, 0) + 1}
    counters = replace(memcg.counters, because=because)
    return replace(memcg, last=decision, last_at=now, counters=counters)
