"""The evictions of a turn: read the memcg, write, read again, until there is a reason to end."""

from __future__ import annotations

from msgspec import structs

from memreact.actions import Because, Decision, Evict, Inspect, Reclaim
from memreact.events import BatchEnded, Inspected, Inspection, Instant
from memreact.policy import refault
from memreact.policy.closing import end_eviction, oom_near, rules_of, stay_away
from memreact.policy.eviction import WRITE_ENDS_US, accounted, next_write, opened
from memreact.policy.plan import LEAST_PAGES, forbidden, is_within
from memreact.policy.squeeze import left_pages
from memreact.policy.state import (
    Candidate,
    Eviction,
    Memcg,
    State,
    Step,
    Turn,
    nothing,
    sampled,
    with_memcg,
    with_turn,
)
from memreact.policy.yielding import (
    arm_guest,
    arm_memcg,
    break_off,
    hold,
    not_quiet_yet,
    window_us,
    yield_to_pressure,
)
from memreact.rules import MemcgRules, Rules
from memreact.value import replace

__all__ = ["batch_ended", "end_if_at", "go_on", "inspected", "overdue", "start"]


def start(state: State, turn: Turn, rules: Rules, now: Instant) -> Step:
    """Take up the next candidate, unless something came between since the plan was made."""
    candidate = turn.candidates[0]
    turn = replace(turn, stage="evict", candidates=turn.candidates[1:])
    kept = _kept_from(state, candidate, rules, now)
    key = (candidate.path, candidate.node)
    if turn.squeezes and (key in turn.dropped or key in turn.aside):
        kept = Because("stalled_this_turn")
    if kept is None:
        return Step(with_turn(state, replace(turn, eviction=Eviction(candidate))))
    return Step(
        with_turn(state, turn), (), (Decision("leave", kept, candidate.path, candidate.node),)
    )


def _kept_from(state: State, candidate: Candidate, rules: Rules, now: Instant) -> Because | None:
    memcg, guest = state.memcgs.get(candidate.path), state.guest
    if memcg is None or memcg.inode != candidate.inode:
        return Because("vanished")
    if guest is None:
        return Because("guest_unknown")
    return forbidden(memcg, rules_of(candidate, rules), guest.own_path, now)


def go_on(state: State, turn: Turn, eviction: Eviction, rules: Rules, now: Instant) -> Step:
    """The next reading or write of the eviction under way, or its end."""
    ends = eviction.ends or _kept_from(state, eviction.candidate, rules, now)
    left = left_pages(state) if turn.squeezes else None
    if ends is None and left is not None and left <= 0:
        ends = Because("squeezed")
    if ends is not None:
        return end_eviction(state, ends)
    if not eviction.fresh:
        return _inspect(state, turn, eviction, rules)
    return _write(state, turn, eviction, rules, now)


def _inspect(state: State, turn: Turn, eviction: Eviction, rules: Rules) -> Step:
    turn, arm = arm_guest(state, turn, rules)
    inspect = Inspect(eviction.candidate.path)
    return Step(with_turn(state, replace(turn, doing=inspect)), (*arm, inspect))


def _write(state: State, turn: Turn, eviction: Eviction, rules: Rules, now: Instant) -> Step:
    mine, guest = rules_of(eviction.candidate, rules), state.guest
    if guest is None:
        return nothing(state)
    write = next_write(eviction, mine, guest, now)
    if isinstance(write, Because):
        if write.code == "oom":
            state = stay_away(state, eviction.candidate.path, rules, now)
        return end_eviction(state, write)
    write = _no_more_than_wanted(state, turn, write)
    eviction, arm = arm_memcg(state, eviction, rules)
    ends_by = Instant(now + WRITE_ENDS_US)
    eviction = replace(eviction, fresh=False, write_ends_by=ends_by, overdue=False)
    turn = replace(turn, eviction=eviction, doing=write, worked=True)
    return Step(with_turn(state, turn), (*arm, write))


def _no_more_than_wanted(state: State, turn: Turn, write: Evict | Reclaim) -> Evict | Reclaim:
    """A squeeze takes what it was asked for, and no whole batch beyond it."""
    left = left_pages(state) if turn.squeezes else None
    if left is None:
        return write
    return structs.replace(write, pages=min(write.pages, max(LEAST_PAGES, left)))


def inspected(state: State, event: Inspected, rules: Rules, now: Instant) -> Step:
    """Take in what the memcg looks like: before its first write, or after a hold."""
    turn = state.turn
    if turn is None or turn.eviction is None or turn.doing != Inspect(event.path):
        return nothing(state)
    state = with_turn(state, replace(turn, doing=None))
    saw = event.inspection
    if saw is None:
        return end_eviction(state, _gone(event.detail))
    state = sampled(state, saw.pressure, window_us(state, rules))
    if state.pause is not None:
        return end_eviction(state, state.pause.because, again=True)
    if turn.eviction.ends is not None:
        return end_eviction(state, turn.eviction.ends, again=_again(state))
    if turn.eviction.first is None:
        step = _opened(state, turn.eviction.candidate, saw, rules, now)
    else:
        step = Step(_with_eviction(state, replace(turn.eviction, last=saw, fresh=True)))
    return step.then(
        not_quiet_yet(step.state, rules, now) or yield_to_pressure(step.state, rules, now)
    )


def _opened(
    state: State, candidate: Candidate, saw: Inspection, rules: Rules, now: Instant
) -> Step:
    memcg, mine = state.memcgs.get(candidate.path), rules_of(candidate, rules)
    if memcg is None:
        return end_eviction(state, _gone(""))
    if times := _ooms(state, memcg, saw, mine, now):
        because = Because("after_oom", {"times": times})
        state = with_memcg(state, replace(memcg, oom_total=saw.oom_total))
        return end_eviction(stay_away(state, candidate.path, rules, now), because)
    if _has_children(state, candidate.path):  # the counter holds their refaults too
        appetite = refault.Appetite()
    else:
        after_us = mine.period_us // 2
        appetite = refault.learn(memcg.appetite, saw.refault_total_pages, after_us, now)
    state = with_memcg(state, replace(memcg, appetite=appetite, oom_total=saw.oom_total))
    allowed = refault.allowance_pages(appetite, candidate.pages)
    return Step(_with_eviction(state, opened(candidate, allowed, saw, now)))


def _ooms(state: State, memcg: Memcg, saw: Inspection, mine: MemcgRules, now: Instant) -> int:
    """OOM kills since it was read last; before its first reading, those that may be recent."""
    if memcg.oom_total is not None:
        return max(0, saw.oom_total - memcg.oom_total)
    return saw.oom_total if oom_near(state, memcg.path, mine.period_us, now) else 0


def _has_children(state: State, path: str) -> bool:
    return any(known != path and is_within(known, path) for known in state.memcgs)


def _with_eviction(state: State, eviction: Eviction) -> State:
    turn = state.turn
    return state if turn is None else with_turn(state, replace(turn, eviction=eviction))


def batch_ended(state: State, event: BatchEnded, rules: Rules, now: Instant) -> Step:
    """One write is over: go on, stay away for a moment, or end this eviction."""
    turn = state.turn
    if turn is None or turn.eviction is None or not isinstance(turn.doing, Evict | Reclaim):
        return nothing(state)
    if event.path != turn.doing.path or state.guest is None:
        return nothing(state)
    after = accounted(turn.eviction, event, turn.doing, state.guest.page_bytes)
    eviction = replace(after, fresh=True)
    state = with_turn(state, replace(turn, doing=None, eviction=eviction))
    if event.after is None:
        return end_eviction(state, _gone(event.detail))
    state = sampled(state, event.after.pressure, window_us(state, rules))
    if state.pause is not None:
        return end_eviction(state, state.pause.because, again=True)
    if eviction.ends is not None:
        return end_eviction(state, eviction.ends, again=_again(state))
    yielded = yield_to_pressure(state, rules, now)
    return yielded.then(_stopped_short(yielded.state, event, now))


def _again(state: State) -> bool:
    """Whether a new plan of this turn may come back to the memcg at work."""
    turn = state.turn
    if turn is None or turn.eviction is None:
        return False
    return turn.plan_again or turn.eviction.key in turn.aside


def _stopped_short(state: State, event: BatchEnded, now: Instant) -> Step:
    """The eviction ends, or waits, for a reason that is not in the memcg's own pages."""
    turn = state.turn
    if turn is None or turn.eviction is None:
        return nothing(state)
    if event.outcome in {"refused", "unsupported"}:
        because = Because("refused", {"outcome": event.outcome, "detail": event.detail})
        return end_eviction(state, because)
    if event.outcome == "vanished":
        return end_eviction(state, _gone(event.detail))
    return nothing(state) if event.outcome == "done" else hold(state, turn.eviction, event, now)


def overdue(state: State, now: Instant) -> Step:
    """A write that takes too long is broken off like any other."""
    turn = state.turn
    if turn is None or turn.eviction is None or not isinstance(turn.doing, Evict | Reclaim):
        return nothing(state)
    if now < turn.eviction.write_ends_by:
        return nothing(state)
    eviction = replace(turn.eviction, write_ends_by=Instant(now + WRITE_ENDS_US), overdue=True)
    return break_off(_with_eviction(state, eviction))


def end_if_at(state: State, path: str, because: Because) -> Step:
    """End the eviction of this memcg, or of one below it, as soon as its write has returned."""
    turn = state.turn
    if turn is None or turn.eviction is None or turn.eviction.ends is not None:
        return nothing(state)
    at_work = turn.eviction.candidate.path
    if at_work != path and not at_work.startswith(path.rstrip("/") + "/"):
        return nothing(state)
    return break_off(_with_eviction(state, replace(turn.eviction, ends=because)))


def _gone(detail: str) -> Because:
    return Because("vanished", {"detail": detail} if detail else {})
