"""Amounts of memory and lengths of time, for people."""

from __future__ import annotations

__all__ = ["amount", "bounded", "span"]

_KIB = 1024
_NUMBER_MAX = 2**63 - 1  # of Varlink


def bounded(number: int) -> int:
    """Cut a guest's figure to what Varlink has: JSON has 400 digits too, and a float has not."""
    return max(-_NUMBER_MAX, min(number, _NUMBER_MAX))


def amount(size: int) -> str:
    """Write bytes in the unit that keeps it short."""
    number = float(bounded(size))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 10 * _KIB or unit == "GiB":
            break
        number /= _KIB
    return f"{number:.0f} {unit}"


def span(microseconds: int) -> str:
    """Write a length of time in its two largest units."""
    microseconds = max(bounded(microseconds), 0)
    seconds = microseconds // 1_000_000
    for size, unit, below, lesser in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // below} {lesser}"
    if seconds >= 60:  # noqa: PLR2004  # seconds in a minute
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds} s" if seconds else f"{microseconds // 1000} ms"
