"""Letting go when somebody is hurt, staying away, and coming back when it is quiet."""

from __future__ import annotations

from memreact.actions import Action, Arm, Because, BreakOff, Decision, Disarm, ReadPressure, Trigger
from memreact.events import BatchEnded, Instant, PressureSample, StallSeen
from memreact.policy.closing import dropped, end_eviction, rules_of, without_aging
from memreact.policy.pressure import (
    BURST_WINDOW_US,
    Stall,
    guest_stall_between,
    ladder,
    memcg_stall_between,
    over,
    readable,
    worst_guest_stall,
    worst_memcg_stall,
)
from memreact.policy.state import (
    Aside,
    Eviction,
    Pause,
    State,
    Step,
    Turn,
    nothing,
    sampled,
    with_turn,
)
from memreact.rules import Rules
from memreact.value import replace

__all__ = [
    "arm_guest",
    "arm_memcg",
    "ask_during_pause",
    "break_off",
    "ending",
    "hold",
    "leave_memcg",
    "not_quiet_yet",
    "pause",
    "stall_seen",
    "window_us",
    "yield_to_pressure",
]

# Without CAP_SYS_RESOURCE the kernel takes no other window, and looks only that often.
SLOW_WINDOW_US = 2_000_000
# Smaller evictions are over before a trigger could fire: their totals are read around the write.
ARM_PAGES = 4096
_LONGEST_CHECK = 16
# So long windows prove enough: from then on the limit itself is quiet, no longer half of it.
_PATIENT_CHECKS = 4


def window_us(state: State, rules: Rules) -> int:
    """The sliding window that this guest's triggers allow."""
    if state.guest is not None and state.guest.privileged_psi:
        return rules.window_us
    return max(SLOW_WINDOW_US, rules.window_us // SLOW_WINDOW_US * SLOW_WINDOW_US)


def arm_guest(state: State, turn: Turn, rules: Rules) -> tuple[Turn, tuple[Action, ...]]:
    """Arm the guest's triggers before the first work of a turn."""
    if turn.armed:
        return turn, ()
    limit_ppm = rules.system_limit_ppm if turn.compaction is None else _compact_ppm(rules)
    triggers = _triggers(state, limit_ppm, rules)
    return replace(turn, armed=True), (Arm("", triggers),)


def arm_memcg(
    state: State, eviction: Eviction, rules: Rules
) -> tuple[Eviction, tuple[Action, ...]]:
    """Arm the memcg's before its first write, if it is worth it; the root's are the guest's."""
    path = eviction.candidate.path
    if eviction.armed or path == "/" or eviction.allowed_pages < ARM_PAGES:
        return eviction, ()
    limit_ppm = rules_of(eviction.candidate, rules).eviction_limit_ppm
    return replace(eviction, armed=True), (Arm(path, _triggers(state, limit_ppm, rules)),)


def _triggers(state: State, limit_ppm: int, rules: Rules) -> tuple[Trigger, ...]:
    window = window_us(state, rules)
    if state.guest is not None and state.guest.privileged_psi:
        return ladder(limit_ppm, window)
    return ladder(limit_ppm, window)[-1:]


def _compact_ppm(rules: Rules) -> int:
    return min(rules.compact.limit_ppm, rules.system_limit_ppm)


def break_off(state: State) -> Step:
    """End what is under way, if anything is."""
    under_way = state.turn is not None and state.turn.in_flight
    return Step(state, (BreakOff(),) if under_way else ())


def stall_seen(state: State, event: StallSeen, rules: Rules, now: Instant) -> Step:
    """Fresh totals: of a look that was asked for, or of a trigger that fired."""
    turn, asked = state.turn, event.trigger is None
    if turn is None:
        return nothing(state)
    if state.pause is not None:
        return _check_pause(state, event.pressure, rules, now) if asked else nothing(state)
    if asked:
        state = with_turn(state, replace(turn, hold_until=min(turn.hold_until, now)))
    state = sampled(state, event.pressure, window_us(state, rules))
    return yield_to_pressure(state, rules, now)


def yield_to_pressure(state: State, rules: Rules, now: Instant) -> Step:
    """Stay away where a limit is crossed: from the memcg at work, from the guest, from both.

    Where the totals cannot be read nobody would be seen to be hurt, so that is over a limit too.
    """
    turn = state.turn
    if turn is None or state.pause is not None or not state.samples:
        return nothing(state)
    if not readable(state.samples[-1]):
        return pause(state, Because("pressure_unreadable"), rules, now)
    hurt = None if turn.eviction is None else _memcg_hurt(state, turn.eviction, rules)
    left = nothing(state) if hurt is None else leave_memcg(state, hurt, rules, now)
    if turn.compaction is not None:
        left = _leave_compaction(state, turn, rules)
    stall = worst_guest_stall(state.samples, window_us(state, rules))
    if not over(stall, rules.system_limit_ppm):
        return left
    because = _because_stall("guest_stall_over_limit", stall, rules.system_limit_ppm)
    return left.then(pause(left.state, because, rules, now))


def _memcg_hurt(state: State, eviction: Eviction, rules: Rules) -> Because | None:
    path = eviction.candidate.path
    if path == "/" or eviction.ends is not None:
        return None
    if state.samples[-1].memcg == path and state.samples[-1].memcg_us is None:
        return Because("pressure_unreadable")
    limit_ppm = rules_of(eviction.candidate, rules).eviction_limit_ppm
    stall = worst_memcg_stall(state.samples, path, window_us(state, rules))
    return _because_stall("stall_over_limit", stall, limit_ppm) if over(stall, limit_ppm) else None


def _leave_compaction(state: State, turn: Turn, rules: Rules) -> Step:
    """Whom a compaction hurts is the whole guest: it ends, and is due again in a period."""
    if turn.compaction is None or turn.compaction.stage != "run":
        return nothing(state)
    limit_ppm = _compact_ppm(rules)
    stall = worst_guest_stall(state.samples, window_us(state, rules))
    if turn.compaction.ends is not None or not over(stall, limit_ppm):
        return nothing(state)
    because = _because_stall("stall_over_limit", stall, limit_ppm)
    return break_off(with_turn(state, ending(turn, because)))


def ending(turn: Turn, because: Because, *, again: bool = False) -> Turn:
    """The turn whose compaction is over as soon as what is under way has returned, if it has one.

    Args:
        turn: The turn.
        because: Why; the first reason holds.
        again: Whether free memory is looked at again as soon as it may be.
    """
    compaction = turn.compaction
    if compaction is None:
        return turn
    ends = compaction.ends or because
    again = again if compaction.ends is None else compaction.again
    return replace(turn, compaction=replace(compaction, ends=ends, again=again))


def _because_stall(code: str, stall: Stall, limit_ppm: int) -> Because:
    stall_us, over_us = stall
    return Because(code, {"stall_us": stall_us, "over_us": over_us, "limit_ppm": limit_ppm})


def leave_memcg(state: State, hurt: Because, rules: Rules, now: Instant) -> Step:
    """The memcg at work was hurt: leave it until its next period, or for a quiet window."""
    turn = state.turn
    eviction = None if turn is None else turn.eviction
    if turn is None or eviction is None or eviction.ends is not None:
        return nothing(state)
    if rules.resume_quiet:
        left = _set_aside(state, turn, eviction, rules, now)
    else:
        left = dropped(turn, eviction.key)
    turn = replace(left, hold_until=Instant(now + BURST_WINDOW_US), look=True)
    return _end_soon(with_turn(state, turn), hurt, again=rules.resume_quiet)


def _end_soon(state: State, because: Because, *, again: bool) -> Step:
    """End the eviction now, or as soon as its write has returned."""
    turn = state.turn
    if turn is None or turn.eviction is None:
        return nothing(state)
    if not turn.in_flight:
        return end_eviction(state, because, again=again)
    eviction = replace(turn.eviction, ends=because)
    return Step(with_turn(state, replace(turn, eviction=eviction)), (BreakOff(),))


def _set_aside(state: State, turn: Turn, eviction: Eviction, rules: Rules, now: Instant) -> Turn:
    path = eviction.candidate.path
    known = [s for s in state.samples if s.memcg == path and s.memcg_us is not None]
    since = known[-1] if known else None
    before = turn.aside.get(eviction.key)
    checks = 0 if before is None else before.checks + 1
    until = Instant(now + window_us(state, rules) * min(2**checks, _LONGEST_CHECK))
    turn = without_aging(turn, eviction.key)
    return replace(turn, aside={**turn.aside, eviction.key: Aside(until, since, checks)})


def not_quiet_yet(state: State, rules: Rules, now: Instant) -> Step | None:
    """Whether the memcg that was set aside stalled since; it waits once more, and longer."""
    turn = state.turn
    if turn is None or turn.eviction is None or turn.eviction.last is None:
        return None
    eviction, last = turn.eviction, turn.eviction.last.pressure
    aside = turn.aside.get(eviction.key)
    if aside is None or last.memcg_us is None or not readable(last):
        return None
    limit_ppm = _quiet_ppm(rules_of(eviction.candidate, rules).eviction_limit_ppm, aside.checks)
    stall = memcg_stall_between(aside.since or last, last)
    if over(stall, limit_ppm):
        return leave_memcg(state, _because_stall("not_quiet_yet", stall, limit_ppm), rules, now)
    mine = eviction.key
    aside_now = {key: value for key, value in turn.aside.items() if key != mine}
    # What stalled before the quiet window is forgiven.
    return Step(replace(state, turn=replace(turn, aside=aside_now), samples=(last,)))


def _quiet_ppm(limit_ppm: int, checks: int) -> int:
    return limit_ppm if checks >= _PATIENT_CHECKS else limit_ppm // 2


def pause(state: State, because: Because, rules: Rules, now: Instant) -> Step:
    """Stay away from the whole guest until a quiet window has passed."""
    turn = state.turn
    if turn is None or state.pause is not None:
        return nothing(state)
    check_at = Instant(now + window_us(state, rules))
    known = [sample for sample in state.samples if readable(sample)]
    base = known[-1] if known else None
    disarm: tuple[Action, ...] = (Disarm(""),) if turn.armed else ()
    turn = replace(ending(turn, because), plan_again=True, armed=False, look=False)
    state = replace(with_turn(state, turn), pause=Pause(now, check_at, because, base), samples=())
    stop = break_off(state)
    ended = stop if turn.in_flight else end_eviction(state, because, again=True)
    return Step(ended.state, (*ended.actions, *disarm), (*ended.decisions, _pausing(because)))


def _pausing(because: Because) -> Decision:
    return Decision("pause", because)


def ask_during_pause(state: State, held: Pause, rules: Rules, now: Instant) -> Step:
    """Read the totals when it is time to."""
    if now < held.check_at:
        return nothing(state)
    later = Instant(now + window_us(state, rules))
    return Step(replace(state, pause=replace(held, check_at=later)), (ReadPressure(),))


def _check_pause(state: State, seen: PressureSample, rules: Rules, now: Instant) -> Step:
    """Resume after a quiet window, one with at most half the limit; else look again, later."""
    held, window = state.pause, window_us(state, rules)
    if held is None or not readable(seen):
        return nothing(state)
    if held.base is None:
        started = replace(held, base=seen, check_at=Instant(max(now, seen.at) + window))
        return Step(replace(state, pause=started))
    stall = guest_stall_between(held.base, seen)
    if stall[1] < window:
        return nothing(state)
    if over(stall, _quiet_ppm(rules.system_limit_ppm, held.checks)):
        checks = held.checks + 1
        later = Instant(now + window * min(2**checks, _LONGEST_CHECK))
        return Step(replace(state, pause=replace(held, check_at=later, base=seen, checks=checks)))
    saw: dict[str, int | str] = {"stall_us": stall[0], "over_us": stall[1]}
    because = Because("quiet_window", {**saw, "paused_us": now - held.since})
    state = replace(state, pause=None, samples=(seen,))
    return Step(state, (), (Decision("resume", because),))


def hold(state: State, eviction: Eviction, event: BatchEnded, now: Instant) -> Step:
    """A write was broken off, but no limit is crossed: wait a burst's length, look again."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    code = "write_overdue" if eviction.overdue else "stall_below_limit"
    eviction = replace(eviction, fresh=False, overdue=False)
    turn = replace(turn, eviction=eviction, hold_until=Instant(now + BURST_WINDOW_US))
    saw: dict[str, int | str] = {"outcome": event.outcome, "took_us": event.took_us}
    because = Because(code, {**saw, "evicted_pages": eviction.evicted_pages})
    return Step(with_turn(state, turn), (), (Decision("hold", because, *eviction.key),))
