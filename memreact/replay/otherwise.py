"""What would have been decided with other settings, as far as a recording can know.

Two policies run side by side: one by the recorded settings, one by the others. As long as both do
the same, the readings that were recorded are what both would have been given. Where they part, by a
write, a reading or an aging that the other one does not do, nobody knows what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from memreact.actions import Action, Arm, Decision, Disarm
from memreact.events import Instant, RulesChanged, TimerFired
from memreact.policy.state import State, Step
from memreact.policy.step import step
from memreact.replay.moments import Began, Broke, Happened, Missed, Moment, Ruled
from memreact.replay.verify import Difference, difference
from memreact.rules import Rules
from memreact.value import Struct, replace
from memreact_schemas.recording import ForeignLine
from memreact_schemas.trace import Header

__all__ = ["Deviation", "Foreseen", "foresee"]

# A timer fires a little late, and its event is read after others.
_SLACK_US = 20_000
_TRIGGERS = (Arm, Disarm)


class Deviation(Struct, frozen=True):
    """A moment at which the two do not do the same.

    Args:
        line: Of the recording; that of the step before where nothing happened then.
        at: When.
        kind: "says" where only decisions differ, "triggers" where others are armed, "parts" where
            from then on nothing more can be known.
        recorded: What was decided and done, as far as it differs.
        otherwise: What would have been.
    """

    line: int
    at: Instant
    kind: str
    recorded: tuple[Decision | Action, ...]
    otherwise: tuple[Decision | Action, ...]


class Foreseen(Struct, frozen=True):
    """What the other settings come to.

    Args:
        set_at: From when on they are in force: the first moment without a turn under way.
        same: Steps that were the same in all.
        deviations: Where they were not; the last one ends it if it "parts".
        ended: Why nothing is known after that; empty at the end of the recording.
        difference: The recorded settings do not even lead to what was recorded.
    """

    set_at: Instant | None = None
    same: int = 0
    deviations: tuple[Deviation, ...] = ()
    ended: str = ""
    difference: Difference | None = None


def foresee(moments: Iterable[Moment]) -> Foreseen:
    """Run both policies until they part, or the recording ends.

    Raises:
        RecordingError: As whoever reads it says.
    """
    both, found = _Both(), Foreseen()
    for moment in moments:
        found = _one(both, found, moment)
        if found.ended or found.difference is not None:
            return found
    return found


@dataclass(slots=True)
class _Side:
    """One of the two."""

    state: State = field(default_factory=State)
    rules: Rules | None = None
    wake_at: Instant | None = None

    def step(self, event: object, now: Instant) -> Step:
        if self.rules is None:
            raise TypeError("a side without rules")
        made = step(self.state, event, self.rules, now)  # type: ignore[arg-type]  # an event
        self.state, self.wake_at = made.state, made.wake_at
        return made


@dataclass(slots=True)
class _Both:
    """The recorded one and the other one, which begins later."""

    recorded: _Side = field(default_factory=_Side)
    other: _Side | None = None
    others: Rules | None = None
    began: bool = False
    at: Instant = Instant(0)  # noqa: RUF009  # an int

    def need(self, line: int) -> None:
        """Nothing can be decided without a checkpoint."""
        if not self.began:
            raise ForeignLine(line, "nothing before it says from where to go on: no checkpoint")


def _one(both: _Both, found: Foreseen, moment: Moment) -> Foreseen:
    match moment:
        case Header():
            return replace(found, ended="the daemon began anew") if both.began else found
        case Began():
            if not both.began:
                both.began, both.at = True, moment.at
                both.recorded.state, both.recorded.rules = moment.state, moment.ruled.rules
                both.others = moment.ruled.otherwise
                return _set(both, found, moment.line)
        case Ruled():
            both.need(moment.line)
            both.recorded.rules, both.others = moment.rules, moment.otherwise
            if both.other is not None:
                both.other.rules = moment.otherwise
        case Happened():
            both.need(moment.line)
            return _happened(both, found, moment)
        case Missed():
            return replace(found, ended=f"line {moment.line}: lines are missing in the recording")
        case Broke():
            return replace(found, ended=f"line {moment.line}: the daemon ended by a bug")
    return found


def _set(both: _Both, found: Foreseen, line: int) -> Foreseen:
    """Put the other settings in force, once no turn is under way that they would break off."""
    state, others = both.recorded.state, both.others
    if both.other is not None or others is None or state.guest is None or state.turn is not None:
        return found
    both.other = _Side(state, others)
    made = both.other.step(RulesChanged(others.revision), both.at)
    deviation = Deviation(line, both.at, "says", (), (*made.decisions, *made.actions))
    return replace(found, set_at=both.at, deviations=(*found.deviations, deviation))


def _happened(both: _Both, found: Foreseen, moment: Happened) -> Foreseen:
    entry, other = moment.entry, both.other
    if other is not None:
        for fired in _fired_before(both, other, entry.at):
            found = _compared(found, moment.line - 1, fired[0], nothing_recorded(both), fired[1])
            if found.ended:
                return found
    made = both.recorded.step(entry.event, entry.at)
    if (wrong := difference(moment.line, entry, made)) is not None:
        return replace(found, difference=wrong)
    both.at = entry.at
    if other is None:
        return _set(both, found, moment.line)
    return _compared(found, moment.line, entry.at, made, other.step(entry.event, entry.at))


def nothing_recorded(both: _Both) -> Step:
    """What was recorded at a moment of which there is nothing."""
    return Step(both.recorded.state)


def _fired_before(both: _Both, other: _Side, at: Instant) -> Iterator[tuple[Instant, Step]]:
    """What the other one does at its own timers, of which the recording has none."""
    while other.wake_at is not None and other.wake_at + _SLACK_US < at:
        recorded = both.recorded.wake_at
        if recorded is not None and other.wake_at >= recorded:
            return
        now = other.wake_at
        yield now, other.step(TimerFired(), now)


def _compared(found: Foreseen, line: int, at: Instant, was: Step, would: Step) -> Foreseen:
    if was.decisions == would.decisions and was.actions == would.actions:
        return replace(found, same=found.same + 1)
    kind = _kind(was.actions, would.actions)
    told = _only(was, would), _only(would, was)
    deviations = (*found.deviations, Deviation(line, at, kind, *told))
    ended = "" if kind != "parts" else "from here on the recording has no readings for it"
    return replace(found, deviations=deviations, ended=ended)


def _kind(was: tuple[Action, ...], would: tuple[Action, ...]) -> str:
    if was == would:
        return "says"
    work = tuple(action for action in was if not isinstance(action, _TRIGGERS))
    others = tuple(action for action in would if not isinstance(action, _TRIGGERS))
    return "triggers" if work == others else "parts"


def _only(these: Step, those: Step) -> tuple[Decision | Action, ...]:
    decisions = [each for each in these.decisions if each not in those.decisions]
    return (*decisions, *(each for each in these.actions if each not in those.actions))
