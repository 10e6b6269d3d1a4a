"""The commands of Kata's agent-ctl that have to do with memory, in its own words.

A command is a name and, behind a blank, its argument: `json://{...}` or `file:///PATH`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from memreact_schemas.agent import (
    ADD_SWAP,
    ADD_SWAP_PATH,
    COMPACT_CONFIG,
    HEALTH_CHECK_REQUEST,
    HEALTH_CHECK_RESPONSE,
    MEMCG_CONFIG,
    SERVING,
    VERSION_CHECK_RESPONSE,
    HealthCheckResponse,
    VersionCheckResponse,
)
from memreact_schemas.protobuf import Field, ProtobufError, Table, decode, encode
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.keys import Misused

__all__ = [
    "COMMANDS",
    "METHODS",
    "Call",
    "Command",
    "Echo",
    "List",
    "Method",
    "Pause",
    "Quit",
    "Repeat",
    "Step",
    "answer_in_words",
    "parse_command",
    "perform",
    "steps",
]

_AGENT = "grpc.AgentService"
_HEALTH = "grpc.Health"


class Method(NamedTuple):
    """A method of the agent's.

    Args:
        service: Full name.
        request: How its message is written.
        response: How its answer is; None where that says nothing.
        named: Names in JSON that are not the struct's own.
    """

    service: str
    request: Table[Any]
    response: Table[Any] | None = None
    named: Mapping[str, str] = {}


METHODS: Mapping[str, Method] = {
    "MemAgentMemcgSet": Method(_AGENT, MEMCG_CONFIG),
    "MemAgentCompactSet": Method(_AGENT, COMPACT_CONFIG),
    "AddSwap": Method(_AGENT, ADD_SWAP, named={"PCIPath": "pci_path"}),
    "AddSwapPath": Method(_AGENT, ADD_SWAP_PATH),
    "Check": Method(_HEALTH, HEALTH_CHECK_REQUEST, HEALTH_CHECK_RESPONSE),
    "Version": Method(_HEALTH, HEALTH_CHECK_REQUEST, VERSION_CHECK_RESPONSE),
}

_BUILT_IN = ("echo", "help", "list", "repeat", "sleep", "quit")
COMMANDS = (*METHODS, *_BUILT_IN)


@dataclass(frozen=True, slots=True)
class Call:
    """Call a method with a message that is encoded already."""

    name: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Echo:
    """Say a text."""

    text: str


@dataclass(frozen=True, slots=True)
class List:
    """Say which commands there are."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """Do the next command so many times; -1 means for ever."""

    times: int


@dataclass(frozen=True, slots=True)
class Quit:
    """Stop here."""


Step: TypeAlias = Call | Echo | List | Pause | Quit
Command: TypeAlias = Step | Repeat


def parse_command(text: str) -> Command:
    """Read one command.

    Raises:
        Misused: It is not known, or its argument is wrong; nothing of it was sent.
    """
    name, argument = (*text.strip().split(maxsplit=1), "", "")[:2]
    if name in METHODS:
        return Call(name, _payload(name, METHODS[name], argument))
    match name:
        case "echo":
            return Echo(argument)
        case "help" | "list":
            return List()
        case "quit":
            return Quit()
        case "sleep":
            return Pause(parse_duration(argument))
        case "repeat":
            return Repeat(_times(argument))
    raise Misused(f"no command is named {name!r}: {_meant(name)}")


def _meant(name: str) -> str:
    lower = {command.lower(): command for command in COMMANDS}
    near = get_close_matches(name.lower(), lower, n=1)
    return f"did you mean {lower[near[0]]}?" if near else f"there are {', '.join(COMMANDS)}"


def _times(text: str) -> int:
    if not re.fullmatch(r"-1|[0-9]{1,18}", text, re.ASCII):
        raise Misused(f"repeat takes a number of times, or -1 for ever, not {text!r}")
    return int(text)


def _payload(name: str, method: Method, argument: str) -> bytes:
    """Encode a message, whose every key and value was looked at."""
    try:
        said = msgspec.json.decode(_json_of(argument)) if argument else {}
    except msgspec.DecodeError as error:
        raise Misused(f"{name}: {error}") from error
    if not isinstance(said, dict):
        raise Misused(f"{name}: the message is a JSON object")
    message = _message(name, method, said)
    return encode(method.request, message)


def _json_of(argument: str) -> bytes:
    scheme, separator, rest = argument.partition("://")
    if not separator or scheme not in ("json", "file"):
        raise Misused(f"{argument!r} is neither json://{{...}} nor file:///PATH")
    try:
        if scheme == "json":
            return os.fsencode(rest)
        with open(rest, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise Misused(f"{argument}: {error}") from error


def _message(name: str, method: Method, said: dict[str, object]) -> Struct:
    fields = {field.name: field for field in method.request.fields.values()}
    values = {}
    for key, value in said.items():
        field = fields.get(method.named.get(key, key))
        if field is None:
            raise Misused(f"{name} has no key {key!r}: {_near_key(key, list(fields), method)}")
        if value is not None:
            values[field.name] = _checked(name, field, value)
    made: Struct = method.request.make(**values)
    return made


def _near_key(key: str, fields: Sequence[str], method: Method) -> str:
    bare = key.removeprefix("mem_agent_")
    tries = (bare, bare.removeprefix("memcg_"), bare.removeprefix("compact_"), f"compact_{bare}")
    known = [*fields, *method.named]
    near = [each for each in tries if each in fields] or get_close_matches(bare, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


_RANGES = {
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}


def _checked(name: str, field: Field, value: object) -> object:
    if field.presence != "repeated":
        return _one(name, field, value)
    if not isinstance(value, list):
        raise Misused(f"{name}: {field.name} is a list")
    return tuple(_one(name, field, each) for each in value)


def _one(name: str, field: Field, value: object) -> object:
    """Return a value that can be sent as what the field is."""
    kind = str(field.kind)
    if kind == "bool":
        good, expected = isinstance(value, bool), "true or false"
    elif kind == "string":
        good, expected = isinstance(value, str), "text"
    else:
        low, high = _RANGES[kind]
        whole = isinstance(value, int) and not isinstance(value, bool)
        good = whole and isinstance(value, int) and low <= value <= high
        expected = f"a whole number from {low} to {high}"
    if not good:
        found = msgspec.json.encode(value).decode()
        raise Misused(f"{name}: {field.name} is {expected}, not {found}")
    return value


def steps(commands: Iterator[Command]) -> Iterator[Step]:
    """Yield what is to be done, repeats unrolled, until all is done or one says quit."""
    times = 1
    for command in commands:
        if isinstance(command, Repeat):
            times = command.times
            continue
        left = times
        times = 1
        while left:
            yield command
            if isinstance(command, Quit):
                return
            left -= 1


def answer_in_words(name: str, payload: bytes) -> tuple[dict[str, object], str]:
    """Read an answer and say it, for programs and for people.

    Raises:
        ProtobufError: It is no such answer.
    """
    table = METHODS[name].response
    if table is None:
        return {}, f"{name}: done"
    answer = decode(table, payload)
    said: dict[str, object] = msgspec.to_builtins(answer)
    match answer:
        case HealthCheckResponse(status=status):
            return said, f"{name}: {'SERVING' if status == SERVING else f'status {status}'}"
        case VersionCheckResponse():
            text = f"grpc {answer.grpc_version}, agent {answer.agent_version}"
            return said, f"{name}: {text}"
    raise ProtobufError(f"an answer of {name} that nobody reads")


def perform(
    step: Step,
    call: Callable[[str, bytes], bytes],
    say: Callable[[dict[str, object], str], None],
) -> None:
    """Do one step.

    Args:
        step: Which.
        call: Calls a method, by its name, with an encoded message; returns the answer's.
        say: Tells what came of it, for programs and for people.
    """
    match step:
        case Call(name, payload):
            said, text = answer_in_words(name, call(name, payload))
            say({"command": name, "answer": said}, text)
        case Echo(text):
            say({"command": "echo", "answer": {"text": text}}, text)
        case List():
            say({"command": "list", "answer": {"commands": COMMANDS}}, "\n".join(COMMANDS))
        case Pause(seconds):
            time.sleep(seconds)
        case Quit():
            pass
