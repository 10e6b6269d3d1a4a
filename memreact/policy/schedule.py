"""When a turn is due, and the one moment at which time alone changes what should be done."""

from __future__ import annotations

from collections.abc import Mapping

from memreact.actions import Compact, Evict, Reclaim
from memreact.events import Instant
from memreact.policy.squeeze import keep_looks_at
from memreact.policy.state import State, Turn
from memreact.rules import Rules
from memreact.value import replace

__all__ = ["due_periods", "next_look", "next_turns", "soon", "wake_at", "with_emptied", "with_look"]

# A memcg that was left is mostly removed at once: wait for that, and gather its neighbours.
_EMPTIED_AFTER_US = 2_000_000
_EMPTIED_APART_US = 10_000_000


def next_turns(state: State, rules: Rules, now: Instant) -> Mapping[int, Instant]:
    """When each period is next due; what is known stays, a new one never lies behind.

    Nothing is due where every rule is disabled or this guest can do nothing.
    """
    guest = state.guest
    if guest is None or guest.idle_because is not None or guest.evicts == "nothing":
        return {}
    all_rules = (rules.base, *(rule.rules for rule in rules.cgroups))
    periods = {rule.period_us for rule in all_rules if not rule.disabled}
    return {period: state.due.get(period) or _first(state, period, now) for period in periods}


def next_look(state: State, rules: Rules, now: Instant) -> Instant | None:
    """When free memory is looked at next: a period after the last time; what is due stays due.

    Never where compaction is disabled or this guest cannot compact.
    """
    guest, known, mine = state.guest, state.compact, rules.compact
    if guest is None or guest.idle_because is not None or not guest.compacts or mine.disabled:
        return None
    if known.due is not None and known.due <= now:
        return known.due
    if known.ended_at is not None:
        return Instant(max(now, known.ended_at + mine.period_us))
    return _phase(state, mine.period_us, now)


def _first(state: State, period: int, now: Instant) -> Instant:
    """A new period counts from the last turn; at start, from a phase that this boot drew."""
    if state.turns:
        return Instant(max(now, state.turn_ended_at + period))
    return _phase(state, period, now)


def _phase(state: State, period: int, now: Instant) -> Instant:
    phase = 0 if state.guest is None else int(state.guest.boot_phase * period)
    return Instant(now + period - (now - phase) % period)


def due_periods(state: State, now: Instant) -> frozenset[int]:
    """The periods whose turn it is."""
    return frozenset(period for period, due in state.due.items() if due <= now)


def soon(state: State) -> Instant | None:
    """When something is served that waits for no period."""
    return state.soon if state.due and (state.emptied or state.look) else None


def with_emptied(state: State, path: str, now: Instant) -> State:
    """The state with one more memcg that its last process has left."""
    return replace(_sooner(state, now), emptied=state.emptied | {path})


def with_look(state: State, now: Instant) -> State:
    """The state in which everything is read once, soon."""
    return replace(_sooner(state, now), look=True)


def _sooner(state: State, now: Instant) -> State:
    if state.emptied or state.look:
        return state
    apart = state.turn_ended_at + _EMPTIED_APART_US if state.turns else 0
    return replace(state, soon=Instant(max(now + _EMPTIED_AFTER_US, apart)))


def wake_at(state: State) -> Instant | None:
    """The next moment at which time alone changes what should be done."""
    if state.stopping:
        return None
    moments = (_wake_at(state), None if state.keep is None else state.keep.until)
    return min((moment for moment in moments if moment is not None), default=None)


def _wake_at(state: State) -> Instant | None:
    if state.turn is not None:
        wake_up, squeeze = _wake_in_turn(state, state.turn), state.squeeze
        if squeeze is None or squeeze.ends is not None:
            return wake_up
        return squeeze.deadline if wake_up is None else min(wake_up, squeeze.deadline)
    if state.hold is not None:
        return state.hold.until
    moments = (*state.due.values(), soon(state), state.compact.due, keep_looks_at(state))
    return min((moment for moment in moments if moment is not None), default=None)


def _wake_in_turn(state: State, turn: Turn) -> Instant | None:
    if isinstance(turn.doing, Evict | Reclaim):
        return turn.eviction.write_ends_by if turn.eviction else None
    if isinstance(turn.doing, Compact):
        return turn.compaction.breaks_at if turn.compaction else None
    if turn.doing is not None:
        return None
    if state.hold is not None:
        return min(state.hold.until, state.pause.check_at if state.pause else state.hold.until)
    return state.pause.check_at if state.pause else turn.hold_until
