"""Text from elsewhere, fit for a terminal."""

from __future__ import annotations

__all__ = ["plain"]


def plain(text: str) -> str:
    r"""Return a text with every character that a terminal may act on written out, as \x1b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
