"""Text from elsewhere, fit for a terminal."""

from __future__ import annotations

__all__ = ["plain", "plain_json"]

_BMP_MAX = 0xFFFF


def plain(text: str) -> str:
    r"""Return a text with every character that a terminal may act on written out, as \x1b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def plain_json(text: str) -> str:
    """Return JSON that means the same, and in which a terminal finds nothing to act on.

    Args:
        text: JSON without blanks other than spaces between its tokens.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    if ord(char) <= _BMP_MAX:
        return f"\\u{ord(char):04x}"
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in (0, 2))
