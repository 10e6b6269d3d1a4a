"""The agings of a turn, a row at a time: an aging cannot be broken off, a row of them can."""

from __future__ import annotations

from memreact.actions import Age, AgeTarget, Because, Decision
from memreact.events import AgeResult, AgingEnded, Instant
from memreact.policy.closing import oom_near, rules_of
from memreact.policy.plan import forbidden
from memreact.policy.pressure import BURST_WINDOW_US
from memreact.policy.state import Memcg, State, Step, Turn, nothing, sampled, with_turn
from memreact.policy.yielding import arm_guest, window_us, yield_to_pressure
from memreact.rules import Rules
from memreact.value import replace

__all__ = ["age_next", "aging_ended"]

AGINGS_IN_A_ROW = 32


def age_next(state: State, turn: Turn, rules: Rules, now: Instant) -> Step:
    """Age the next few, without those that may no longer be touched."""
    row, rest = turn.agings[:AGINGS_IN_A_ROW], turn.agings[AGINGS_IN_A_ROW:]
    row = tuple(target for target in row if _may_still(state, target, rules, now))
    turn = replace(turn, stage="age", agings=rest)
    if not row:
        return Step(with_turn(state, turn))
    turn, arm = arm_guest(state, turn, rules)
    turn = replace(turn, doing=Age(row), worked=True)
    return Step(with_turn(state, turn), (*arm, Age(row)))


def _may_still(state: State, target: AgeTarget, rules: Rules, now: Instant) -> bool:
    memcg, guest = state.memcgs.get(target.path), state.guest
    if memcg is None or memcg.inode != target.inode or guest is None:
        return False
    mine = rules_of(target, rules)
    if oom_near(state, target.path, mine.period_us, now):
        return False
    return forbidden(memcg, mine, guest.own_path, now) is None


def aging_ended(state: State, event: AgingEnded, rules: Rules, now: Instant) -> Step:
    """A row of agings is over: count them, and see whether they hurt."""
    turn = state.turn
    if turn is None or not isinstance(turn.doing, Age):
        return nothing(state)
    aged = [result for result in event.results if result.outcome == "done"]
    seqs = {(t.path, t.node): t.max_seq for t in turn.doing.targets}
    since = {(r.path, r.node): seqs.get((r.path, r.node), 0) for r in aged}
    ended = {(r.path, r.node) for r in event.results if r.outcome != "held_back"}
    back = tuple(t for t in turn.doing.targets if (t.path, t.node) not in ended)
    hold_until = Instant(now + BURST_WINDOW_US) if back else turn.hold_until
    turn = replace(
        turn,
        doing=None,
        aged=turn.aged + len(aged),
        aged_from={**turn.aged_from, **since},
        agings=back + turn.agings,
        hold_until=hold_until,
        look=turn.look or bool(back),
    )
    state = _counted(with_turn(state, turn), aged)
    state = sampled(state, event.pressure, window_us(state, rules))
    refused = tuple(_refused(r) for r in event.results if r.outcome in {"refused", "unsupported"})
    return Step(state, (), refused).then(yield_to_pressure(state, rules, now))


def _counted(state: State, aged: list[AgeResult]) -> State:
    changed: dict[str, Memcg] = {}
    for result in aged:
        memcg = changed.get(result.path) or state.memcgs.get(result.path)
        if memcg is not None:
            counters = replace(memcg.counters, agings=memcg.counters.agings + 1)
            changed[result.path] = replace(memcg, counters=counters)
    return replace(state, memcgs={**state.memcgs, **changed}) if changed else state


def _refused(result: AgeResult) -> Decision:
    because = Because("aging_refused", {"outcome": result.outcome, "detail": result.detail})
    return Decision("leave", because, result.path, result.node)
