"""Whether the policy decides everything again as it was recorded."""

from __future__ import annotations

from collections.abc import Iterable

from memreact.events import Instant
from memreact.policy.state import State, Step
from memreact.policy.step import step
from memreact.replay.moments import Began, Broke, Happened, Moment, Ruled
from memreact.rules import Rules
from memreact.telemetry.trace import Entry
from memreact.value import Struct, replace
from memreact_schemas.recording import ForeignLine
from memreact_schemas.trace import Header

__all__ = ["Difference", "Replayed", "difference", "verify"]


class Difference(Struct, frozen=True):
    """The first thing that was decided otherwise.

    Args:
        line: Where it stands in the recording.
        at: When it happened.
        what: "actions", "decisions", "wake_at", "state" or "error".
        recorded: As it was.
        replayed: As it is now.
    """

    line: int
    at: Instant
    what: str
    recorded: object
    replayed: object


class Replayed(Struct, frozen=True):
    """What a replay came to.

    Args:
        steps: How many were decided again.
        decisions: How many were made by them.
        checkpoints: How often the state was compared, too, after a first step.
        missed: Lines that are missing in the recording.
        began_at: The first moment; None where there is none.
        ended_at: The last one.
        bug: What the event raises at which the daemon ended by a bug, or what else is known of it.
        difference: None where everything is the same.
    """

    steps: int = 0
    decisions: int = 0
    checkpoints: int = 0
    missed: int = 0
    began_at: Instant | None = None
    ended_at: Instant | None = None
    bug: str | None = None
    difference: Difference | None = None


def verify(moments: Iterable[Moment]) -> Replayed:
    """Decide everything again, up to the first difference.

    Raises:
        RecordingError: As whoever reads it says.
    """
    known: _Known | None = None
    done = Replayed()
    for moment in moments:
        match moment:
            case Header():
                known = None
            case Began():
                done = _compared(done, known, moment)
                known = _Known(moment.state, moment.ruled.rules)
            case Ruled():
                known = replace(_known(known, moment.line), rules=moment.rules)
            case Happened():
                known, done = _again(_known(known, moment.line), done, moment)
            case Broke():
                done = replace(done, bug=_bug(_known(known, moment.line), moment))
            case _:
                known, done = None, replace(done, missed=done.missed + moment.lines)
        if done.difference is not None:
            return done
    return done


class _Known(Struct, frozen=True):
    """From where the next step goes on."""

    state: State
    rules: Rules


def _known(known: _Known | None, line: int) -> _Known:
    if known is None:
        raise ForeignLine(line, "nothing before it says from where to go on: no checkpoint")
    return known


def _compared(done: Replayed, known: _Known | None, began: Began) -> Replayed:
    """A checkpoint in the middle must find what the steps before it led to."""
    if done.began_at is None:
        done = replace(done, began_at=began.at)
    if known is None:
        return done
    if known.state == began.state:
        return replace(done, checkpoints=done.checkpoints + 1)
    fields = [
        name
        for name in State.__struct_fields__
        if getattr(known.state, name) != getattr(began.state, name)
    ]
    recorded = {name: getattr(began.state, name) for name in fields}
    replayed = {name: getattr(known.state, name) for name in fields}
    return replace(done, difference=Difference(began.line, began.at, "state", recorded, replayed))


def _again(known: _Known, done: Replayed, moment: Happened) -> tuple[_Known, Replayed]:
    entry = moment.entry
    try:
        made = step(known.state, entry.event, known.rules, entry.at)
    except Exception as error:  # noqa: BLE001  # a bug of the policy is what is looked for
        found = Difference(moment.line, entry.at, "error", "none", _told(error))
        return known, replace(done, difference=found)
    found_or_none = difference(moment.line, entry, made)
    done = replace(
        done,
        steps=done.steps + 1,
        decisions=done.decisions + len(made.decisions),
        ended_at=entry.at,
        difference=found_or_none,
    )
    return replace(known, state=made.state), done


def difference(line: int, entry: Entry, made: Step) -> Difference | None:
    """What of a step is not as it was recorded; None where all is."""
    for what in ("decisions", "actions", "wake_at"):
        recorded, replayed = getattr(entry, what), getattr(made, what)
        if recorded != replayed:
            return Difference(line, entry.at, what, recorded, replayed)
    return None


def _bug(known: _Known, broke: Broke) -> str:
    if broke.event is None:
        return f"line {broke.line}: {broke.error}; not while an event was decided on"
    name = type(broke.event).__name__
    try:
        step(known.state, broke.event, known.rules, broke.at)
    except Exception as error:  # noqa: BLE001  # that is the answer
        return f"line {broke.line}: {name} raises {_told(error)}; recorded: {broke.error}"
    return f"line {broke.line}: {name} raises nothing here; recorded: {broke.error}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
