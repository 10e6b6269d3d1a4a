"""Changes of the ways in: nobody closes the one by which they ask, and what moves is told."""

from __future__ import annotations

from collections.abc import Iterator

from memreact.settings import SettingsError
from memreact_schemas.config import Config, Control, overlay

__all__ = ["check_ways", "ways_moved"]


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
    by_push = pushed.varlink_port is not None or pushed.ttrpc_port is not None
    if by_push and _same_port(after) and not _same_port(before):
        key = "ttrpc_port" if after.ttrpc_port != before.ttrpc_port else "varlink_port"
        other = "varlink_port" if key == "ttrpc_port" else "ttrpc_port"
        expected = f"another port than control.{other}"
        raise SettingsError(origin, expected, found=str(after.ttrpc_port), key=f"control.{key}")


def _same_port(control: Control) -> bool:
    return control.varlink_port == control.ttrpc_port


def ways_moved(before: Control, after: Control) -> Iterator[str]:
    """Tell where the host finds from now on what it has found elsewhere."""
    if not after.vsock:
        return
    if after.varlink_port != before.varlink_port:
        yield f"the host reaches this guest at port {after.varlink_port} from now on"
    if after.ttrpc_port != before.ttrpc_port:
        yield f"ttRPC is spoken at port {after.ttrpc_port} from now on"
