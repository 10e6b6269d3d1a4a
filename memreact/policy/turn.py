"""One turn from its survey to its end: evict what is cold, then age."""

from __future__ import annotations

from memreact.actions import Action, Because, BreakOff, Decision, Disarm, ReadPressure, Survey
from memreact.events import Instant, Surveyed
from memreact.policy.ageing import age_next
from memreact.policy.closing import end_eviction
from memreact.policy.compacting import go_on as go_on_compacting
from memreact.policy.compacting import look, look_again
from memreact.policy.evicting import go_on, start
from memreact.policy.plan import plan, still_to_age, with_baselines
from memreact.policy.squeeze import after_turn, begin_keeping, left_pages, over, with_keep_due
from memreact.policy.state import (
    Compacting,
    Squeeze,
    State,
    Step,
    Turn,
    nothing,
    sampled,
    with_turn,
)
from memreact.policy.yielding import ending, window_us, yield_to_pressure
from memreact.rules import Rules
from memreact.value import replace

__all__ = ["begin", "plan_anew", "proceed", "surveyed"]

TURN_ENDS_US = 3_600_000_000
# A turn for emptied memcgs alone has no period of its own to last for.
_EMPTIED_ENDS_US = 60_000_000
# An older plan is compared with a new survey before the first aging: others may have aged since.
_PLAN_HOLDS_US = 1_000_000


def begin(
    state: State,
    periods: frozenset[int],
    now: Instant,
    *,
    asked: bool = False,
    within: str | None = None,
) -> Step:
    """Start a turn for the periods that are due, and for what was emptied since.

    Args:
        state: What was remembered.
        periods: Those.
        now: The moment.
        asked: An operator asked for it, due or not.
        within: It is for this memcg and those below it alone; what was emptied waits.
    """
    emptied = state.emptied if within is None else frozenset()
    turn = Turn(now, periods, emptied, asked=asked, within=within)
    state = replace(state, emptied=state.emptied - emptied, look=False, samples=())
    return _survey(state, turn)


def _survey(state: State, turn: Turn) -> Step:
    return Step(with_turn(state, replace(turn, doing=Survey())), (Survey(),))


def surveyed(state: State, event: Surveyed, rules: Rules, now: Instant) -> Step:
    """Take in what a survey saw: the turn's plan, or its closing figures."""
    turn = state.turn
    if turn is None or not isinstance(turn.doing, Survey):
        return nothing(state)
    turn = replace(
        turn,
        doing=None,
        surveys=turn.surveys + 1,
        surveyed_at=now,
        out_of_reach_pages=event.out_of_reach_pages,
    )
    state = sampled(with_turn(state, turn), event.pressure, window_us(state, rules))
    if event.failed is not None:
        return _finish(state, turn, Because("survey_failed", {"detail": event.failed}), rules, now)
    if turn.stage == "close" and not turn.plan_again:
        state = with_baselines(state, turn, event, rules, now)
        turn = replace(turn, aged=turn.aged - _aged_in_vain(turn, event))
        return _finish(state, turn, _summary(turn, now), rules, now)
    if turn.stage == "recheck" and not turn.plan_again:
        agings = tuple(still_to_age(turn.agings, event, rules))
        state = with_turn(state, replace(turn, stage="age", agings=agings))
        return yield_to_pressure(state, rules, now)
    yielded = yield_to_pressure(state, rules, now)
    return yielded.then(_planned(yielded.state, event, rules, now))


def _aged_in_vain(turn: Turn, survey: Surveyed) -> int:
    """Agings that were called a success, but after which no generation is younger."""
    youngest = {
        (view.path, node.node): node.generations[-1].seq
        for view in survey.memcgs
        for node in view.nodes
        if node.generations
    }
    return sum(youngest.get(key, seq + 1) <= seq for key, seq in turn.aged_from.items())


def _planned(state: State, event: Surveyed, rules: Rules, now: Instant) -> Step:
    turn = state.turn
    if turn is None or state.pause is not None or state.hold is not None or state.stopping:
        return nothing(state)
    made = plan(state, turn, event, rules, now)
    state = with_baselines(state, turn, event, rules, now)
    wanted = {(candidate.path, candidate.node) for candidate in made.candidates}
    turn = replace(
        turn,
        stage="evict",
        candidates=made.candidates,
        agings=made.agings,
        dropped=turn.dropped | made.dropped,
        ripening=made.ripening,
        aside={k: v for k, v in turn.aside.items() if v.until > now or k in wanted},
        plan_again=False,
    )
    return Step(with_turn(state, turn), (), made.decisions)


def proceed(state: State, rules: Rules, now: Instant) -> Step:
    """Do the next thing of the turn, until something is under way or we stay away."""
    made = nothing(state)
    while (more := _next(made.state, rules, now)) is not None:
        made = made.then(more)
    return made


def _next(state: State, rules: Rules, now: Instant) -> Step | None:
    turn = state.turn
    if turn is not None and turn.in_flight:
        return None
    squeezed = over(state, now) or _squeeze_next(state, rules, now)
    if squeezed is not None or turn is None:
        return squeezed
    return _go_on(state, turn, rules, now)


def _go_on(state: State, turn: Turn, rules: Rules, now: Instant) -> Step | None:
    if turn.compaction is not None:
        return go_on_compacting(state, turn, turn.compaction, rules, now)
    if state.stopping:
        return _let_go(state, turn, rules, now)
    if state.pause is not None or state.hold is not None or now < turn.hold_until:
        return None
    if now - turn.started_at > TURN_ENDS_US and not turn.plan_again:
        return _let_go(state, turn, rules, now)
    if turn.look:
        asked = replace(turn, look=False, hold_until=Instant(now + window_us(state, rules)))
        return Step(with_turn(state, asked), (ReadPressure(),))
    if turn.eviction is not None:
        return go_on(state, turn, turn.eviction, rules, now)
    left = left_pages(state) if turn.squeezes else None
    if left is not None and left <= 0:
        return _finish(state, turn, _summary(turn, now), rules, now)
    return _next_work(state, turn, rules, now)


def _squeeze_next(state: State, rules: Rules, now: Instant) -> Step | None:
    """Begin the next turn of a squeeze, or end the turn that stands in its way."""
    if state.turn is not None:
        return _give_way(state, state.turn, rules, now)
    if state.squeeze is not None:
        return _squeeze_on(state, state.squeeze, rules, now)
    keeping = begin_keeping(state, now)
    return None if keeping is None else Step(keeping)


def _squeeze_on(state: State, squeeze: Squeeze, rules: Rules, now: Instant) -> Step:
    """The next turn of a squeeze, as nothing is under way; it moves nobody's next turn."""
    if squeeze.stage != "evict":
        return look(state, rules, now, squeezes=True)
    turn = Turn(now, frozenset(state.due), asked=True, within=squeeze.path, squeezes=True)
    return _survey(state, replace(turn, dropped=squeeze.dropped))


def _give_way(state: State, turn: Turn, rules: Rules, now: Instant) -> Step | None:
    """End a turn before a squeeze, and one that was a squeeze's after it; a pause is sat out."""
    squeezed = state.squeeze is not None
    if turn.squeezes == squeezed or state.pause is not None or state.stopping:
        return None
    because = Because("gives_way" if squeezed else "squeeze_over")
    if turn.compaction is not None:
        if turn.compaction.ends is not None:
            return None
        return Step(with_turn(state, ending(turn, because, again=squeezed)))
    ended = end_eviction(state, because)
    turn = ended.state.turn or turn
    summary = _summary(turn, now)
    return ended.then(_finish(ended.state, turn, summary, rules, now, at_once=squeezed))


def _next_work(state: State, turn: Turn, rules: Rules, now: Instant) -> Step:
    if turn.plan_again:
        return _plan_again(state, turn, rules, now)
    if turn.candidates:
        return start(state, turn, rules, now)
    if turn.agings:
        if turn.stage != "age" and _plan_is_old(state, turn, now):
            return _survey(state, replace(turn, stage="recheck"))
        return age_next(state, turn, rules, now)
    if turn.ripening:
        return _survey(state, replace(turn, stage="survey", ripening=False, ripened=True))
    if turn.aside:
        until = min(aside.until for aside in turn.aside.values())
        return Step(with_turn(state, replace(turn, hold_until=until, plan_again=True)))
    if turn.worked and turn.periods:
        return _survey(state, replace(turn, stage="close"))
    return _finish(state, turn, _summary(turn, now), rules, now)


def _plan_is_old(state: State, turn: Turn, now: Instant) -> bool:
    """Whether others may have aged since; a squeeze that wants bytes ages whatever they did."""
    wants_bytes = turn.squeezes and left_pages(state) is not None
    return now - turn.surveyed_at > _PLAN_HOLDS_US and not wants_bytes


def _plan_again(state: State, turn: Turn, rules: Rules, now: Instant) -> Step:
    """A new plan; after a whole period that is another turn, in which everybody has one again."""
    if not turn.periods and not turn.emptied:
        return _finish(state, turn, _summary(turn, now), rules, now)
    if turn.squeezes:
        return _survey(state, replace(turn, stage="survey"))
    if now - turn.started_at >= min(turn.periods, default=_EMPTIED_ENDS_US):
        return _finish(state, turn, _summary(turn, now), rules, now, at_once=True)
    return _survey(state, replace(turn, stage="survey"))


def plan_anew(state: State, because: str) -> Step:
    """The ground moved: what runs ends now, and the turn is planned again from a fresh survey."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    if turn.compaction is not None:
        return look_again(state, turn, because)
    disarm: tuple[Action, ...] = (Disarm(""),) if turn.armed else ()
    turn = replace(turn, plan_again=True, done=frozenset(), armed=False, candidates=(), agings=())
    if turn.eviction is not None and turn.eviction.ends is None:
        turn = replace(turn, eviction=replace(turn.eviction, ends=Because(because)))
    state = with_turn(state, turn)
    if turn.in_flight:
        return Step(state, (BreakOff(), *disarm))
    ended = Because(because) if turn.eviction is None else turn.eviction.ends or Because(because)
    return Step(state, disarm).then(end_eviction(state, ended, again=True))


def _let_go(state: State, turn: Turn, rules: Rules, now: Instant) -> Step:
    """The end of a turn in the middle of its work."""
    because = Because("stopping" if state.stopping else "turn_too_long")
    ended = end_eviction(state, because)
    return ended.then(
        _finish(ended.state, ended.state.turn or turn, _summary(turn, now), rules, now)
    )


def _summary(turn: Turn, now: Instant) -> Because:
    saw: dict[str, int | str] = {"evicted_pages": turn.evicted_pages, "aged": turn.aged}
    saw |= {"took_us": now - turn.started_at, "surveys": turn.surveys}
    if turn.out_of_reach_pages:
        saw["out_of_reach_pages"] = turn.out_of_reach_pages
    return Because("turn_over", saw)


def _finish(  # noqa: PLR0913  # what ends, why, by what and when
    state: State,
    turn: Turn,
    because: Because,
    rules: Rules,
    now: Instant,
    *,
    at_once: bool = False,
) -> Step:
    """End the turn: the next idle phase is a whole period long, and begins here.

    What it freed may lie in pieces: that is looked at next, without waiting for a period.
    """
    due = dict(state.due)
    for period in turn.periods & due.keys() if turn.within is None else ():
        due[period] = now if at_once else Instant(now + period)
    emptied = state.emptied | turn.emptied if at_once else state.emptied
    state = replace(
        state,
        turn=None,
        due=due,
        emptied=emptied,
        turns=state.turns + 1,
        turn_ended_at=now,
        pause=None,
        samples=state.samples if turn.squeezes else (),
        squeeze=after_turn(state.squeeze, turn),
        compact=_looked_at_next(state.compact, turn, rules, now),
    )
    state = with_keep_due(state, turn)
    disarm: tuple[Action, ...] = (Disarm(""),) if turn.armed else ()
    was_one = bool(turn.periods or turn.emptied or turn.worked or because.code != "turn_over")
    return Step(state, disarm, (Decision("turn", because),) if was_one else ())


def _looked_at_next(compact: Compacting, turn: Turn, rules: Rules, now: Instant) -> Compacting:
    freed = rules.compact.by_gain and turn.evicted_pages > 0
    asked = turn.asked and turn.within is None
    if compact.due is None or not (freed or asked):
        return compact
    return replace(compact, due=now, asked=compact.asked or asked, evicted_pages=turn.evicted_pages)
