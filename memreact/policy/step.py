"""The one entrance: what an event means, what to do, when to wake, and why."""

from __future__ import annotations

from memreact.actions import Because, Decision, ReadCapabilities
from memreact.events import (
    AgingEnded,
    BatchEnded,
    CapabilitiesRead,
    ClockDisturbed,
    CompactionEnded,
    Event,
    Fragmentation,
    HarmSeen,
    HoldAsked,
    Inspected,
    Instant,
    LimitHit,
    MemcgAppeared,
    MemcgChanged,
    MemcgGone,
    ReleaseAsked,
    RulesChanged,
    RunAsked,
    SqueezeAsked,
    SqueezeCancelled,
    SqueezeReleased,
    StallSeen,
    Stopping,
    Surveyed,
    TimerFired,
)
from memreact.policy import compacting, evicting
from memreact.policy.ageing import aging_ended
from memreact.policy.asked import (
    hold_asked,
    hold_over,
    hold_unmeasured,
    release_asked,
    run_asked,
)
from memreact.policy.closing import oom_heard, stay_away
from memreact.policy.harm import harm_seen
from memreact.policy.promotion import PromotionLore, with_gone_child
from memreact.policy.schedule import (
    due_periods,
    next_look,
    next_turns,
    soon,
    wake_at,
    with_emptied,
    with_look,
)
from memreact.policy.squeeze import (
    checked,
    keep_over,
    squeeze_asked,
    squeeze_cancelled,
    squeeze_released,
    squeeze_unmeasured,
)
from memreact.policy.state import Memcg, State, Step, decided, nothing, with_memcg
from memreact.policy.turn import begin, plan_anew, proceed, surveyed
from memreact.policy.yielding import (
    ask_during_pause,
    break_off,
    leave_memcg,
    pause,
    stall_seen,
)
from memreact.rules import Rules, rules_for
from memreact.value import replace

__all__ = ["step"]

# What is heard after Stopping: how that which was under way ended.
_ANSWERS = (Surveyed, Inspected, BatchEnded, AgingEnded, Fragmentation, CompactionEnded)


def step(state: State, event: Event, rules: Rules, now: Instant) -> Step:
    """Decide what one event means.

    Args:
        state: What was remembered.
        event: What happened, with its readings.
        rules: What is in force.
        now: The moment, read at the edge.
    """
    if state.stopping and not isinstance(event, _ANSWERS):
        return nothing(state)
    made = hold_over(state, now)
    made = made.then(keep_over(made.state, now))
    made = made.then(_meaning(made.state, event, rules, now))
    made = made.then(checked(made.state, now))
    made = made.then(proceed(made.state, rules, now))
    state = decided(made.state, made.decisions, now)
    return replace(made, state=state, wake_at=wake_at(state))


def _meaning(state: State, event: Event, rules: Rules, now: Instant) -> Step:  # noqa: PLR0911, C901, PLR0912  # a table
    match event:
        case TimerFired():
            return _timer(state, rules, now)
        case Surveyed():
            return surveyed(state, event, rules, now)
        case Inspected():
            return evicting.inspected(state, event, rules, now)
        case BatchEnded():
            return evicting.batch_ended(state, event, rules, now)
        case AgingEnded():
            return aging_ended(state, event, rules, now)
        case Fragmentation():
            return compacting.seen(state, event, rules, now)
        case CompactionEnded():
            return compacting.ended(state, event, rules, now)
        case StallSeen():
            return stall_seen(state, event, rules, now)
        case LimitHit():
            return _limit_hit(state, event, rules, now)
        case HarmSeen():
            return harm_seen(state, event)
        case MemcgAppeared():
            return _appeared(state, event)
        case MemcgChanged():
            return _changed(state, event, rules, now)
        case MemcgGone(path):
            return _gone(state, path)
        case RulesChanged():
            return _rules_changed(state, event, rules, now)
        case CapabilitiesRead():
            return _capabilities(state, event, rules, now)
        case ClockDisturbed():
            return _disturbed(state, event, now)
        case HoldAsked():
            return hold_asked(state, event, now)
        case ReleaseAsked():
            return release_asked(state, event, now)
        case RunAsked():
            return run_asked(state, event, rules, now)
        case SqueezeAsked():
            return squeeze_asked(state, event, now)
        case SqueezeCancelled():
            return squeeze_cancelled(state, event)
        case SqueezeReleased():
            return squeeze_released(state, event, now)
        case Stopping():
            return break_off(replace(state, stopping=True))


def _timer(state: State, rules: Rules, now: Instant) -> Step:
    if state.turn is None:
        return _begin_what_is_due(state, rules, now) if state.hold is None else nothing(state)
    if state.turn.in_flight:
        overdue = evicting.overdue(state, now)
        return overdue.then(compacting.overdue(overdue.state, now))
    if state.pause is not None:
        return ask_during_pause(state, state.pause, rules, now)
    return nothing(state)


def _begin_what_is_due(state: State, rules: Rules, now: Instant) -> Step:
    periods, at = due_periods(state, now), soon(state)
    if periods or (at is not None and at <= now):
        return begin(state, periods, now)
    due = state.compact.due
    return compacting.look(state, rules, now) if due is not None and due <= now else nothing(state)


def _limit_hit(state: State, event: LimitHit, rules: Rules, now: Instant) -> Step:
    """memory.high or max at or below the memcg at work ends its eviction; an OOM ends all."""
    if event.oom:
        state = stay_away(oom_heard(state, event.path, now), event.path, rules, now)
        return pause(state, Because("oom", {"path": event.path}), rules, now)
    turn = state.turn
    if turn is None or turn.eviction is None or not (event.high or event.max):
        return nothing(state)
    at_work = turn.eviction.candidate.path
    if event.path != at_work and not event.path.startswith(at_work.rstrip("/") + "/"):
        return nothing(state)
    saw: dict[str, int | str] = {"path": event.path, "high": event.high, "max": event.max}
    return leave_memcg(state, Because("limit_hit", saw), rules, now)


def _appeared(state: State, event: MemcgAppeared) -> Step:
    known = state.memcgs.get(event.path)
    if known is not None and known.inode != event.inode:
        state = _forgotten(state, event.path)
    elif known is not None:
        marked = replace(known, populated=event.populated, frozen=event.frozen)
        return _frozen(with_memcg(state, marked), event.path, frozen=event.frozen)
    memcg = Memcg(event.path, event.inode, populated=event.populated, frozen=event.frozen)
    state = with_memcg(state, memcg)
    return nothing(state) if known is None else _end_at_gone(state, event.path)


def _changed(state: State, event: MemcgChanged, rules: Rules, now: Instant) -> Step:
    memcg = state.memcgs.get(event.path)
    if memcg is None:
        return nothing(state)
    left = memcg.populated and not event.populated
    marked = replace(memcg, populated=event.populated, frozen=event.frozen)
    state = with_memcg(state, marked)
    if left and not rules_for(rules, event.path, 0).disabled:
        state = with_emptied(state, event.path, now)
    return _frozen(state, event.path, frozen=event.frozen)


def _frozen(state: State, path: str, *, frozen: bool) -> Step:
    return evicting.end_if_at(state, path, Because("frozen")) if frozen else nothing(state)


def _gone(state: State, path: str) -> Step:
    return _end_at_gone(_forgotten(state, path), path)


def _forgotten(state: State, path: str) -> State:
    """The state without a memcg, whose totals until its last reading are never its parent's own."""
    memcgs = dict(state.memcgs)
    gone, parent = memcgs.pop(path, None), memcgs.get(path.rpartition("/")[0] or "/")
    ooms = {each: at for each, at in state.ooms.items() if each != path}
    if gone and gone.view and parent and parent.stall_us:
        memory, io = parent.stall_us
        stall_us = memory + gone.view.memory_stall_us, io + gone.view.io_stall_us
        memcgs[parent.path] = replace(parent, stall_us=stall_us)
    if gone and gone.view and parent:
        lore = with_gone_child(parent.promotion, gone.view.promoted_total_pages)
        memcgs[parent.path] = replace(memcgs[parent.path], promotion=lore)
    return replace(state, memcgs=memcgs, emptied=state.emptied - {path}, ooms=ooms)


def _end_at_gone(state: State, path: str) -> Step:
    return evicting.end_if_at(state, path, Because("vanished"))


def _rules_changed(state: State, event: RulesChanged, rules: Rules, now: Instant) -> Step:
    state = _rescheduled(state, rules, now)
    decision = Decision("rules", Because("rules_changed", {"revision": event.revision}))
    return Step(state, (), (decision,)).then(plan_anew(state, "plan_changed"))


def _rescheduled(state: State, rules: Rules, now: Instant) -> State:
    """The state with other turns due, and a running turn that is no longer for what is not."""
    due, turn = next_turns(state, rules, now), state.turn
    if turn is not None and turn.compaction is None:
        periods = frozenset(p for p in due if turn.asked or p in turn.periods or due[p] <= now)
        emptied = turn.emptied if due else frozenset()
        turn = replace(turn, periods=periods, emptied=emptied)
    compact = replace(state.compact, due=next_look(state, rules, now))
    return replace(state, due=due, turn=turn, compact=compact)


def _capabilities(state: State, event: CapabilitiesRead, rules: Rules, now: Instant) -> Step:
    """What this guest can do; another phase means that it is another guest's clone by now."""
    before, could = state.guest, bool(state.due)
    state = replace(state, guest=event)
    if before is not None and before.boot_phase != event.boot_phase:
        compact = replace(state.compact, due=None, ended_at=None)
        state = replace(state, due={}, turns=0, compact=compact)
    state = _rescheduled(state, rules, now)
    if state.due and not could:
        state = with_look(state, now)
    if before is None or before == event:
        return nothing(state)
    return plan_anew(state, "guest_changed")


def _unmeasured(memcg: Memcg) -> Memcg:
    appetite = replace(memcg.appetite, evicted_pages=0)
    return replace(memcg, stall_us=None, promotion=PromotionLore(), appetite=appetite)


def _disturbed(state: State, event: ClockDisturbed, now: Instant) -> Step:
    """Rates that were counted across the jump mean nothing: forget them."""
    released = hold_unmeasured(state, event.cause, now)
    released = released.then(squeeze_unmeasured(released.state, event.cause, now))
    state = released.state
    memcgs = {path: _unmeasured(memcg) for path, memcg in state.memcgs.items()}
    held = None if state.pause is None else replace(state.pause, base=None)
    compact = replace(state.compact, checked=None)
    state = replace(state, memcgs=memcgs, samples=(), pause=held, compact=compact)
    decision = Decision("forget", Because("clock_disturbed", {"cause": event.cause}))
    decisions = (*released.decisions, decision)
    step = Step(state, (*released.actions, ReadCapabilities()), decisions)
    return step.then(plan_anew(state, "clock_disturbed"))
