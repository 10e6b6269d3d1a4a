"""Lengths of time as people type them."""

from __future__ import annotations

import re

from memreact_tools.ctl.keys import Misused

__all__ = ["parse_duration"]

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "m": 60.0,
    "min": 60.0,
    "mins": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([a-z]*)", re.ASCII)
_LONGEST_S = 1e9  # sockets take no more than 2^63 nanoseconds


def parse_duration(text: str) -> float:
    """Read `5s`, `100ms`, `1m 30s`, or a bare number of seconds; returns seconds, more than 0.

    Raises:
        Misused: It is something else.
    """
    at, seconds = 0, 0.0
    while found := _PART.match(text, at):
        if found[2] not in _UNITS:
            break
        seconds += float(found[1]) * _UNITS[found[2]]
        at = found.end()
    if text[at:].strip() or not 0 < seconds <= _LONGEST_S:
        raise Misused(f"{text!r} is no length of time, such as 5s, 100ms or 1m 30s")
    return seconds
