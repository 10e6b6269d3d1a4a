"""One verb asked of one guest or of many, and what they said told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.control import INTERFACE
from memreact_tools.address import Address, CouldNotConnect, connect
from memreact_tools.ctl.guests import Outcome, Trouble, ask_all
from memreact_tools.ctl.keys import Misused
from memreact_tools.ctl.show import refusal_in_words, settings_by_key
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused, call, stream_of
from memreact_tools.ctl.verbs import Verb
from memreact_tools.plain import plain, plain_json

__all__ = ["ask", "tell", "watch"]

_DONE, _COULD_NOT = 0, 1


class Said(Struct, omit_defaults=True):
    """One of many guests' answers, for programs.

    Args:
        address: Of the guest.
        answer: As it came.
        error: Why there is none.
    """

    address: str
    answer: Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | None = None


def ask(
    verb: Verb, asked: argparse.Namespace, addresses: Sequence[Address], *, timeout_s: float
) -> Iterator[Outcome]:
    """Ask every guest.

    Args:
        verb: What.
        asked: What was typed.
        addresses: Of the guests.
        timeout_s: Seconds that each may take, to connect and for every answer.

    Raises:
        Misused: What was typed asks for nothing that there is; nobody was asked.
    """
    method, parameters = f"{INTERFACE}.{verb.method}", verb.parameters(asked)

    def one(address: Address) -> tuple[bytes, str]:
        try:
            with connect(address, timeout_s=timeout_s) as stream:
                raw = bytes(call(stream, method, parameters))
            return raw, _in_words(verb, raw, asked)
        except Refused as refused:
            raise Trouble(refusal_in_words(refused.name, bytes(refused.parameters))) from refused
        except (BrokenConnection, OSError) as error:
            raise Trouble(why(error)) from error

    return ask_all(addresses, one, parallel=asked.parallel)


def _in_words(verb: Verb, raw: bytes, asked: argparse.Namespace) -> str:
    """Tell an answer; one that a later service shaped anew is told as it came."""
    if asked.json:
        return ""
    try:
        return verb.show(raw, asked)
    except msgspec.MsgspecError:
        return as_json(raw)


def why(error: Exception) -> str:
    """Say why a guest could not be asked, without its address."""
    if isinstance(error, CouldNotConnect):
        return error.why
    return "no answer in time" if isinstance(error, TimeoutError) else plain(str(error))


def as_json(raw: bytes) -> str:
    """Write an answer on one line, as it came but for what a terminal would act on."""
    compact = msgspec.json.format(raw, indent=-1)
    return plain_json(compact.decode(errors="replace"))


def tell(verb: Verb, asked: argparse.Namespace, outcomes: Iterator[Outcome], count: int) -> int:
    """Print what the guests said; 0 if all did it, else 1.

    Args:
        verb: What they were asked.
        asked: What was typed.
        outcomes: One for each guest.
        count: How many guests.
    """
    if count == 1:
        return _tell_one(next(outcomes), for_programs=asked.json)
    held = []
    for outcome in outcomes:
        held.append(outcome)
        if asked.json:
            print(_said(outcome), flush=True)
    if not asked.json:
        print("\n".join(_lines(verb, asked, held)))
    return _COULD_NOT if any(outcome.failed for outcome in held) else _DONE


def _tell_one(outcome: Outcome, *, for_programs: bool) -> int:
    if outcome.failed:
        print(f"memreact-ctl: {plain(str(outcome.address))}: {outcome.text}", file=sys.stderr)
        return _COULD_NOT
    print(as_json(outcome.answer) if for_programs else outcome.text)
    return _DONE


def _said(outcome: Outcome) -> str:
    said = Said(str(outcome.address))
    if outcome.failed:
        said.error = outcome.text
    else:
        said.answer = Raw(outcome.answer)
    return as_json(msgspec.json.encode(said))


def _lines(verb: Verb, asked: argparse.Namespace, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Write a table for short answers, else each guest's answer below its address."""
    failed = sum(outcome.failed for outcome in outcomes)
    if asked.verb == "diff":
        yield from _differences([outcome for outcome in outcomes if not outcome.failed])
        outcomes = [outcome for outcome in outcomes if outcome.failed]
    names = [plain(str(outcome.address)) for outcome in outcomes]
    width = max((len(name) for name in names), default=0)
    for name, outcome in zip(names, outcomes, strict=True):
        state = "failed" if outcome.failed else "done"
        if outcome.failed or verb.row:
            yield f"{name:<{width}}  {state:<6}  {outcome.text.splitlines()[0]}"
        else:
            yield f"{name}:"
            yield from (f"  {line}" for line in outcome.text.splitlines())
    done = len(outcomes) - failed if asked.verb != "diff" else None
    yield f"{failed} failed" if done is None else f"{done} done, {failed} failed"


def _differences(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Write the keys whose values are not the same in all guests."""
    values = {plain(str(each.address)): _values(each.answer) for each in outcomes}
    keys = {key: None for each in values.values() for key in each}
    same = True
    for key in keys:
        if len({each.get(key) for each in values.values()}) > 1:
            same = False
            yield plain(key)
            yield from (
                f"  {name}: {plain(each.get(key, 'nothing'))}" for name, each in values.items()
            )
    if same:
        yield "the same settings in all that answered"


class _Settings(Struct):
    settings: dict[str, object]


def _values(answer: bytes) -> dict[str, str]:
    return settings_by_key(msgspec.json.decode(answer, type=_Settings).settings)


def watch(verb: Verb, asked: argparse.Namespace, address: Address, *, timeout_s: float) -> int:
    """Print every item of a guest's stream until it ends, which is no success, or until Ctrl-C.

    Args:
        verb: What.
        asked: What was typed.
        address: Of the guest.
        timeout_s: Seconds that connecting may take; a stream may be silent for ever.
    """
    method, parameters = f"{INTERFACE}.{verb.method}", verb.parameters(asked)
    try:
        with connect(address, timeout_s=timeout_s) as stream:
            for raw in stream_of(stream, method, parameters):
                text = as_json(bytes(raw)) if asked.json else _in_words(verb, bytes(raw), asked)
                print(text, flush=True)
    except KeyboardInterrupt:
        return _DONE
    except Refused as refused:
        text = refusal_in_words(refused.name, bytes(refused.parameters))
    except (BrokenConnection, CouldNotConnect, TimeoutError, ConnectionResetError) as error:
        text = why(error)
    else:
        text = "the stream ended"
    print(f"memreact-ctl: {plain(str(address))}: {text}", file=sys.stderr)
    return _COULD_NOT


def one_of(addresses: Sequence[Address]) -> Address:
    """Return the only address.

    Raises:
        Misused: There are several.
    """
    if len(addresses) != 1:
        raise Misused("this follows one guest at a time")
    return addresses[0]
