"""Changes of the ways in: nobody closes the one by which they ask, and what moves is told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from memreact.settings.errors import SettingsError
from memreact_schemas.config import Config, Control, overlay

__all__ = ["VSOCK_PORTS", "check_ways", "ports_shared", "ways_moved"]

VSOCK_PORTS = ("varlink_port", "ttrpc_port", "metrics_port")
"""Keys of `[control]`, each the port of a service."""

_MOVED = (
    "the host reaches this guest at port {} from now on",
    "ttRPC is spoken at port {} from now on",
    "metrics are read at port {} from now on",
)


def check_ways(
    before: Control, below: Control, pushed: Control, *, origin: str, over_vsock: bool
) -> None:
    """Refuse what cannot be meant.

    Args:
        before: In force.
        below: What the files say, complete.
        pushed: What would be pushed from now on.
        origin: Named in the error.
        over_vsock: Whether it is asked over AF_VSOCK.

    Raises:
        SettingsError: AF_VSOCK would be closed to whoever asks over it, or two services would
            listen on one port, by what was pushed, that do not now.
    """
    after = overlay(Config(control=below), Config(control=pushed)).control
    if over_vsock and before.vsock and not after.vsock:
        why = "would end the way by which it is asked; say it in a file or over the unix socket"
        raise SettingsError(origin, why, key="control.vsock")
    shared = ports_shared(before)
    if any(getattr(pushed, key) is not None for key in VSOCK_PORTS):
        for one, other in ports_shared(after):
            if (one, other) not in shared:
                raise _two_on_one_port(before, after, one, other, origin)


def _two_on_one_port(
    before: Control, after: Control, one: str, other: str, origin: str
) -> SettingsError:
    """Blame the later one of the two, unless it is where it was."""
    if getattr(after, other) == getattr(before, other):
        one, other = other, one
    expected, found = f"another port than control.{one}", str(getattr(after, other))
    return SettingsError(origin, expected, found=found, key=f"control.{other}")


def ports_shared(control: Control) -> list[tuple[str, str]]:
    """Name each two services that are to listen on one port."""
    pairs = combinations(VSOCK_PORTS, 2)
    return [(a, b) for a, b in pairs if getattr(control, a) == getattr(control, b)]


def ways_moved(before: Control, after: Control) -> Iterator[str]:
    """Tell where the host finds from now on what it has found elsewhere."""
    if not after.vsock:
        return
    for key, text in zip(VSOCK_PORTS, _MOVED, strict=True):
        if getattr(after, key) != getattr(before, key):
            yield text.format(getattr(after, key))
