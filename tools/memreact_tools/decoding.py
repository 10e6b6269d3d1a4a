"""JSON into types, on whatever thread.

msgspec finds out what a type holds when it first meets it, and 0.19, Debian 13's, crashes where two
threads do so at once. Here one thread does it, and the others wait.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

__all__ = ["decoded"]

_Kind = TypeVar("_Kind")
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}
_finding_out = allocate_lock()  # that of threading, which need not be loaded for it


def decoded(data: bytes | bytearray | memoryview | Raw, kind: type[_Kind]) -> _Kind:
    """Decode JSON as a type.

    Raises:
        msgspec.MsgspecError: It is none, or not of this type.
    """
    with _finding_out:
        decoder = _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    made: _Kind = decoder.decode(data)
    return made
