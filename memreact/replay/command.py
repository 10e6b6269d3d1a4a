"""`memreact replay`: reads a recording, and tells what it came to."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import msgspec

from memreact.actions import Action, Decision
from memreact.events import Instant
from memreact.replay.moments import moments
from memreact.replay.otherwise import Deviation, Foreseen, foresee
from memreact.replay.verify import Difference, Replayed, verify
from memreact.settings.boot import value_of
from memreact.settings.errors import SettingsError
from memreact.settings.tables import config_from
from memreact_schemas.config import Config
from memreact_schemas.recording import CutOff, RecordingError, opened, read_lines
from memreact_schemas.trace import Header, Line

__all__ = ["Reading", "patch_of", "replay"]

_DONE, _COULD_NOT = 0, 1
_SHOWN_MAX = 400  # characters of one side of a difference
_ROWS_MAX = 100
_ORIGIN = "--set"
_KINDS = {"says": "says", "triggers": "arms", "parts": "PARTS"}


def replay(path: str, pairs: Sequence[str] = ()) -> int:
    """Decide everything of a recording again; 0 if it is the same, else 1.

    Args:
        path: Of the recording.
        pairs: Settings that are laid over the recorded ones, as in `memcg.swap=true`: what they
            would have changed is told, and that is a 0.

    Raises:
        SettingsError: Such a setting is none.
        OSError: The recording cannot be opened.
    """
    patch = patch_of(pairs) if pairs else None
    reading = Reading()
    try:
        with opened(path) as file:
            found = moments(reading.lines(read_lines(file)), patch)
            if patch is None:
                code, text = _replayed(verify(found), reading)
            else:
                code, text = _foreseen(foresee(found), reading, pairs)
    except RecordingError as error:
        return _trouble(path, error)
    print(text)  # noqa: T201
    return code if reading.cut is None else _trouble(path, reading.cut)


def patch_of(pairs: Iterable[str]) -> Config:
    """Read settings as they are typed, outside of rules for cgroups.

    Raises:
        SettingsError: A key is not known, or does not take the value.
    """
    tables: dict[str, dict[str, object]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        table, dot, key = name.strip().partition(".")
        if not equals or not dot:
            raise SettingsError(_ORIGIN, "KEY=VALUE, as in memcg.swap=true", found=pair)
        value = value_of((table, key), text.strip(), _ORIGIN, name.strip())
        tables.setdefault(table, {})[key] = value
    return config_from(dict(tables), _ORIGIN)


class Reading:
    """Looks at lines as they pass: which time of day it was, and whether they were cut off."""

    def __init__(self) -> None:
        self.cut: CutOff | None = None
        self._wall_less_at_us = 0

    def lines(self, numbered: Iterator[tuple[int, Line]]) -> Iterator[tuple[int, Line]]:
        """Yield them; where they are cut off they end, and `cut` says so."""
        try:
            for number, line in numbered:
                if isinstance(line, Header):
                    self._wall_less_at_us = line.wall_us - line.at
                yield number, line
        except CutOff as cut:
            self.cut = cut

    def clock(self, at: Instant | None) -> str:
        """Write a moment as this machine's clock has it."""
        if at is None:
            return "never"
        with suppress(OverflowError, ValueError, OSError):  # no time of any calendar
            then = time.localtime((at + self._wall_less_at_us) / 1e6)
            return time.strftime("%F %T", then)
        return f"{at} us"


def _trouble(path: str, error: RecordingError) -> int:
    print(f"memreact: {path}: {error}", file=sys.stderr)  # noqa: T201
    return _COULD_NOT


def _replayed(done: Replayed, reading: Reading) -> tuple[int, str]:
    text = f"{done.steps} steps with {done.decisions} decisions"
    if done.ended_at is None:
        text += ": nothing happened"
    else:
        text += f", {reading.clock(done.began_at)} to {reading.clock(done.ended_at)}"
    if done.missed:
        text += f"; {done.missed} lines are missing in it"
    if done.bug is not None:
        text += f"\nit ended by a bug: {_cut(done.bug)}"
    if done.difference is None:
        checks = f", and the state at {done.checkpoints} checkpoints" if done.checkpoints else ""
        return _DONE, f"{text}\nthe same, every one{checks}"
    return _COULD_NOT, "\n".join([text, *_difference(done.difference, reading)])


def _difference(found: Difference, reading: Reading) -> list[str]:
    return [
        f"line {found.line}, {reading.clock(found.at)}: other {found.what}",
        f"  recorded {_shown(found.recorded)}",
        f"  replayed {_shown(found.replayed)}",
    ]


def _foreseen(found: Foreseen, reading: Reading, pairs: Sequence[str]) -> tuple[int, str]:
    if found.difference is not None:
        head = "this memreact does not decide as it was recorded, so it cannot tell what would be"
        return _COULD_NOT, "\n".join([head, *_difference(found.difference, reading)])
    if found.set_at is None:
        return _COULD_NOT, "there is no moment in it at which settings could have been changed"
    rows = [f"with {' '.join(pairs)} from {reading.clock(found.set_at)} on:"]
    for deviation in found.deviations[:_ROWS_MAX]:
        rows += _deviation(deviation, reading)
    if len(found.deviations) > _ROWS_MAX:
        rows.append(f"... {len(found.deviations) - _ROWS_MAX} more")
    rows.append(f"{found.same} steps are the same in both")
    rows.append(found.ended or "nothing that differs changes what follows, to its end")
    return _DONE, "\n".join(rows)


def _deviation(found: Deviation, reading: Reading) -> Iterator[str]:
    yield f"line {found.line}, {reading.clock(found.at)}: {_KINDS[found.kind]}"
    for name, told in (("recorded", found.recorded), ("instead", found.otherwise)):
        yield from (f"  {name:<8} {_said(each)}" for each in told[:_ROWS_MAX])
        if not told:
            yield f"  {name:<8} nothing"


def _said(each: Decision | Action) -> str:
    if not isinstance(each, Decision):
        return _shown(each)
    about = "" if not each.path else f" {each.path}" + (f" {each.node}" if each.node else "")
    figures = "".join(f" {key}={value}" for key, value in each.because.saw.items())
    return _cut(f"{each.verdict}{about} because={each.because.code}{figures}")


def _shown(value: object) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return _cut(text)


def _cut(text: str) -> str:
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
