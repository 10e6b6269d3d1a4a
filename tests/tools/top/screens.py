"""The sample guest's screen, headless; `python -m tests.tools.top.screens` records pictures."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from memreact_tools.top.app import Top
from memreact_tools.top.board import Board
from memreact_tools.top.lines import UNICODE
from memreact_tools.top.palette import FULL, Palette
from memreact_tools.top.source import Source
from tests.tools.top.guests import Scripted, sample

__all__ = ["PICTURES", "SIZES", "picture", "press", "screen", "settle", "shown"]

PICTURES = Path(__file__).parent / "pictures"
SIZES = ((80, 24), (120, 36), (160, 48))
_WALL = 1_800_000_000.0


@asynccontextmanager
async def screen(
    source: Source | None = None,
    *,
    size: tuple[int, int] = (80, 24),
    palette: Palette = FULL,
) -> AsyncIterator[tuple[Top, Pilot[None]]]:
    """A screen of that size, once all that waits is shown."""
    board = Board(source or Scripted(sample()), UNICODE, wall=lambda: _WALL)
    top = Top(board, palette=palette)
    async with top.run_test(size=size) as pilot:
        await settle(top, pilot)
        yield top, pilot


async def settle(top: Top, pilot: Pilot[None]) -> None:
    """Let what came be shown, and what is arranged anew be arranged."""
    top._pump()
    await pilot.pause()
    top.paint()
    await pilot.pause()


async def press(top: Top, pilot: Pilot[None], *keys: str) -> None:
    """Press keys, one after the other."""
    await pilot.press(*keys)
    await settle(top, pilot)


def shown(top: Top) -> list[str]:
    """What is on the screen, from the top, without blanks at the ends."""
    panes = (top.top_pane, top.tree_pane, top.sheet_pane, top.log_pane, top.foot)
    lines: list[str] = []
    for pane in panes:
        if pane.display:
            lines += [strip.text.rstrip() for strip in pane._strips]
    return lines


async def picture(size: tuple[int, int]) -> str:
    """The screen of the sample guest."""
    async with screen(size=size) as (top, _):
        return "\n".join(shown(top)) + "\n"


def _record(sizes: Sequence[tuple[int, int]]) -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    PICTURES.mkdir(exist_ok=True)
    for width, height in sizes:
        text = asyncio.run(picture((width, height)))
        (PICTURES / f"{width}x{height}.txt").write_text(text)


if __name__ == "__main__":
    _record(SIZES)
