"""What a squeeze is to reach, as people type it."""

from __future__ import annotations

import re

from memreact_tools.ctl.keys import Misused

__all__ = ["parse_target"]

_SIZE = re.compile(r"([0-9]{1,18})([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_PERCENT = re.compile(r"([0-9]{1,3})%", re.ASCII)
_WHOLE = 100


def parse_target(text: str) -> dict[str, int | bool]:
    """Read `300M`, `60%` or `cold`; returns the parameter of Squeeze that says it.

    Raises:
        Misused: It is something else.
    """
    if text == "cold":
        return {"cold": True}
    percent, size = _PERCENT.fullmatch(text), _SIZE.fullmatch(text)
    if percent is not None and int(percent[1]) <= _WHOLE:
        return {"held_percent": int(percent[1])}
    if size is not None and int(size[1]):
        return {"target_bytes": int(size[1]) << _SHIFT[size[2].lower()]}
    raise Misused(f"{text!r} is no target, such as 300M, 60% or cold")
