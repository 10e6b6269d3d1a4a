"""Varlink's own messages: calls, answers, and the interface org.varlink.service.

A message is one JSON object and a NUL. Parameters are kept as they came until it is known what they
are for.

Source: varlink.org, "Protocol" and "Service"
"""

from __future__ import annotations

from msgspec import Raw, Struct

__all__ = [
    "ANSWER_BYTES_MAX",
    "CALL_BYTES_MAX",
    "SERVICE_INTERFACE",
    "Call",
    "Description",
    "ExpectedMore",
    "GetInfo",
    "GetInterfaceDescription",
    "Info",
    "InterfaceNotFound",
    "InvalidParameter",
    "MethodNotFound",
    "MethodNotImplemented",
    "PermissionDenied",
    "Reply",
]

SERVICE_INTERFACE = "org.varlink.service"
CALL_BYTES_MAX = 1 << 20
ANSWER_BYTES_MAX = 16 << 20  # as systemd's client has it


class Call(Struct, frozen=True):
    """What a client sends; keys that are not known are not looked at.

    Args:
        method: Interface, dot, name.
        parameters: A JSON object; empty where there are none.
        oneway: No answer is wanted.
        more: A row of answers is understood.
        upgrade: Another protocol is wanted from here on.
    """

    method: str
    parameters: Raw = Raw(b"")
    oneway: bool | None = None
    more: bool | None = None
    upgrade: bool | None = None


class Reply(Struct, frozen=True, omit_defaults=True):
    """What a service sends.

    Args:
        parameters: A JSON object: of the method, or of the error.
        continues: More answers to the same call follow.
        error: Interface, dot, name; None where all went well.
    """

    parameters: Raw = Raw(b"{}")
    continues: bool | None = None
    error: str | None = None


class GetInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask who serves here."""


class Info(Struct, frozen=True):
    """Who serves here, and which interfaces."""

    vendor: str
    product: str
    version: str
    url: str
    interfaces: tuple[str, ...]


class GetInterfaceDescription(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for an interface in Varlink's own language."""

    interface: str


class Description(Struct, frozen=True):
    """An interface in Varlink's own language."""

    description: str


class InterfaceNotFound(Struct, frozen=True):
    """Nobody serves this interface here."""

    interface: str


class MethodNotFound(Struct, frozen=True):
    """The interface has no such method."""

    method: str


class MethodNotImplemented(Struct, frozen=True):
    """The interface has the method, and it does nothing here."""

    method: str


class InvalidParameter(Struct, frozen=True):
    """A parameter is missing, unknown, or not what it has to be."""

    parameter: str


class PermissionDenied(Struct, frozen=True):
    """Whoever asks may not."""


class ExpectedMore(Struct, frozen=True):
    """The method answers in a row of answers, and the call says nothing of `more`."""
