r"""Text as a terminal's cells: what it may act on is written out, and widths are known.

Names of cgroups may hold any byte but NUL, newline and slash. What a terminal acts on, and what
takes no cell of its own (marks that combine, joiners, changes of direction), is shown as an escape,
as \x1b; what is left takes one cell, or two where Unicode calls it wide.

Source: Unicode Standard Annex 11, "East Asian Width"
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["cells", "fit", "safe", "tail"]

_CUT = "…"
_NO_CELL = {"Mn", "Me", "Mc", "Cf"}
_JAMO = range(0x1160, 0x1200)  # Hangul's vowels and finals join the letter before them
_WIDE = {"W", "F"}


def safe(text: str) -> str:
    r"""Return a text of which every character takes one cell or two; the others as \x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


@lru_cache(maxsize=4096)
def _shown(char: str) -> str:
    known = char.isprintable() and char.isascii()
    if known or (char.isprintable() and _has_cells(char)):
        return char
    return ascii(char)[1:-1]


def _has_cells(char: str) -> bool:
    return unicodedata.category(char) not in _NO_CELL and ord(char) not in _JAMO


def cells(text: str) -> int:
    """How many cells a safe text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


@lru_cache(maxsize=4096)
def _width(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1


def fit(text: str, width: int, *, right: bool = False, cut: str = _CUT) -> str:
    """Make a text take exactly so many cells: cut short, or filled up with blanks.

    Args:
        text: Anything; it is made safe.
        width: In cells.
        right: Fill up on the left.
        cut: Stands where something was left out, one cell.
    """
    text = safe(text)
    size = cells(text)
    if size > width:
        text = _cut(text, width, cut)
        size = cells(text)
    blanks = " " * (width - size)
    return blanks + text if right else text + blanks


def tail(text: str, width: int, cut: str = _CUT) -> str:
    """The end of a text, in so many cells at the most: of a path that tells more than its begin."""
    text = safe(text)
    if cells(text) <= width:
        return text
    left, kept = width - 1, []
    for char in reversed(text):
        left -= _width(char)
        if left < 0:
            break
        kept.append(char)
    return cut + "".join(reversed(kept)) if width > 0 else ""


def _cut(text: str, width: int, cut: str) -> str:
    if width < 1:
        return ""
    left, kept = width - 1, []
    for char in text:
        left -= _width(char)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept) + cut
