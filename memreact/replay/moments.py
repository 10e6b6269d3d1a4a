"""What a recording holds, as values that the policy takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from memreact.actions import Action, Because, Decision
from memreact.events import Event, Instant
from memreact.policy.state import State
from memreact.rules import Rules, rules_of
from memreact.settings.layers import Layer, flatten
from memreact.telemetry.checkpoint import decode_state
from memreact.telemetry.trace import Entry
from memreact_schemas.config import Config
from memreact_schemas.recording import ForeignLine
from memreact_schemas.trace import (
    NULL,
    Checkpoint,
    Failed,
    Gap,
    Header,
    Line,
    SettingsLine,
    Stepped,
)

__all__ = ["Began", "Broke", "Happened", "Missed", "Moment", "Ruled", "moments"]

_Value = TypeVar("_Value")
_EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_ACTION: msgspec.json.Decoder[Action] = msgspec.json.Decoder(Action)


class Ruled(NamedTuple):
    """Other settings are in force from the next step on.

    Args:
        line: Where it stands.
        rules: The recorded ones.
        otherwise: With what was asked for laid over them; the same where nothing was.
        config: The recorded ones, as settings.
    """

    line: int
    rules: Rules
    otherwise: Rules
    config: Config


class Began(NamedTuple):
    """From here on everything can be decided.

    Args:
        line: Where it stands.
        at: When.
        state: What the policy remembered.
        ruled: What was in force.
    """

    line: int
    at: Instant
    state: State
    ruled: Ruled


class Happened(NamedTuple):
    """One step."""

    line: int
    entry: Entry


class Missed(NamedTuple):
    """Lines are missing here."""

    line: int
    lines: int


class Broke(NamedTuple):
    """The daemon ended by a bug."""

    line: int
    at: Instant
    event: Event | None
    error: str


Moment: TypeAlias = Header | Began | Ruled | Happened | Missed | Broke


def moments(lines: Iterable[tuple[int, Line]], patch: Config | None = None) -> Iterator[Moment]:
    """Yield what matters to the policy.

    Args:
        lines: With their numbers.
        patch: Settings that are laid over the recorded ones.

    Raises:
        ForeignLine: What is in a line is not known here.
    """
    for number, line in lines:
        match line:
            case Header():
                yield line
            case Checkpoint():
                yield Began(
                    number, Instant(line.at), _state(number, line), _ruled(number, line, patch)
                )
            case SettingsLine():
                yield _ruled(number, line, patch)
            case Stepped():
                yield Happened(number, _entry(number, line))
            case Gap():
                yield Missed(number, line.lines)
            case Failed():
                event = None if bytes(line.event) == bytes(NULL) else _event(number, line.event)
                yield Broke(number, Instant(line.at), event, line.error)


def _ruled(number: int, line: Checkpoint | SettingsLine, patch: Config | None) -> Ruled:
    config = _read(
        number, "its settings", lambda: msgspec.json.decode(bytes(line.settings), type=Config)
    )
    rules = otherwise = rules_of(config, line.revision)
    if patch is not None:
        layers = (Layer("the recording", config), Layer("--set", patch))
        otherwise = rules_of(flatten(layers).config, line.revision)
    return Ruled(number, rules, otherwise, config)


def _state(number: int, line: Checkpoint) -> State:
    return _read(number, "its state", lambda: decode_state(bytes(line.state)))


def _action(number: int, raw: Raw) -> Action:
    return _read(number, "an action", lambda: _ACTION.decode(bytes(raw)))


def _event(number: int, raw: Raw) -> Event:
    return _read(number, "its event", lambda: _EVENT.decode(bytes(raw)))


def _entry(number: int, line: Stepped) -> Entry:
    return Entry(
        Instant(line.at),
        _event(number, line.event),
        tuple(_action(number, raw) for raw in line.actions),
        tuple(
            Decision(one.verdict, Because(one.because.code, one.because.saw), one.path, one.node)
            for one in line.decisions
        ),
        None if line.wake_at is None else Instant(line.wake_at),
    )


def _read(number: int, what: str, read: Callable[[], _Value]) -> _Value:
    try:
        return read()
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise ForeignLine(number, f"{what} is not known here: {error}") from error
