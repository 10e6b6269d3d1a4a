"""Each verb of memreact-ctl: which call it is, and how its answer is told."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from math import ceil
from typing import NamedTuple

import msgspec
from msgspec import Struct

from memreact_schemas import control
from memreact_tools.ctl import explained, show, swap
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.keys import (
    Misused,
    key_names,
    nodes_from,
    patch_from,
    rule_from,
    unknown_key,
)
from memreact_tools.ctl.target import parse_target
from memreact_tools.ctl.what_if import what_if_in_words

__all__ = ["VERBS", "Verb"]


class Instead(NamedTuple):
    """What is done where a guest refused with a certain error.

    Args:
        method: Called with the same parameters; "" where nothing is.
        answer: Taken as the guest's, where nothing is called.
    """

    method: str = ""
    answer: bytes = b""


def _as_it_came(raw: bytes, _asked: Namespace) -> bytes:
    return raw


def _nothing_instead(_asked: Namespace) -> Mapping[str, Instead]:
    return {}


class Verb(NamedTuple):
    """One verb.

    Args:
        method: Of io.memreact.
        parameters: Makes them of what was typed; raises Misused.
        show: Tells the answer to people.
        row: The answer's first line says it all: one line for a guest is enough.
        pick: Returns what of the answer was asked for, for programs.
        instead: What is done where a guest refuses, by the error's full name.
        progress: Tells to people what comes before the answer; None where nothing does.
        takes_s: Seconds that the guest may take for it, beyond those of any call.
    """

    method: str
    parameters: Callable[[Namespace], Struct | None]
    show: Callable[[bytes, Namespace], str]
    row: bool = True
    pick: Callable[[bytes, Namespace], bytes] = _as_it_came
    instead: Callable[[Namespace], Mapping[str, Instead]] = _nothing_instead
    progress: Callable[[bytes], str] | None = None
    takes_s: Callable[[Namespace], float] = lambda _asked: 0.0


def _status(asked: Namespace) -> Struct:
    return _made(control.GetStatus, path=asked.path, ledger=asked.ledger or None)


def _show_status(raw: bytes, asked: Namespace) -> str:
    return show.status_in_words(raw, path=asked.path, everything=asked.all)


def _explain(asked: Namespace) -> Struct:
    return _made(control.Explain, path=asked.path)


def _get(asked: Namespace) -> Struct:
    for key in asked.keys:
        _refuse_unknown(key)
    return control.GetSettings()


def _refuse_unknown(key: str) -> None:
    names = key_names()
    tables = {name.partition(".")[0] for name in names}
    rule = key == "memcg.cgroup" or key.startswith("memcg.cgroup[")
    if key not in names and key not in tables and not rule:
        raise Misused(unknown_key(key))


def _set(asked: Namespace) -> Struct:
    return _made(control.PatchSettings, patch=patch_from(asked.pairs), **_guards(asked))


def _what_if(asked: Namespace) -> Struct:
    return _made(control.WhatIf, patch=patch_from(asked.pairs))


def _patience(_asked: Namespace) -> float:
    return 20.0  # a guest of thousands of cgroups is read once, and then reckoned with


def _unset(asked: Namespace) -> Struct:
    if bool(asked.keys) == asked.all:
        raise Misused("name the keys to forget, or --all")
    for key in asked.keys:
        _refuse_unknown(key)
    keys = None if asked.all else tuple(asked.keys)
    return _made(control.DropPushed, keys=keys, **_guards(asked))


def _rule(asked: Namespace) -> Struct:
    if asked.rule_verb == "del":
        numa = None if asked.numa is None else tuple(nodes_from(asked.numa))
        return _made(control.DeleteRule, path=asked.path, numa=numa, **_guards(asked))
    call = control.SetRule if asked.rule_verb == "set" else control.AddRule
    rule = rule_from(asked.path, asked.numa, asked.pairs)
    return _made(call, rule=rule, **_guards(asked))


def _put_instead(_asked: Namespace) -> Mapping[str, Instead]:
    return {f"{control.INTERFACE}.RuleExists": Instead(method="SetRule")}


def _del_instead(asked: Namespace) -> Mapping[str, Instead]:
    answer = b'{"changed":[],"notes":["there was no such rule"]}'
    return {f"{control.INTERFACE}.NoSuchRule": Instead(answer=answer)} if asked.if_there else {}


def _guards(asked: Namespace) -> dict[str, object]:
    return {"expected_revision": asked.expect_revision, "dry_run": asked.dry_run or None}


def _made(call: type[Struct], **values: object) -> Struct:
    """Make a call's parameters, checked by their schema.

    Raises:
        Misused: A value is out of range.
    """
    try:
        return msgspec.convert(values, call)
    except msgspec.ValidationError as error:
        raise Misused(str(error)) from error


def _show_change(raw: bytes, asked: Namespace) -> str:
    return show.changed_in_words(raw, dry_run=asked.dry_run)


def _pause(asked: Namespace) -> Struct:
    return _made(control.Pause, seconds=_seconds(asked), reason=asked.reason)


def _seconds(asked: Namespace) -> int:
    seconds = ceil(parse_duration(asked.length))
    if seconds > control.HOLD_SECONDS_MAX:
        raise Misused(f"a pause is {control.HOLD_SECONDS_MAX} seconds at most, not {seconds}")
    return seconds


def _show_pause(_raw: bytes, asked: Namespace) -> str:
    return f"paused; it ends by itself in {show.span(_seconds(asked) * 1_000_000)}"


def _squeeze(asked: Namespace) -> Struct:
    if asked.target is None:
        raise Misused("say how much, such as 300M, 60% or cold, or --release")
    target, seconds = parse_target(asked.target), _squeeze_seconds(asked)
    hold: dict[str, object] = {}
    if asked.hold is not None:
        if "cold" in target:
            raise Misused("what is held is a number of bytes or a share, not what is cold")
        hold = {"then": "hold", "hold_seconds": ceil(parse_duration(asked.hold))}
    return _made(control.Squeeze, scope=asked.scope, deadline_seconds=seconds, **target, **hold)


def _release_squeeze(asked: Namespace) -> Struct:
    if asked.target is not None or asked.hold is not None:
        raise Misused("--release takes no target")
    return control.ReleaseSqueeze()


def _squeeze_seconds(asked: Namespace) -> int:
    seconds = ceil(parse_duration(asked.deadline))
    if seconds > control.SQUEEZE_SECONDS_MAX:
        most = control.SQUEEZE_SECONDS_MAX
        raise Misused(f"a squeeze is {most} seconds at most, not {seconds}")
    return seconds


def _run_now(asked: Namespace) -> Struct:
    return _made(control.RunNow, path=asked.path)


def _level(asked: Namespace) -> Struct:
    return _made(control.SetLogLevel, level=asked.level, **_guards(asked))


def _watch(asked: Namespace) -> Struct:
    return control.Watch(decisions=None, status=asked.status or None)


def _no_parameters(_asked: Namespace) -> None:
    return None


VERBS: Mapping[str, Verb] = {
    "status": Verb("GetStatus", _status, _show_status, row=False),
    "explain": Verb(
        "Explain", _explain, lambda raw, _asked: explained.explanation_in_words(raw), row=False
    ),
    "get": Verb(
        "GetSettings",
        _get,
        lambda raw, asked: show.settings_in_words(raw, asked.keys),
        row=False,
        pick=lambda raw, asked: show.picked(raw, asked.keys),
    ),
    "set": Verb("PatchSettings", _set, _show_change),
    "unset": Verb("DropPushed", _unset, _show_change),
    "pause": Verb("Pause", _pause, _show_pause),
    "resume": Verb("Resume", _no_parameters, lambda _raw, _asked: "resumed"),
    "squeeze": Verb(
        "Squeeze",
        _squeeze,
        lambda raw, _asked: show.squeeze_in_words(raw),
        progress=show.squeeze_progress_in_words,
        takes_s=_squeeze_seconds,
    ),
    "squeeze --release": Verb("ReleaseSqueeze", _release_squeeze, lambda _raw, _asked: "released"),
    "swap list": Verb(
        "ListSwap", _no_parameters, lambda raw, _asked: swap.areas_in_words(raw), row=False
    ),
    "swap add": Verb(
        "AddSwap",
        swap.add_parameters,
        lambda raw, _asked: swap.added_in_words(raw),
        takes_s=swap.add_takes_s,
    ),
    "swap remove": Verb(
        "RemoveSwap",
        swap.remove_parameters,
        lambda raw, _asked: swap.removed_in_words(raw),
        takes_s=swap.remove_takes_s,
    ),
    "run-now": Verb("RunNow", _run_now, lambda _raw, _asked: "begun"),
    "doctor": Verb(
        "GetDoctor", _no_parameters, lambda raw, _asked: show.doctor_in_words(raw), row=False
    ),
    "diff": Verb(
        "GetSettings",
        _no_parameters,
        lambda raw, _asked: show.differing(raw),
        row=False,
        pick=lambda raw, _asked: show.differing_for_programs(raw),
    ),
    "log-level": Verb("SetLogLevel", _level, _show_change),
    "what-if": Verb(
        "WhatIf", _what_if, lambda raw, _asked: what_if_in_words(raw), row=False, takes_s=_patience
    ),
    "watch": Verb("Watch", _watch, lambda raw, _asked: show.item_in_words(raw), row=False),
    "rule add": Verb("AddRule", _rule, _show_change),
    "rule set": Verb("SetRule", _rule, _show_change),
    "rule put": Verb("AddRule", _rule, _show_change, instead=_put_instead),
    "rule del": Verb("DeleteRule", _rule, _show_change, instead=_del_instead),
}
