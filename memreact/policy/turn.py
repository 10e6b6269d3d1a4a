"""One turn from its survey to its end: evict, then age, and let go when somebody is hurt."""

from __future__ import annotations

from dataclasses import replace

from memreact.actions import (
    Action,
    Age,
    AgeTarget,
    Arm,
    Because,
    BreakOff,
    Decision,
    Disarm,
    Inspect,
    ReadPressure,
    Survey,
    Trigger,
)
from memreact.events import (
    AgeResult,
    AgingEnded,
    BatchEnded,
    Inspected,
    Inspection,
    Instant,
    Surveyed,
)
from memreact.policy import refault
from memreact.policy.eviction import WRITE_ENDS_US, after_batch, next_write
from memreact.policy.plan import plan, with_baselines
from memreact.policy.pressure import (
    BURST_WINDOW_US,
    ladder,
    newest_guest_stall,
    over,
    worst_guest_stall,
    worst_memcg_stall,
)
from memreact.policy.state import (
    Candidate,
    Eviction,
    Memcg,
    Pause,
    State,
    Step,
    Turn,
    decided,
    nothing,
    sampled,
    with_memcg,
)
from memreact.rules import MemcgRules, Rules, rules_for

__all__ = [
    "aging_ended",
    "batch_ended",
    "begin",
    "break_off",
    "check_pause",
    "inspected",
    "plan_anew",
    "proceed",
    "stall_seen",
    "surveyed",
    "window_us",
    "yield_to_pressure",
]

# Without CAP_SYS_RESOURCE the kernel takes no other window, and looks only that often.
SLOW_WINDOW_US = 2_000_000
# Smaller evictions are over before a trigger could fire: their totals are read around the write.
ARM_PAGES = 4096
AGINGS_IN_A_ROW = 32
TURN_ENDS_US = 3_600_000_000
_LONGEST_CHECK = 16


def begin(state: State, periods: frozenset[int], now: Instant) -> Step:
    """Start a turn for the periods that are due, or for emptied memcgs alone."""
    only = None if periods else state.emptied
    turn = Turn(started_at=now, periods=periods, only=only)
    state = replace(state, emptied=frozenset(), samples=())
    return _survey(state, turn)


def surveyed(state: State, event: Surveyed, rules: Rules, now: Instant) -> Step:
    """Take in what a survey saw: the turn's plan, or its closing figures."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    turn = replace(turn, in_flight=False, surveys=turn.surveys + 1)
    state = sampled(replace(state, turn=turn), event.pressure, window_us(state, rules))
    if event.failed is not None:
        return _finish(state, turn, Because("survey_failed", {"detail": event.failed}), now)
    if turn.stage == "close":
        return _finish(with_baselines(state, event, now), turn, _summary(turn, now), now)
    return _planned(state, turn, event, rules, now)


def _planned(state: State, turn: Turn, event: Surveyed, rules: Rules, now: Instant) -> Step:
    made = plan(state, turn, event, rules, now)
    if turn.surveys == 1:
        state = with_baselines(state, event, now)
    turn = replace(
        turn,
        stage="evict",
        candidates=made.candidates,
        agings=made.agings,
        plan_again=state.pause is not None,
    )
    state = decided(replace(state, turn=turn), made.decisions)
    return Step(state, (), made.decisions).then(proceed(state, rules, now))


def proceed(state: State, rules: Rules, now: Instant) -> Step:
    """Do the next thing of the turn, unless something is under way or we stay away."""
    turn = state.turn
    if turn is None or turn.in_flight or state.pause or now < turn.hold_until:
        return nothing(state)
    if state.stopping or now - turn.started_at > TURN_ENDS_US:
        return _finish(state, turn, _summary(turn, now), now)
    if turn.plan_again:
        return _survey(state, replace(turn, stage="survey", eviction=None))
    if turn.candidates:
        return _inspect_next(state, turn, rules)
    if turn.agings:
        return _age_next(state, turn, rules)
    if turn.worked:
        return _survey(state, replace(turn, stage="close"))
    return _finish(state, turn, _summary(turn, now), now)


def _survey(state: State, turn: Turn) -> Step:
    return Step(replace(state, turn=replace(turn, in_flight=True)), (Survey(),))


def _inspect_next(state: State, turn: Turn, rules: Rules) -> Step:
    candidate, *rest = turn.candidates
    eviction = Eviction(candidate, started_at=Instant(0))
    turn = replace(turn, candidates=tuple(rest), eviction=eviction, in_flight=True, worked=True)
    state, arm = _armed(state, turn, rules)
    return Step(state, (*arm, Inspect(candidate.path)))


def _armed(state: State, turn: Turn, rules: Rules) -> tuple[State, tuple[Action, ...]]:
    """Arm the guest's triggers before the first work of a turn."""
    if turn.armed:
        return replace(state, turn=turn), ()
    triggers = _triggers(state, rules.system_limit_ppm, rules)
    return replace(state, turn=replace(turn, armed=True)), (Arm("", triggers),)


def _triggers(state: State, limit_ppm: int, rules: Rules) -> tuple[Trigger, ...]:
    window = window_us(state, rules)
    if state.guest is not None and state.guest.privileged_psi:
        return ladder(limit_ppm, window)
    return ladder(limit_ppm, window)[-1:]


def window_us(state: State, rules: Rules) -> int:
    """The sliding window that this guest's triggers allow."""
    if state.guest is not None and state.guest.privileged_psi:
        return rules.window_us
    return max(SLOW_WINDOW_US, rules.window_us // SLOW_WINDOW_US * SLOW_WINDOW_US)


def inspected(state: State, event: Inspected, rules: Rules, now: Instant) -> Step:
    """Start the writes to a memcg with what it looked like before the first one."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    state = replace(state, turn=replace(turn, in_flight=False))
    if turn.eviction is None:
        return proceed(state, rules, now)
    saw, memcg = event.inspection, state.memcgs.get(event.path)
    if saw is None or memcg is None:
        return _end_eviction(state, _gone(event.detail), rules, now)
    kept_away = Because("stopping") if state.stopping else _oom_since(memcg, saw)
    memcg = _learnt(memcg, saw, _rules(turn.eviction.candidate, rules), now)
    state = sampled(with_memcg(state, memcg), saw.pressure, window_us(state, rules))
    if kept_away is not None:
        return _end_eviction(state, kept_away, rules, now)
    allowed = refault.allowance_pages(memcg.appetite, turn.eviction.candidate.pages)
    eviction = replace(turn.eviction, started_at=now, first=saw, last=saw, allowed_pages=allowed)
    return _start(state, eviction, saw, rules, now)


def _start(state: State, eviction: Eviction, saw: Inspection, rules: Rules, now: Instant) -> Step:
    armed = eviction.allowed_pages >= ARM_PAGES
    eviction = replace(eviction, armed=armed)
    limit_ppm = _rules(eviction.candidate, rules).eviction_limit_ppm
    triggers = _triggers(state, limit_ppm, rules)
    arm = (Arm(eviction.candidate.path, triggers),) if armed else ()
    return Step(state, arm).then(_write_next(state, eviction, saw, rules, now))


def _write_next(
    state: State, eviction: Eviction, saw: Inspection, rules: Rules, now: Instant
) -> Step:
    turn, guest = state.turn, state.guest
    if turn is None or guest is None:
        return nothing(state)
    mine = _rules(eviction.candidate, rules)
    state = replace(state, turn=replace(turn, eviction=eviction))
    write = next_write(eviction, saw, mine, guest.page_bytes, now)
    if isinstance(write, Because):
        return _end_eviction(state, write, rules, now)
    eviction = replace(eviction, write_ends_by=Instant(now + WRITE_ENDS_US))
    turn = replace(turn, eviction=eviction, in_flight=True)
    return Step(replace(state, turn=turn), (write,))


def batch_ended(state: State, event: BatchEnded, rules: Rules, now: Instant) -> Step:
    """One write is over: go on, stay away for a moment, or end this eviction."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    before = turn.eviction
    if before is None:
        return proceed(replace(state, turn=replace(turn, in_flight=False)), rules, now)
    eviction = replace(before, last=event.after or before.last)
    state = replace(state, turn=replace(turn, in_flight=False, eviction=eviction))
    if event.after is None:
        return _end_eviction(state, _gone(event.detail), rules, now)
    state = sampled(state, event.after.pressure, window_us(state, rules))
    return (
        yield_to_pressure(state, rules, now)
        or _stopped_short(state, event, rules, now)
        or _write_on(state, before, event, rules, now)
    )


def _stopped_short(state: State, event: BatchEnded, rules: Rules, now: Instant) -> Step | None:
    """The eviction ends, or waits, for a reason that is not in the memcg's own pages."""
    turn = state.turn
    if turn is None or turn.eviction is None:
        return nothing(state)
    if event.outcome in {"refused", "unsupported"}:
        return _end_eviction(state, Because("refused", {"detail": event.detail}), rules, now)
    if turn.plan_again or state.stopping:
        return _end_eviction(state, Because("plan_changed"), rules, now)
    return None if event.outcome == "done" else _hold(state, turn.eviction, event, now)


def _write_on(
    state: State, before: Eviction, event: BatchEnded, rules: Rules, now: Instant
) -> Step:
    guest, after = state.guest, event.after
    if guest is None or after is None:
        return nothing(state)
    went = after_batch(before, event, _rules(before.candidate, rules), guest.page_bytes)
    if isinstance(went, Because):
        return _end_eviction(state, went, rules, now)
    return _write_next(state, went, after, rules, now)


def _hold(state: State, eviction: Eviction, event: BatchEnded, now: Instant) -> Step:
    """A trigger broke the write off, but no limit is crossed: wait a burst's length, look again."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    held = replace(turn, hold_until=Instant(now + BURST_WINDOW_US))
    saw: dict[str, int | str] = {"outcome": event.outcome, "took_us": event.took_us}
    because = Because("stall_below_limit", {**saw, "evicted_pages": eviction.evicted_pages})
    decision = Decision("hold", because, event.path, event.node)
    return Step(replace(state, turn=held), (), (decision,))


def stall_seen(state: State, rules: Rules, now: Instant) -> Step:
    """Fresh totals: let go, or go on where a hold is over."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    if turn.in_flight:
        hurt = _hurt(state, turn.eviction, rules) is not None
        return Step(state, (BreakOff(),) if hurt else ())
    yielded = yield_to_pressure(state, rules, now)
    if yielded is not None:
        return yielded
    if turn.eviction is None or turn.eviction.last is None or turn.plan_again:
        return proceed(state, rules, now)
    if now < turn.hold_until:
        return nothing(state)
    return _write_next(state, turn.eviction, turn.eviction.last, rules, now)


def yield_to_pressure(state: State, rules: Rules, now: Instant) -> Step | None:
    """Stay away where a limit is crossed: from the guest, or from the memcg at work."""
    turn = state.turn
    hurt = None if turn is None or state.pause else _hurt(state, turn.eviction, rules)
    if turn is None or hurt is None:
        return None
    if hurt.code == "guest_stall_over_limit":
        return pause(state, hurt, rules, now)
    return _stalled(state, turn, hurt, rules, now)


def _hurt(state: State, eviction: Eviction | None, rules: Rules) -> Because | None:
    if not state.samples:
        return None
    window = window_us(state, rules)
    if eviction is not None and state.samples[-1].memcg == eviction.candidate.path:
        limit = _rules(eviction.candidate, rules).eviction_limit_ppm
        stall = worst_memcg_stall(state.samples, window)
        if eviction.candidate.path != "/" and over(stall, limit):
            return _because_stall("stall_over_limit", stall, limit)
    stall = worst_guest_stall(state.samples, window)
    if over(stall, rules.system_limit_ppm):
        return _because_stall("guest_stall_over_limit", stall, rules.system_limit_ppm)
    return None


def _because_stall(code: str, stall: tuple[int, int], limit_ppm: int) -> Because:
    stall_us, over_us = stall
    return Because(code, {"stall_us": stall_us, "over_us": over_us, "limit_ppm": limit_ppm})


def _stalled(state: State, turn: Turn, hurt: Because, rules: Rules, now: Instant) -> Step:
    """The memcg's own stall: leave it until its next period, or for a quiet window."""
    eviction = turn.eviction
    if eviction is None:
        return nothing(state)
    candidate = eviction.candidate
    if rules.resume_quiet:
        hold = Instant(now + window_us(state, rules))
        turn = replace(turn, hold_until=hold, plan_again=True)
    else:
        key = (candidate.path, candidate.node)
        agings = tuple(a for a in turn.agings if (a.path, a.node) != key)
        hold = Instant(now + BURST_WINDOW_US)
        turn = replace(turn, dropped=turn.dropped | {key}, agings=agings, hold_until=hold)
    return _end_eviction(replace(state, turn=turn), hurt, rules, now)


def pause(state: State, because: Because, rules: Rules, now: Instant) -> Step:
    """Stay away from the whole guest until a quiet window has passed."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    check_at = Instant(now + window_us(state, rules))
    state, closing = _closed_eviction(state, turn, because, again=True)
    turn = replace(state.turn or turn, plan_again=True, armed=False)
    state = replace(
        state,
        turn=turn,
        pause=Pause(now, check_at, because),
        samples=state.samples[-1:],
    )
    decision = Decision("pause", because)
    return Step(state, (BreakOff(), *closing.actions, Disarm("")), (*closing.decisions, decision))


def check_pause(state: State, rules: Rules, now: Instant) -> Step:
    """Resume after a quiet window, one with at most half the limit; else look again, later."""
    held = state.pause
    if held is None or len(state.samples) < 2:  # noqa: PLR2004  # a difference takes two
        return nothing(state)
    stall, window = newest_guest_stall(state.samples), window_us(state, rules)
    state = replace(state, samples=state.samples[-1:])
    if over(stall, rules.system_limit_ppm // 2):
        later = Instant(now + window * min(2 ** (held.checks + 1), _LONGEST_CHECK))
        return Step(replace(state, pause=replace(held, check_at=later, checks=held.checks + 1)))
    saw: dict[str, int | str] = {"stall_us": stall[0], "over_us": stall[1]}
    because = Because("quiet_window", {**saw, "paused_us": now - held.since})
    step = Step(replace(state, pause=None), (), (Decision("resume", because),))
    return step.then(proceed(step.state, rules, now))


def break_off(state: State) -> Step:
    """End what is under way, if anything is."""
    under_way = state.turn is not None and state.turn.in_flight
    return Step(state, (BreakOff(),) if under_way else ())


def plan_anew(state: State, rules: Rules, now: Instant) -> Step:
    """The ground moved: what runs ends now, and the turn is planned again from a fresh survey."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    state = replace(state, turn=replace(turn, plan_again=True, done=frozenset()))
    if turn.in_flight:
        return Step(state, (BreakOff(),))
    if turn.eviction is not None:
        return _end_eviction(state, Because("plan_changed"), rules, now)
    return proceed(state, rules, now)


def _end_eviction(state: State, because: Because, rules: Rules, now: Instant) -> Step:
    turn = state.turn
    if turn is None:
        return nothing(state)
    again = turn.plan_again or (because.code == "stall_over_limit" and rules.resume_quiet)
    state, closing = _closed_eviction(state, turn, because, again=again)
    return closing.then(proceed(state, rules, now))


def _closed_eviction(
    state: State, turn: Turn, because: Because, *, again: bool
) -> tuple[State, Step]:
    """Account for the eviction that ends here; `again` leaves it to a new plan of this turn."""
    eviction = turn.eviction
    if eviction is None:
        return state, Step(state)
    candidate, pages = eviction.candidate, eviction.evicted_pages
    decision = _verdict(eviction, because)
    done = turn.done if again else turn.done | {(candidate.path, candidate.node)}
    turn = replace(turn, eviction=None, done=done, evicted_pages=turn.evicted_pages + pages)
    state = replace(state, turn=turn)
    memcg = state.memcgs.get(candidate.path)
    if memcg is not None:
        state = with_memcg(state, _accounted(memcg, eviction))
    state = decided(state, (decision,))
    disarm: tuple[Action, ...] = (Disarm(candidate.path),) if eviction.armed else ()
    return state, Step(state, disarm, (decision,))


def _verdict(eviction: Eviction, because: Because) -> Decision:
    saw = {"evicted_pages": eviction.evicted_pages, **because.saw}
    candidate = eviction.candidate
    return Decision("end", Because(because.code, saw), candidate.path, candidate.node)


def _accounted(memcg: Memcg, eviction: Eviction) -> Memcg:
    pages, last = eviction.evicted_pages, eviction.last
    counters = replace(
        memcg.counters,
        evictions=memcg.counters.evictions + 1,
        evicted_pages=memcg.counters.evicted_pages + pages,
    )
    memcg = replace(memcg, counters=counters)
    if last is None or not pages:
        return memcg
    taken = memcg.appetite.evicted_pages + pages
    return replace(memcg, appetite=refault.evicted(memcg.appetite, taken, last.refault_total_pages))


def _learnt(memcg: Memcg, saw: Inspection, mine: MemcgRules, now: Instant) -> Memcg:
    away = memcg.away_until
    if _oom_since(memcg, saw) is not None:
        away = Instant(now + mine.period_us)
    appetite = refault.learn(memcg.appetite, saw.refault_total_pages)
    return replace(memcg, appetite=appetite, away_until=away, oom_total=saw.oom_total)


def _oom_since(memcg: Memcg, saw: Inspection) -> Because | None:
    if memcg.oom_total is None or saw.oom_total <= memcg.oom_total:
        return None
    return Because("after_oom", {"times": saw.oom_total - memcg.oom_total})


def _age_next(state: State, turn: Turn, rules: Rules) -> Step:
    row, rest = turn.agings[:AGINGS_IN_A_ROW], turn.agings[AGINGS_IN_A_ROW:]
    turn = replace(turn, stage="age", agings=rest, aging=row, in_flight=True, worked=True)
    state, arm = _armed(state, turn, rules)
    return Step(state, (*arm, Age(row)))


def aging_ended(state: State, event: AgingEnded, rules: Rules, now: Instant) -> Step:
    """A row of agings is over: count them, and see whether they hurt."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    aged = [result for result in event.results if result.outcome == "done"]
    ended = {(r.path, r.node) for r in event.results if r.outcome != "held_back"}
    back = tuple(target for target in turn.aging if (target.path, target.node) not in ended)
    hold = Instant(now + BURST_WINDOW_US) if back else turn.hold_until
    turn = replace(
        turn,
        in_flight=False,
        aged=turn.aged + len(aged),
        agings=back + turn.agings,
        aging=(),
        hold_until=hold,
    )
    state = replace(state, turn=turn)
    state = _count_agings(state, aged)
    failed = tuple(_aging_failed(r) for r in event.results if r.outcome == "refused")
    state = sampled(decided(state, failed), event.pressure, window_us(state, rules))
    step = Step(state, (), failed)
    return step.then(yield_to_pressure(state, rules, now) or proceed(state, rules, now))


def _count_agings(state: State, aged: list[AgeResult]) -> State:
    changed: dict[str, Memcg] = {}
    for result in aged:
        memcg = changed.get(result.path) or state.memcgs.get(result.path)
        if memcg is not None:
            counters = replace(memcg.counters, agings=memcg.counters.agings + 1)
            changed[result.path] = replace(memcg, counters=counters)
    return replace(state, memcgs={**state.memcgs, **changed}) if changed else state


def _aging_failed(result: AgeResult) -> Decision:
    because = Because("aging_refused", {"detail": result.detail})
    return Decision("leave", because, result.path, result.node)


def _gone(detail: str) -> Because:
    return Because("vanished", {"detail": detail} if detail else {})


def _rules(candidate: Candidate | AgeTarget, rules: Rules) -> MemcgRules:
    return rules_for(rules, candidate.path, candidate.node)


def _summary(turn: Turn, now: Instant) -> Because:
    saw: dict[str, int | str] = {"evicted_pages": turn.evicted_pages, "aged": turn.aged}
    return Because("turn_over", {**saw, "took_us": now - turn.started_at, "surveys": turn.surveys})


def _finish(state: State, turn: Turn, because: Because, now: Instant) -> Step:
    """End the turn: the next idle phase is a whole period long, and begins here."""
    due = dict(state.due)
    for period in turn.periods & due.keys():
        due[period] = Instant(now + period)
    state = replace(state, turn=None, due=due, turns=state.turns + 1, turn_ended_at=now, samples=())
    disarm: tuple[Action, ...] = (Disarm(""),) if turn.armed else ()
    return Step(state, disarm, (Decision("turn", because),))


def look_again(turn: Turn) -> ReadPressure:
    """The reading that decides whether a hold is over."""
    return ReadPressure(None if turn.eviction is None else turn.eviction.candidate.path)
