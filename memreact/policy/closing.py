"""The end of one eviction: what it took, why it is over, and what it taught."""

from __future__ import annotations

from memreact.actions import Action, AgeTarget, Because, Decision, Disarm
from memreact.events import Instant
from memreact.policy import refault
from memreact.policy.plan import is_within
from memreact.policy.state import (
    Candidate,
    Eviction,
    Key,
    Memcg,
    State,
    Step,
    Turn,
    nothing,
    with_memcg,
    with_turn,
)
from memreact.rules import MemcgRules, Rules, rules_for
from memreact.value import replace

__all__ = [
    "dropped",
    "end_eviction",
    "oom_heard",
    "oom_near",
    "rules_of",
    "stay_away",
    "without_aging",
]

_OOM_FORGOTTEN_US = 86_400_000_000


def rules_of(subject: Candidate | AgeTarget, rules: Rules) -> MemcgRules:
    """What holds for a memcg on its node."""
    return rules_for(rules, subject.path, subject.node)


def end_eviction(state: State, because: Because, *, again: bool = False) -> Step:
    """Account for the eviction that ends here; `again` leaves it to a new plan of this turn."""
    turn = state.turn
    if turn is None or turn.eviction is None:
        return nothing(state)
    eviction = turn.eviction
    done = turn.done if again else turn.done | {eviction.key}
    pages = turn.evicted_pages + eviction.evicted_pages
    state = with_turn(state, replace(turn, eviction=None, done=done, evicted_pages=pages))
    memcg = state.memcgs.get(eviction.candidate.path)
    if memcg is not None and memcg.inode == eviction.candidate.inode:
        state = with_memcg(state, _accounted(memcg, eviction))
    disarm: tuple[Action, ...] = ()
    if eviction.armed:
        disarm = (Disarm(eviction.candidate.path),)
    return Step(state, disarm, (_verdict(eviction, because),))


def stay_away(state: State, path: str, rules: Rules, now: Instant) -> State:
    """Leave a memcg alone for a period: it ran out of memory."""
    memcg = state.memcgs.get(path)
    if memcg is None:
        return state
    nodes = [node.node for node in memcg.view.nodes] if memcg.view else []
    period_us = max(rules_for(rules, path, node).period_us for node in nodes or [0])
    return with_memcg(state, replace(memcg, away_until=Instant(now + period_us)))


def oom_heard(state: State, path: str, now: Instant) -> State:
    """Remember that a memcg at this path or below it ran out of memory; nobody says which."""
    recent = {each: at for each, at in state.ooms.items() if now - at < _OOM_FORGOTTEN_US}
    return replace(state, ooms={**recent, path: now})


def oom_near(state: State, path: str, period_us: int, now: Instant) -> bool:
    """Whether that may have been this memcg, within its last period."""
    return any(is_within(path, top) and now - at < period_us for top, at in state.ooms.items())


def dropped(turn: Turn, key: Key) -> Turn:
    """The turn without any more work on one memcg and node."""
    return replace(without_aging(turn, key), dropped=turn.dropped | {key})


def without_aging(turn: Turn, key: Key) -> Turn:
    """The turn in which one memcg is not aged by this plan.

    An aging merges the oldest generation into the next: before its eviction is over it would
    make what is cold look younger.
    """
    return replace(turn, agings=tuple(t for t in turn.agings if (t.path, t.node) != key))


def _verdict(eviction: Eviction, because: Because) -> Decision:
    saw = {"evicted_pages": eviction.evicted_pages, **because.saw}
    return Decision("end", Because(because.code, saw), *eviction.key)


def _accounted(memcg: Memcg, eviction: Eviction) -> Memcg:
    first, pages = eviction.first, eviction.evicted_pages
    if first is None:
        return memcg
    counters = replace(
        memcg.counters,
        evictions=memcg.counters.evictions + 1,
        evicted_pages=memcg.counters.evicted_pages + pages,
    )
    appetite = refault.evicted(
        memcg.appetite, pages, first.refault_total_pages, eviction.started_at
    )
    return replace(memcg, counters=counters, appetite=appetite)
