"""Why no disk became swap, or none ceased to be: the answer for whoever asked, and its words."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["SwapTrouble"]


class SwapTrouble(Exception):  # noqa: N818  # reads as what happened
    """It was not done.

    Args:
        answer: What io.memreact answers with.
        text: The same in words, for Kata's client and the journal.
    """

    def __init__(self, answer: Struct, text: str) -> None:
        super().__init__(text)
        self.answer = answer
