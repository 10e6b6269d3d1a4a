"""The one entrance: what an event means, what to do, when to wake, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memreact.actions import Because, BreakOff, Decision, ReadCapabilities, ReadPressure
from memreact.events import (
    AgingEnded,
    BatchEnded,
    CapabilitiesRead,
    ClockDisturbed,
    Event,
    Inspected,
    Instant,
    LimitHit,
    MemcgAppeared,
    MemcgChanged,
    MemcgGone,
    RulesChanged,
    StallSeen,
    Stopping,
    Surveyed,
    TimerFired,
)
from memreact.policy import turn as turns
from memreact.policy.eviction import WRITE_ENDS_US
from memreact.policy.state import Memcg, State, Step, nothing, sampled, with_memcg
from memreact.rules import Rules

__all__ = ["step"]

# A memcg that was left is mostly removed at once: wait for that, and gather its neighbours.
_EMPTIED_AFTER_US = 2_000_000
_EMPTIED_APART_US = 10_000_000


def step(state: State, event: Event, rules: Rules, now: Instant) -> Step:
    """Decide what one event means.

    Args:
        state: What was remembered.
        event: What happened, with its readings.
        rules: What is in force.
        now: The moment, read at the edge.
    """
    made = _meaning(state, event, rules, now)
    return replace(made, wake_at=_wake_at(made.state))


def _meaning(state: State, event: Event, rules: Rules, now: Instant) -> Step:  # noqa: PLR0911, C901, PLR0912  # a table
    match event:
        case TimerFired():
            return _timer(state, rules, now)
        case Surveyed():
            return turns.surveyed(state, event, rules, now)
        case Inspected():
            return turns.inspected(state, event, rules, now)
        case BatchEnded():
            return turns.batch_ended(state, event, rules, now)
        case AgingEnded():
            return turns.aging_ended(state, event, rules, now)
        case StallSeen():
            return _stall_seen(state, event, rules, now)
        case LimitHit():
            return _limit_hit(state, event, rules, now)
        case MemcgAppeared():
            return _appeared(state, event)
        case MemcgChanged():
            return _changed(state, event, now)
        case MemcgGone(path):
            return _gone(state, path)
        case RulesChanged():
            return _rules_changed(state, event, rules, now)
        case CapabilitiesRead():
            return _capabilities(state, event, rules, now)
        case ClockDisturbed():
            return _disturbed(state, event, rules, now)
        case Stopping():
            return Step(replace(state, stopping=True), (BreakOff(),))


def _wake_at(state: State) -> Instant | None:
    """The next moment at which time alone changes what should be done."""
    turn = state.turn
    if state.stopping:
        return None
    if turn is None:
        emptied = (state.emptied_due,) if state.emptied else ()
        return min((*state.due.values(), *emptied), default=None)
    if turn.in_flight:
        return turn.eviction.write_ends_by if turn.eviction and turn.eviction.first else None
    return state.pause.check_at if state.pause else turn.hold_until


def _timer(state: State, rules: Rules, now: Instant) -> Step:
    turn = state.turn
    if state.stopping:
        return nothing(state)
    if turn is None:
        return _begin_what_is_due(state, now)
    if turn.in_flight:
        return _overdue(state, now)
    if state.pause:
        if now < state.pause.check_at:
            return nothing(state)
        later = Instant(now + turns.window_us(state, rules))
        return Step(replace(state, pause=replace(state.pause, check_at=later)), (ReadPressure(),))
    if now < turn.hold_until:
        return nothing(state)
    return Step(state, (turns.look_again(turn),))


def _begin_what_is_due(state: State, now: Instant) -> Step:
    periods = frozenset(period for period, due in state.due.items() if due <= now)
    emptied = bool(state.emptied) and state.emptied_due <= now
    return turns.begin(state, periods, now) if periods or emptied else nothing(state)


def _overdue(state: State, now: Instant) -> Step:
    """A write that takes too long is broken off like any other."""
    turn = state.turn
    if turn is None or turn.eviction is None or now < turn.eviction.write_ends_by:
        return nothing(state)
    later = Instant(now + WRITE_ENDS_US)
    turn = replace(turn, eviction=replace(turn.eviction, write_ends_by=later))
    return Step(replace(state, turn=turn), (BreakOff(),))


def _stall_seen(state: State, event: StallSeen, rules: Rules, now: Instant) -> Step:
    state = sampled(state, event.pressure, turns.window_us(state, rules))
    if state.pause is None:
        return turns.stall_seen(state, rules, now)
    return turns.check_pause(state, rules, now) if event.trigger is None else nothing(state)


def _limit_hit(state: State, event: LimitHit, rules: Rules, now: Instant) -> Step:
    """memory.high or max at the memcg at work ends its eviction; an OOM anywhere ends all."""
    memcg = state.memcgs.get(event.path)
    if memcg is not None and event.oom:
        away = Instant(now + rules.base.period_us)
        state = with_memcg(state, replace(memcg, away_until=away))
    if event.oom and state.turn is not None and state.pause is None:
        return turns.pause(state, Because("oom", {"path": event.path}), rules, now)
    return turns.break_off(state)


def _appeared(state: State, event: MemcgAppeared) -> Step:
    known = state.memcgs.get(event.path)
    if known is not None and known.inode == event.inode:
        return nothing(with_memcg(state, _marked(known, event.populated, event.frozen)))
    memcg = Memcg(event.path, event.inode, populated=event.populated, frozen=event.frozen)
    return nothing(with_memcg(state, memcg))


def _marked(memcg: Memcg, populated: bool, frozen: bool) -> Memcg:  # noqa: FBT001  # as read
    return replace(memcg, populated=populated, frozen=frozen)


def _changed(state: State, event: MemcgChanged, now: Instant) -> Step:
    memcg = state.memcgs.get(event.path)
    if memcg is None:
        return nothing(state)
    left = memcg.populated and not event.populated
    state = with_memcg(state, _marked(memcg, event.populated, event.frozen))
    if left:
        soon = max(now + _EMPTIED_AFTER_US, state.turn_ended_at + _EMPTIED_APART_US)
        due = state.emptied_due if state.emptied else Instant(soon)
        state = replace(state, emptied=state.emptied | {event.path}, emptied_due=due)
    return _break_off_if_at(state, event.path) if event.frozen else nothing(state)


def _gone(state: State, path: str) -> Step:
    memcgs = {known: memcg for known, memcg in state.memcgs.items() if known != path}
    state = replace(state, memcgs=memcgs, emptied=state.emptied - {path})
    return _break_off_if_at(state, path)


def _break_off_if_at(state: State, path: str) -> Step:
    turn = state.turn
    if turn is not None and turn.eviction is not None and turn.eviction.candidate.path == path:
        return turns.break_off(state)
    return nothing(state)


def _rules_changed(state: State, event: RulesChanged, rules: Rules, now: Instant) -> Step:
    due = _due(state, rules, now)
    turn = state.turn
    if turn is not None and turn.only is None:
        running = frozenset(p for p in due if p in turn.periods or due[p] <= now)
        state = replace(state, turn=replace(turn, periods=running))
    state = replace(state, due=due)
    decision = Decision("rules", Because("rules_changed", {"revision": event.revision}))
    return Step(state, (), (decision,)).then(turns.plan_anew(state, rules, now))


def _capabilities(state: State, event: CapabilitiesRead, rules: Rules, now: Instant) -> Step:
    state = replace(state, guest=event)
    return nothing(replace(state, due=_due(state, rules, now)))


def _due(state: State, rules: Rules, now: Instant) -> Mapping[int, Instant]:
    """When each period is next due; what is known stays, a new one never lies behind."""
    guest = state.guest
    if guest is None or guest.idle_because is not None or guest.evicts == "nothing":
        return {}
    all_rules = (rules.base, *(rule.rules for rule in rules.cgroups))
    periods = {rule.period_us for rule in all_rules if not rule.disabled}
    return {period: state.due.get(period) or _first(state, period, now) for period in periods}


def _first(state: State, period: int, now: Instant) -> Instant:
    """A new period counts from the last turn; at start, from a phase that this boot drew."""
    if state.turns:
        return Instant(max(now, state.turn_ended_at + period))
    phase = 0 if state.guest is None else int(state.guest.boot_phase * period)
    return Instant(now + period - (now - phase) % period)


def _disturbed(state: State, event: ClockDisturbed, rules: Rules, now: Instant) -> Step:
    """Rates and ages that were counted across the jump mean nothing: forget them."""
    memcgs = {
        path: replace(memcg, stall_us=None, appetite=replace(memcg.appetite, evicted_pages=0))
        for path, memcg in state.memcgs.items()
    }
    state = replace(state, memcgs=memcgs, samples=())
    decision = Decision("forget", Because("clock_disturbed", {"cause": event.cause}))
    step = Step(state, (ReadCapabilities(),), (decision,))
    return step.then(turns.plan_anew(state, rules, now))
