"""What goes on: one line for systemd, and all of it for whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat

from memreact.actions import Age, Compact, Decision, ReadFragmentation, Survey
from memreact.events import HarmSeen, Instant, NodeView
from memreact.policy.plan import is_within, own_stalls
from memreact.policy.pressure import worst_guest_stall
from memreact.policy.protection import floor_bytes
from memreact.policy.squeeze import evicted_pages, gained_pages
from memreact.policy.state import Memcg, State, Work
from memreact.policy.yielding import window_us
from memreact.rules import MemcgRules, Rules
from memreact.telemetry.decisions import INT_MAX, as_text, row_of
from memreact.telemetry.possible import (
    cold_pages,
    first_of_all,
    next_on_node,
    nodes_of,
    rules_on,
    soonest,
)
from memreact.value import Struct
from memreact_schemas.status import (
    CgroupDelays,
    CgroupLimits,
    CgroupStatus,
    CompactionStatus,
    Counters,
    Delays,
    Doing,
    GenerationStatus,
    HoldStatus,
    HurtStatus,
    KeepStatus,
    LedgerStatus,
    NextEviction,
    NodeStatus,
    PauseStatus,
    PromotionStatus,
    SqueezeStatus,
    StallShare,
    Status,
)

__all__ = [
    "Surroundings",
    "Teller",
    "cgroups_of",
    "doing_of",
    "hold_status",
    "pause_status",
    "status_line",
    "status_of",
]


class Surroundings(Struct, frozen=True):
    """What a status tells that the policy does not know.

    Args:
        version: Of memreact.
        started_at: When the daemon began.
        problem: Why settings that changed were not taken.
        warnings: What was not taken, or has no effect here.
        decisions: How many were made.
        subscribers: Who follows the stream.
        dropped: Decisions that followers did not read in time.
        ledger: Where the memory is.
        unsaved: Why a restarted daemon would not know what was pushed last.
    """

    version: str
    started_at: Instant
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    decisions: int = 0
    subscribers: int = 0
    dropped: int = 0
    ledger: LedgerStatus | None = None
    unsaved: str | None = None


def status_line(
    state: State,
    rules: Rules,
    now: Instant,
    clock_time: Callable[[Instant], str],
    first: NextEviction | None = None,
) -> str:
    """What systemctl status shows.

    Args:
        state: As it is now.
        rules: What is in force.
        now: The moment.
        clock_time: Writes a moment as a clock on the wall shows it: the line stands for long.
        first: The soonest eviction of all, where somebody has found it already.
    """
    if state.guest is not None and state.guest.idle_because:
        return f"idle: {state.guest.idle_because} (memreact doctor says more)"
    if state.hold is not None:
        reason = f": {as_text(state.hold.reason)}" if state.hold.reason else ""
        return f"held by {as_text(state.hold.by)} until {clock_time(state.hold.until)}{reason}"
    if state.squeeze is not None:
        until = clock_time(state.squeeze.deadline)
        return f"squeezed for {as_text(state.squeeze.by)} until {until} at the latest"
    if state.pause is not None:
        return f"paused since {clock_time(state.pause.since)}: {state.pause.because.code}"
    evicted = sum(memcg.counters.evicted_pages for memcg in state.memcgs.values())
    evicted_bytes = evicted * _page_bytes(state)
    doing = "at work" if state.turn is not None else _next_turn(state, now, clock_time)
    next_one = first or first_of_all(state, rules, now)
    at = "" if next_one.at_us is None else f" from {clock_time(Instant(next_one.at_us))}"
    possible = f"eviction possible{at} ({next_one.text})"
    return f"{len(state.memcgs)} cgroups, {evicted_bytes >> 20} MiB evicted; {doing}; {possible}"


def _next_turn(state: State, now: Instant, clock_time: Callable[[Instant], str]) -> str:
    due = min(state.due.values(), default=state.compact.due)
    if due is None:
        return "nothing due: every rule is disabled"
    return f"next turn at {clock_time(Instant(max(due, now)))}"


def status_of(  # noqa: PLR0913  # what is known already is not found again
    state: State,
    rules: Rules,
    now: Instant,
    around: Surroundings,
    cgroups: Iterable[CgroupStatus] = (),
    *,
    next_eviction: NextEviction | None = None,
) -> Status:
    """Tell what goes on.

    Args:
        state: As it is now.
        rules: What is in force.
        now: The moment.
        around: What the policy does not know.
        cgroups: What is told of each cgroup, as `cgroups_of` makes it; 2,000 of them take longer
            than the loop should: `CgroupRows` makes some of them at a time.
        next_eviction: The soonest of all, where somebody has found it already.
    """
    turn, told = state.turn, tuple(cgroups)
    eviction = turn.eviction if turn else None
    return Status(
        version=around.version,
        revision=rules.revision,
        now_us=now,
        started_at_us=around.started_at,
        doing=doing_of(state),
        at_work=as_text(eviction.candidate.path) if eviction else None,
        idle_because=state.guest.idle_because if state.guest else None,
        pause=pause_status(state),
        hold=hold_status(state),
        hurt=None if state.hurt is None else _hurt(state.hurt),
        squeeze=_squeeze(state),
        keep=_keep(state),
        next_turn_at_us=_next_turn_at(state),
        next_eviction=next_eviction or _soonest_of(told, state, rules, now),
        pressure=_guest_pressure(state, rules),
        counters=_all_counters(state),
        turns=state.turns,
        decisions=around.decisions,
        compaction=_compaction(state, now),
        rungs=_rungs(state),
        ledger=around.ledger,
        problem=around.problem,
        unsaved=around.unsaved,
        warnings=around.warnings,
        subscribers=around.subscribers,
        dropped=around.dropped,
        page_bytes=_page_bytes(state),
        cgroups_total=len(state.memcgs),
        cgroups=told,
    )


def _soonest_of(
    told: tuple[CgroupStatus, ...], state: State, rules: Rules, now: Instant
) -> NextEviction:
    if told and len(told) == len(state.memcgs):
        return soonest(each.next_eviction for each in told)
    return first_of_all(state, rules, now)


def doing_of(state: State) -> Doing:
    """Say what the worker is at."""
    guest, turn = state.guest, state.turn
    if state.stopping:
        return "stopping"
    if guest is None:
        return "starting"
    if guest.idle_because is not None:
        return "idle"
    if state.hold is not None:
        return "held"
    if state.pause is not None:
        return "paused"
    return "resting" if turn is None or turn.doing is None else _working(turn.doing)


def _working(work: Work) -> Doing:
    match work:
        case Survey():
            return "surveying"
        case Age():
            return "aging"
        case Compact() | ReadFragmentation():
            return "compacting"
        case _:
            return "evicting"


def _compaction(state: State, now: Instant) -> CompactionStatus | None:
    if state.guest is None or not state.guest.compacts:
        return None
    known, counters = state.compact, state.compact.counters
    under_way = state.turn is not None and state.turn.compaction is not None
    return CompactionStatus(
        next_look_at_us=None if under_way else known.due,
        order=known.order,
        checks=counters.checks,
        runs=counters.runs,
        broken_off=counters.broken_off,
        moved_bytes=counters.moved_pages * _page_bytes(state),
        expected_bytes=counters.expected_bytes,
        gained_bytes=counters.gained_bytes,
        took_us=counters.took_us,
        because=dict(counters.because),
        last=None if known.last is None else row_of(0, known.last_at, known.last),
        left_alone_until_us={
            f"{node}/{zone}": lore.left_until
            for (node, zone), lore in known.zones.items()
            if lore.misses and lore.left_until > now
        },
    )


def pause_status(state: State) -> PauseStatus | None:
    """Tell of the pause, if there is one."""
    pause = state.pause
    if pause is None:
        return None
    row = row_of(0, pause.since, Decision("pause", pause.because))
    return PauseStatus(
        since_us=pause.since,
        because=row.because,
        figures=row.figures,
        looks_at_us=pause.check_at,
        looks=pause.checks,
    )


def _hurt(seen: HarmSeen) -> HurtStatus:
    return HurtStatus(
        at_us=seen.at,
        since_us=seen.since,
        left_out=seen.left_out,
        cgroups=tuple(
            CgroupDelays(
                path=as_text(each.path),
                delays=Delays(
                    since_us=seen.since,
                    processes=each.processes,
                    gone=each.gone,
                    reclaim_us=each.reclaim_us,
                    swap_in_us=each.swap_in_us,
                    thrashing_us=each.thrashing_us,
                    compact_us=each.compact_us,
                    block_io_us=each.block_io_us,
                ),
            )
            for each in seen.memcgs
        ),
    )


def _squeeze(state: State) -> SqueezeStatus | None:
    squeeze, size = state.squeeze, _page_bytes(state)
    if squeeze is None:
        return None
    target, gained = squeeze.target_pages, gained_pages(squeeze)
    return SqueezeStatus(
        by=as_text(squeeze.by),
        scope=as_text(squeeze.path),
        since_us=squeeze.asked_at,
        deadline_us=squeeze.deadline,
        target_bytes=None if target is None else min(target * size, INT_MAX),
        evicted_bytes=evicted_pages(state) * size,
        gained_bytes=None if gained is None else gained * size,
    )


def _keep(state: State) -> KeepStatus | None:
    keep = state.keep
    if keep is None:
        return None
    return KeepStatus(
        by=as_text(keep.by),
        scope=as_text(keep.path),
        since_us=keep.since,
        until_us=keep.until,
        reportable_bytes=min(keep.pages * _page_bytes(state), INT_MAX),
    )


def hold_status(state: State) -> HoldStatus | None:
    """Tell of an operator's pause, if there is one."""
    hold = state.hold
    if hold is None:
        return None
    by, reason = as_text(hold.by), as_text(hold.reason)
    return HoldStatus(since_us=hold.since, until_us=hold.until, by=by, reason=reason)


def _next_turn_at(state: State) -> int | None:
    due = min(state.due.values(), default=None)
    if due is None or state.turn is not None:
        return None
    return due if state.hold is None else max(due, state.hold.until)


def _guest_pressure(state: State, rules: Rules) -> StallShare | None:
    if not state.samples:
        return None
    stall_us, over_us = worst_guest_stall(state.samples, window_us(state, rules))
    return StallShare(stall_us=stall_us, over_us=over_us, limit_ppm=rules.system_limit_ppm)


def _all_counters(state: State) -> Counters:
    """The sums over all memcgs; for thousands of them, so each is looked at once."""
    agings = evictions = evicted_pages = 0
    because: dict[str, int] = {}
    for memcg in state.memcgs.values():
        counters = memcg.counters
        agings += counters.agings
        evictions += counters.evictions
        evicted_pages += counters.evicted_pages
        for code, times in counters.because.items():
            because[code] = because.get(code, 0) + times
    return Counters(
        agings=agings,
        evictions=evictions,
        evicted_bytes=evicted_pages * _page_bytes(state),
        because=because,
    )


def _rungs(state: State) -> dict[str, str]:
    if state.guest is None:
        return {}
    triggers = "any window" if state.guest.privileged_psi else "windows of 2 s"
    return {"evict": state.guest.evicts, "pressure": triggers}


def _page_bytes(state: State) -> int:
    return state.guest.page_bytes if state.guest else 0


def cgroups_of(
    state: State,
    rules: Rules,
    now: Instant,
    within: str | None = None,
    limits: CgroupLimits | None = None,
) -> Iterator[CgroupStatus]:
    """Tell of each cgroup, one at a time: a state does not change, so that nobody need hurry.

    Args:
        state: As it was when somebody asked.
        rules: What was in force then.
        now: That moment.
        within: Tell of this one and those below it alone.
        limits: What was read of that very one.
    """
    views = tuple(memcg.view for memcg in state.memcgs.values() if memcg.view)
    teller = Teller(state, rules, now, own_stalls(views))
    for path in sorted(state.memcgs):
        if within is None or is_within(as_text(path), within):
            mine = limits if as_text(path) == within else None
            yield teller.cgroup(state.memcgs[path], mine)


class Teller:
    """Tells of one memcg after the other, by what is the same for all.

    Args:
        state: As it was when somebody asked.
        rules: What was in force then.
        now: That moment.
        stalls: Of each memcg alone, by path.
    """

    def __init__(
        self, state: State, rules: Rules, now: Instant, stalls: dict[str, tuple[int, int]]
    ) -> None:
        self._state = state
        self._rules = rules
        self._now = now
        self._stalls = stalls
        self._page_bytes = _page_bytes(state)
        # Each entry has rules of its own, so that they tell which entry was found.
        self._entries = {id(rule.rules): as_text(rule.path) for rule in rules.cgroups}

    def rules_of(self, memcg: Memcg) -> list[MemcgRules]:
        """What holds for it on each of its nodes."""
        return [rules_on(self._rules, memcg, node) for node in nodes_of(memcg)]

    def cgroup(
        self,
        memcg: Memcg,
        limits: CgroupLimits | None = None,
        found: list[MemcgRules] | None = None,
    ) -> CgroupStatus:
        """Tell of one.

        Args:
            memcg: Which one.
            limits: What was read of it, where somebody did.
            found: Its rules, where somebody has found them already.
        """
        found = found or self.rules_of(memcg)
        nodes = tuple(map(self._node, repeat(memcg), nodes_of(memcg), found))
        mine = found[0]
        floor = floor_bytes(mine, limits.max_bytes if limits else None)
        anon_bytes, file_bytes, cold_bytes = _sums(nodes)
        return CgroupStatus(
            path=as_text(memcg.path),
            populated=memcg.populated,
            frozen=memcg.frozen,
            surveyed_at_us=memcg.viewed_at if memcg.view else None,
            anon_bytes=anon_bytes,
            file_bytes=file_bytes,
            cold_bytes=cold_bytes,
            nodes=nodes,
            counters=self._counters(memcg),
            last=None if memcg.last is None else row_of(0, memcg.last_at, memcg.last),
            next_eviction=soonest(node.next_eviction for node in nodes),
            pressure=self._pressure(memcg, mine),
            promotion=self._promotion(memcg),
            away_until_us=memcg.away_until if memcg.away_until > self._now else None,
            floor_bytes=min(floor, INT_MAX) or None,
            limits=limits,
        )

    def _node(self, memcg: Memcg, node: NodeView | None, mine: MemcgRules) -> NodeStatus:
        generations = () if node is None else node.generations
        since_us = self._now - memcg.viewed_at
        cold = cold_pages(generations, mine, populated=memcg.populated, since_us=since_us)
        size = self._page_bytes
        return NodeStatus(
            node=0 if node is None else node.node,
            rule=self._entries.get(id(mine)),
            disabled=mine.disabled,
            swap=mine.swap,
            period_us=mine.period_us,
            aging_count_min=min(mine.aging_count_min, INT_MAX),
            cold_bytes=sum(cold) * size,
            generations=tuple(
                [
                    GenerationStatus(
                        seq=g.seq,
                        age_us=g.age_us + since_us,
                        anon_bytes=g.anon_pages * size,
                        file_bytes=g.file_pages * size,
                    )
                    for g in generations
                ]
            ),
            next_eviction=next_on_node(self._state, memcg, node, mine, self._now),
        )

    def _counters(self, memcg: Memcg) -> Counters:
        counters = memcg.counters
        return Counters(
            agings=counters.agings,
            evictions=counters.evictions,
            evicted_bytes=counters.evicted_pages * self._page_bytes,
            because=dict(counters.because),
        )

    def _promotion(self, memcg: Memcg) -> PromotionStatus | None:
        last = memcg.promotion.last
        if last is None:
            return None
        return PromotionStatus(
            promoted_bytes=last.pages * self._page_bytes,
            over_us=last.over_us,
            workingset_bytes=last.workingset_pages * self._page_bytes,
            limit_ppm_per_min=last.limit_ppm_per_min,
            over_limit=last.over_limit,
        )

    def _pressure(self, memcg: Memcg, mine: MemcgRules) -> StallShare | None:
        """From the begin of its idle phase to the last survey."""
        over_us = memcg.viewed_at - memcg.stall_at
        seen = self._stalls.get(memcg.path)
        if memcg.stall_us is None or seen is None or over_us <= 0:
            return None
        grown = (max(0, new - old) for new, old in zip(seen, memcg.stall_us, strict=True))
        return StallShare(stall_us=sum(grown), over_us=over_us, limit_ppm=mine.period_limit_ppm)


def _sums(nodes: tuple[NodeStatus, ...]) -> tuple[int, int, int]:
    """Anonymous, file and cold bytes; by hand, for it is done for each of thousands."""
    anon = file = cold = 0
    for node in nodes:
        cold += node.cold_bytes
        for generation in node.generations:
            anon += generation.anon_bytes
            file += generation.file_bytes
    return anon, file, cold
