"""What goes wrong with guest swap; each message is for people."""

# ruff: noqa: N818  # the names say what happened

from __future__ import annotations

__all__ = ["NoRoom", "StillHeld", "SwapTrouble"]


class SwapTrouble(Exception):
    """It could not be done, and what was begun was taken back."""


class NoRoom(SwapTrouble):
    """The file system has too little room for one more file."""


class StillHeld(SwapTrouble):
    """The guest was asked to let a disk go and has not done so; it may be asked again."""
