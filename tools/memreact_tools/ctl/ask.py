"""One verb asked of one guest or of many, and what they said told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.control import INTERFACE
from memreact_tools.address import Address, CouldNotConnect, connect
from memreact_tools.ctl.guests import Ask, Outcome, Round, Trouble
from memreact_tools.ctl.keys import Misused
from memreact_tools.ctl.show import refusal_in_words, settings_by_key
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused, call, stream_of
from memreact_tools.ctl.verbs import Verb
from memreact_tools.deadline import Deadline
from memreact_tools.decoding import decoded
from memreact_tools.plain import plain, plain_json

__all__ = ["ask", "code_of", "one_of", "said", "tell", "watch", "why"]

_DONE, _COULD_NOT = 0, 1
_NO_REASON = ("no reason given",)


class Failed(Struct):
    """Why a guest did not do it, for programs.

    Args:
        code: The error's full name; or unreachable, timeout, broken, interrupted.
        message: For people.
        parameters: What the error says, as it came.
    """

    code: str
    message: str
    parameters: Raw


class Said(Struct, omit_defaults=True):
    """One of many guests' answers, for programs.

    Args:
        address: Of the guest.
        answer: As it came.
        error: Why there is none.
    """

    address: str
    answer: Raw | msgspec.UnsetType = msgspec.UNSET
    error: Failed | None = None


def ask(
    verb: Verb, asked: argparse.Namespace, addresses: Sequence[Address], *, timeout_s: float
) -> Round:
    """Make a round that asks every guest.

    Args:
        verb: What.
        asked: What was typed.
        addresses: Of the guests.
        timeout_s: Seconds that each may take, for all of it.

    Raises:
        Misused: What was typed asks for nothing that there is; nobody was asked.
    """
    method, parameters = f"{INTERFACE}.{verb.method}", verb.parameters(asked)

    aloud = len(addresses) == 1 and not asked.json

    def once(address: Address, method: str, deadline: Deadline) -> bytes:
        with connect(address, timeout_s=deadline.left() or timeout_s) as stream:
            if verb.progress is None:
                return bytes(call(stream, method, parameters))
            row = stream_of(stream, method, parameters, seconds=deadline.left())
            return _last_of(row, verb.progress if aloud else None)

    def one(address: Address) -> tuple[bytes, str]:
        deadline = Deadline(timeout_s)
        try:
            raw = once(address, method, deadline)
        except Refused as refused:
            instead = verb.instead(asked).get(refused.name)
            if instead is None:
                raise
            raw = instead.answer or once(address, f"{INTERFACE}.{instead.method}", deadline)
        return raw, _in_words(verb, raw, asked)

    return Round(addresses, _troubled(one), parallel=asked.parallel)


def _last_of(row: Iterator[Raw], aloud: Callable[[bytes], str] | None) -> bytes:
    """Return the last of a row of answers, and tell of those before it."""
    last = bytes(next(row))
    for raw in row:
        if aloud is not None:
            print(aloud(last), flush=True)
        last = bytes(raw)
    return last


def _troubled(one: Ask) -> Ask:
    """Make one guest's errors its trouble."""

    def asking(address: Address) -> tuple[bytes, str]:
        try:
            return one(address)
        except Refused as refused:
            raw = bytes(refused.parameters)
            text = refusal_in_words(refused.name, raw)
            raise Trouble(text, code=refused.name, parameters=raw) from refused
        except (BrokenConnection, OSError) as error:
            raise Trouble(why(error), code=code_of(error)) from error

    return asking


def code_of(error: Exception) -> str:
    """Name what kept a guest from being asked, for programs."""
    if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
        return "timeout"
    return "unreachable" if isinstance(error, CouldNotConnect) else "broken"


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


def tell(verb: Verb, asked: argparse.Namespace, guests: Round) -> int:
    """Print what each guest said as soon as it did; 0 if all did it, else 1.

    Args:
        verb: What they are asked.
        asked: What was typed.
        guests: Asks them.
    """
    if len(guests.addresses) == 1 and not (asked.json and asked.address_file is not None):
        return _tell_one(verb, asked, next(iter(guests)))
    held: list[Outcome] = []
    try:
        for outcome in guests:
            held.append(outcome)
            _tell_of_many(verb, asked, outcome, guests)
    except KeyboardInterrupt:
        _tell_interrupted(verb, asked, held, guests)
        return _COULD_NOT
    in_order = sorted(held, key=lambda outcome: guests.addresses.index(outcome.address))
    return _COULD_NOT if _tell_end(asked, in_order) else _DONE


def _tell_one(verb: Verb, asked: argparse.Namespace, outcome: Outcome) -> int:
    if outcome.failed:
        print(f"memreact-ctl: {plain(str(outcome.address))}: {outcome.text}", file=sys.stderr)
        return _COULD_NOT
    print(as_json(_picked(verb, asked, outcome.answer)) if asked.json else outcome.text)
    return _DONE


def _picked(verb: Verb, asked: argparse.Namespace, raw: bytes) -> bytes:
    """Return what of an answer was asked for; one of another shape is told as it came."""
    try:
        return verb.pick(raw, asked)
    except Exception:  # noqa: BLE001  # whatever one guest says, the others' answers are told
        return raw


def _tell_of_many(verb: Verb, asked: argparse.Namespace, outcome: Outcome, guests: Round) -> None:
    if asked.json:
        answer = b"" if outcome.failed else _picked(verb, asked, outcome.answer)
        print(said(outcome._replace(answer=answer)), flush=True)
    elif asked.verb != "diff" or outcome.failed:
        print("\n".join(_lines(verb, outcome, guests)), flush=True)


def said(outcome: Outcome) -> str:
    """Write one of many outcomes on a line, for programs."""
    line = Said(str(outcome.address))
    if (trouble := outcome.trouble) is not None:
        line.error = Failed(trouble.code, outcome.text, Raw(trouble.parameters))
    else:
        line.answer = Raw(outcome.answer)
    return as_json(msgspec.json.encode(line))


def _lines(verb: Verb, outcome: Outcome, guests: Round) -> Iterator[str]:
    """Write a row for a short answer, else the answer below its guest's address."""
    name = plain(str(outcome.address))
    width = max(len(plain(str(address))) for address in guests.addresses)
    if outcome.failed or verb.row:
        state = "failed" if outcome.failed else "done"
        yield f"{name:<{width}}  {state:<6}  {(outcome.text.splitlines() or _NO_REASON)[0]}"
    else:
        yield f"{name}:"
        yield from (f"  {line}" for line in outcome.text.splitlines())


def _tell_interrupted(
    verb: Verb, asked: argparse.Namespace, held: Sequence[Outcome], guests: Round
) -> None:
    """Say who was not asked, and who was and may have done it."""
    left = guests.stop()
    answered = {outcome.address for outcome in held}
    for address in guests.addresses:
        if address not in answered and address not in left:
            trouble = Trouble("asked, and no answer yet: it may be done", code="interrupted")
            _tell_of_many(verb, asked, Outcome(address, b"", str(trouble), trouble), guests)
    if not asked.json:
        _tell_end(asked, held)
    count = len(guests.addresses) - len(left)
    text = f"interrupted: {count} asked, {len(left)} not asked"
    print(f"memreact-ctl: {text}", file=sys.stderr)


def _tell_end(asked: argparse.Namespace, held: Sequence[Outcome]) -> int:
    """Sum up for people; returns how many failed."""
    failed = sum(outcome.failed for outcome in held)
    if asked.json:
        return failed
    if asked.verb == "diff":
        return failed + _tell_differences(held, failed)
    print(f"{len(held) - failed} done, {failed} failed")
    return failed


def _tell_differences(held: Sequence[Outcome], failed: int) -> int:
    """Compare those that answered; returns how many of them said what cannot be compared."""
    values: dict[str, dict[str, str]] = {}
    odd = 0
    for each in held:
        if each.failed:
            continue
        name = plain(str(each.address))
        try:
            values[name] = _values(each.answer)
        except Exception as error:  # noqa: BLE001  # the others are compared all the same
            odd += 1
            print(f"{name}  failed  what it says cannot be compared: {plain(str(error))}")
    print("\n".join(_differences(values)))
    print(f"{failed + odd} failed")
    return odd


def _differences(values: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Write the keys whose values are not the same in all guests."""
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
    return settings_by_key(decoded(answer, _Settings).settings)


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
