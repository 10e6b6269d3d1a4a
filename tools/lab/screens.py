"""Pictures of memreact-top while a guest is at work, as SVG that needs nothing from elsewhere."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.errors import LabError
from lab.guest import Guest
from lab.hybrid import Bridge
from memreact_schemas.control import INTERFACE, PORT, HostHolds
from memreact_tools.address import UnixAddress, connect
from memreact_tools.ctl.varlink_client import call
from memreact_tools.top.app import Top
from memreact_tools.top.board import Board
from memreact_tools.top.cells import cells
from memreact_tools.top.lines import UNICODE
from memreact_tools.top.live import Intervals, Live
from memreact_tools.top.palette import FULL
from memreact_tools.top.replay import Recording

__all__ = ["Screens", "portable"]

_LIVE_SIZES = ((80, 24), (160, 48))
_REPLAY_SIZE = (120, 36)
_PUMP_S = 0.2
_PATIENCE_S = 20.0
_HELD_EVERY_S = 2.0
_BEFORE_END_S = 2.0

_TEXT = re.compile(
    r'<text class="([^"]+)" x="([^"]+)" y="([^"]+)" textLength="([^"]+)" ([^>]*)>([^<]*)</text>'
)
_NBSP = "&#160;"
_CHARACTER = re.compile(r"&#?\w+;|.")


class Screens:
    """Looks at a guest's memreact from outside, until its `with` block is left.

    Args:
        guest: Whose memreact runs, and hears the guest itself over vsock.
        folder: Where the pictures go.
    """

    def __init__(self, guest: Guest, folder: Path) -> None:
        self._guest = guest
        self._folder = folder
        self._bridge = Bridge(guest)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._pump, name="screens")

    def __enter__(self) -> Self:
        """Begin to look, to record, and to tell the guest what the host holds of it."""
        self._bridge.__enter__()
        self._address = UnixAddress(str(self._bridge.path), PORT)
        self._live = Live([self._address], Intervals())
        self._board = Board(self._live, UNICODE)
        self._file = self._bridge.path.with_name("recording.jsonl")
        command = ["-m", "memreact_tools.ctl", "--address", str(self._address)]
        self._recording = subprocess.Popen(
            [sys.executable, *command, "record", "-o", str(self._file), "--status-every", "2s"]
        )
        self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        self._stand_still()
        self._recording.terminate()
        self._recording.wait(_PATIENCE_S)
        self._live.close()
        self._bridge.__exit__(kind, error, trace)

    def take(self) -> list[Path]:
        """Write the pictures of now, and one of the recording a moment ago.

        Raises:
            LabError: There is nothing to see.
        """
        self._stand_still()
        if self._board.guest.status is None or not self._board.guest.log:
            raise LabError(f"memreact-top saw nothing: {self._board.guest.why}")
        self._folder.mkdir(parents=True, exist_ok=True)
        made = [self._write(size, "top", self._board) for size in _LIVE_SIZES]
        self._recording.terminate()
        self._recording.wait(_PATIENCE_S)
        recording = Recording(str(self._file))
        recording.jump(recording.position()[1] - _BEFORE_END_S)
        recording.play(on=False)
        board = Board(recording, UNICODE)
        while recording.behind:
            board.pump()
        made.append(self._write(_REPLAY_SIZE, "top-replay", board))
        recording.close()
        return made

    def _write(self, size: tuple[int, int], name: str, board: Board) -> Path:
        path = self._folder / f"{name}-{size[0]}x{size[1]}.svg"
        path.write_text(portable(asyncio.run(_picture(board, size))))
        return path

    def _stand_still(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def _pump(self) -> None:
        """On a thread of its own: the model grows, and the guest is told what the host holds."""
        told_at = 0.0
        while not self._ending.wait(_PUMP_S):
            self._board.pump()
            self._board.look_at(self._board.places())
            if time.monotonic() - told_at > _HELD_EVERY_S and self._board.guest.state == "live":
                told_at = time.monotonic()
                with connect(self._address, timeout_s=_PATIENCE_S) as stream:
                    call(
                        stream,
                        f"{INTERFACE}.HostHolds",
                        HostHolds(held_bytes=self._guest.held_bytes()),
                    )


async def _picture(board: Board, size: tuple[int, int]) -> str:
    top = Top(board, palette=FULL)
    async with top.run_test(size=size) as pilot:
        await pilot.pause(0.5)
        top.paint()
        await pilot.pause()
        return top.export_screenshot(title="memreact-top")


def portable(svg: str) -> str:
    """Take what textual draws, without fonts of elsewhere and without text that begins in blanks.

    Some programs leave such blanks out, and then all that is to its right lies wrong.
    """
    for unwanted in (r"<!--.*?-->", r"@font-face \{.*?\}", r"font-variant-east-asian:[^;]*;"):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "DejaVu Sans Mono")
    return (
        "\n".join(
            line.rstrip() for line in _TEXT.sub(_without_blanks, svg).splitlines() if line.strip()
        )
        + "\n"
    )


def _without_blanks(found: re.Match[str]) -> str:
    kind, x, y, length, more, text = found.groups()
    characters = _CHARACTER.findall(text)
    shown = [at for at, each in enumerate(characters) if each != _NBSP]
    if not shown:
        return ""
    width = float(length) / _cells(characters)
    left = _cells(characters[: shown[0]])
    kept = characters[shown[0] : shown[-1] + 1]
    return (
        f'<text class="{kind}" x="{float(x) + left * width:g}" y="{y}"'
        f' textLength="{_cells(kept) * width:g}" lengthAdjust="spacingAndGlyphs" {more}>'
        f"{''.join(kept)}</text>"
    )


def _cells(characters: Sequence[str]) -> int:
    return sum(cells(each) if len(each) == 1 else 1 for each in characters)
