"""Swap as callers ask for it: what it comes to is told in the journal, whatever they speak."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from memreact.control.audit import Audit
from memreact.control.peer import Peer
from memreact.control.varlink import VarlinkError
from memreact.swap_trouble import SwapTrouble
from memreact_schemas.control import INTERFACE
from memreact_schemas.swap import AddSwap, RemoveSwap

__all__ = ["answered"]

_Call = TypeVar("_Call", AddSwap, RemoveSwap)
_Done = TypeVar("_Done", bound=Struct)


async def answered(
    do: Callable[[_Call], Awaitable[_Done]], call: _Call, peer: Peer, audit: Audit
) -> _Done:
    """Do what a call asks for, wait until it is done, and tell who asked for what.

    Raises:
        VarlinkError: It could not be done.
    """
    verb = type(call).__name__
    said = {key: value for key, value in asdict(call).items() if value is not None}
    audit.asked(peer, verb, **said)
    try:
        return await do(call)
    except SwapTrouble as trouble:
        audit.refused(peer, verb, str(trouble))
        raise VarlinkError(trouble.answer, INTERFACE) from trouble
