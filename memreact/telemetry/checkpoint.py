"""The policy's state as a line of a recording, and back.

JSON has no keys but text: what is kept by a cgroup and its node, or by a node and its zone, is
written as pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import msgspec

from memreact.policy.state import State
from memreact.telemetry.trace import encoded
from memreact.value import replace

__all__ = ["decode_state", "encode_state"]


def encode_state(state: State) -> bytes:
    """Write it as one JSON object."""
    compact, turn = state.compact, state.turn
    if compact.zones:
        state = replace(state, compact=replace(compact, zones=_pairs(compact.zones)))
    if turn is not None:
        turn = replace(turn, aside=_pairs(turn.aside), aged_from=_pairs(turn.aged_from))
        state = replace(state, turn=turn)
    return encoded(state, _ENCODER)


def decode_state(raw: bytes) -> State:
    """Read it back.

    Raises:
        msgspec.MsgspecError: It is of another form: another memreact wrote it.
    """
    found = msgspec.json.decode(raw, type=dict[str, Any])
    _keyed(found.get("compact"), "zones")
    for name in ("aside", "aged_from"):
        _keyed(found.get("turn"), name)
    return msgspec.convert(found, State, str_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise NotImplementedError(type(value))  # by which a hook tells msgspec that it knows no more


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def _pairs(by_key: Mapping[Any, Any]) -> Any:  # noqa: ANN401  # stands where a mapping stood
    return cast("Any", tuple(by_key.items()))


def _keyed(holder: object, name: str) -> None:
    """Make pairs a mapping again; what is none is for the conversion to refuse."""
    pairs = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(pairs, list):
        return
    try:
        holder[name] = {tuple(key): value for key, value in pairs}  # type: ignore[index]  # a dict
    except (TypeError, ValueError) as error:
        raise msgspec.ValidationError(f"Expected pairs - at `$.{name}`") from error
