"""What goes wrong with guest swap; each message is for people."""

# ruff: noqa: N818  # the names say what happened

from __future__ import annotations

__all__ = ["GuestKeeps", "GuestSilent", "NoRoom", "NoSwapFile", "StillHeld", "SwapTrouble"]


class SwapTrouble(Exception):
    """It could not be done, and what was begun was taken back."""


class NoRoom(SwapTrouble):
    """The file system has too little room for one more file."""


class NoSwapFile(SwapTrouble):
    """No swap file may be called so."""


class GuestSilent(SwapTrouble):
    """Nobody in the guest answers who could take a disk into use or give it back."""


class GuestKeeps(SwapTrouble):
    """The guest goes on swapping to a disk: it has no memory for it, or would be hurt."""


class StillHeld(SwapTrouble):
    """The guest was asked to let a disk go and has not done so; it may be asked again."""
