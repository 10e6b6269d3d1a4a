"""What an operator asks for: to hold everything for a while, to go on, to take a turn now.

A hold is not a pause: a pause is our own, ends when the guest is quiet, and goes on beside it.
"""

from __future__ import annotations

from memreact.actions import Action, Because, Decision, Disarm
from memreact.events import HoldAsked, Instant, ReleaseAsked, RunAsked
from memreact.policy.closing import end_eviction
from memreact.policy.compacting import look
from memreact.policy.plan import is_within
from memreact.policy.state import Hold, State, Step, nothing, with_turn
from memreact.policy.turn import begin
from memreact.policy.yielding import break_off, ending
from memreact.rules import Rules
from memreact.value import replace

__all__ = [
    "HOLD_ENDS_US",
    "hold_asked",
    "hold_over",
    "hold_unmeasured",
    "release_asked",
    "run_asked",
    "why_not_run",
]

HOLD_ENDS_US = 86_400_000_000
"""A day: no hold is longer, whatever was asked for."""

# While the clock stood still a hold went on, and nobody knows for how long.
_CLOCK_STOOD = frozenset({"suspend", "snapshot_restored"})


def hold_asked(state: State, event: HoldAsked, now: Instant) -> Step:
    """Break off what runs, and begin nothing until then; a second hold takes the first one's place.

    The turn stays: it is planned again after the hold, and forgives nobody's stall.
    """
    until = Instant(min(event.until, now + HOLD_ENDS_US))
    if until <= now:
        return _refuse(state, Because("hold_over", {"by": event.by}))
    since = state.hold.since if state.hold else now
    state = replace(state, hold=Hold(since, until, event.by, event.reason))
    saw: dict[str, int | str] = {"by": event.by, "for_us": until - now}
    if event.reason:
        saw["reason"] = event.reason
    told = Decision("pause", Because("asked", saw))
    return Step(state, (), (told,)).then(_stand_still(state, event))


def _stand_still(state: State, event: HoldAsked) -> Step:
    turn, held = state.turn, Because("held", {"by": event.by})
    if turn is None:
        return nothing(state)
    disarm: tuple[Action, ...] = (Disarm(""),) if turn.armed else ()
    eviction = turn.eviction
    if eviction is not None and eviction.ends is None:
        eviction = replace(eviction, ends=held)
    turn = ending(turn, held, again=True)
    turn = replace(turn, plan_again=True, armed=False, look=False, eviction=eviction)
    state = replace(with_turn(state, turn), samples=())
    ended = break_off(state) if turn.in_flight else end_eviction(state, held, again=True)
    return ended.then(Step(ended.state, disarm))


def release_asked(state: State, event: ReleaseAsked, now: Instant) -> Step:
    """End the hold, if there is one; a pause of our own goes on."""
    return _released(state, "asked", now, by=event.by)


def hold_over(state: State, now: Instant) -> Step:
    """End the hold when its time is over, whatever happens just then."""
    if state.hold is None or now < state.hold.until:
        return nothing(state)
    return _released(state, "hold_over", now)


def hold_unmeasured(state: State, cause: str, now: Instant) -> Step:
    """End the hold when nobody can say how long it lasted: a suspend must not prolong it."""
    return _released(state, cause, now) if cause in _CLOCK_STOOD else nothing(state)


def _released(state: State, code: str, now: Instant, *, by: str = "") -> Step:
    if state.hold is None:
        return nothing(state)
    saw: dict[str, int | str] = {"by": by or state.hold.by, "held_us": now - state.hold.since}
    return Step(replace(state, hold=None), (), (Decision("resume", Because(code, saw)),))


def run_asked(state: State, event: RunAsked, rules: Rules, now: Instant) -> Step:
    """Begin a turn now, as if every period were due, or say why not.

    Free memory is looked at after it, or at once where compactions are all that may be done.
    """
    saw: dict[str, int | str] = {"by": event.by}
    why = why_not_run(state, event.path)
    if why is not None:
        return _refuse(state, Because(why.code, {**saw, **why.saw}))
    if event.path is not None:
        saw["within"] = event.path
    told = Decision("run", Because("asked", saw))
    if state.due:
        begun = begin(state, frozenset(state.due), now, asked=True, within=event.path)
    else:
        begun = look(replace(state, compact=replace(state.compact, asked=True)), rules, now)
    return Step(state, (), (told,)).then(begun)


def why_not_run(state: State, path: str | None) -> Because | None:
    """Why no turn can begin now; None when one can.

    Args:
        state: As it is now.
        path: Of the memcg that the turn would be for, with those below it; None for all.
    """
    guest = state.guest
    if guest is None or state.stopping:
        return Because("stopping" if state.stopping else "starting")
    if guest.idle_because is not None:
        return Because("idle", {"detail": guest.idle_because})
    if state.hold is not None:
        return Because("held", {"held_by": state.hold.by})
    if state.pause is not None:
        return Because("paused", {"detail": state.pause.because.code})
    if state.turn is not None:
        evicts = state.turn.compaction is None
        return Because("turn_under_way" if evicts else "compaction_under_way")
    if not state.due and (path is not None or state.compact.due is None):
        return Because("disabled")
    if path is not None and not any(is_within(known, path) for known in state.memcgs):
        return Because("no_such_cgroup", {"detail": path})
    return None


def _refuse(state: State, because: Because) -> Step:
    return Step(state, (), (Decision("refuse", because),))
