"""The command memreact-top."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from memreact_schemas.control import SOCKET
from memreact_schemas.recording import RecordingError
from memreact_tools.address import Address, AddressError, parse_address
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.guests import addresses_in
from memreact_tools.ctl.keys import Misused
from memreact_tools.plain import plain
from memreact_tools.top.board import Board
from memreact_tools.top.command_line import parser
from memreact_tools.top.lines import ASCII, UNICODE
from memreact_tools.top.live import Intervals, Live
from memreact_tools.top.source import Source

__all__ = ["main"]

_DONE, _COULD_NOT, _MISUSED = 0, 1, 2
_NO_TEXTUAL = (
    "the screen needs textual: apt install python3-textual, or pip install 'textual>=2.1.2'; "
    "--plain goes without"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Show what goes on until somebody leaves; 0 done, 1 could not, 2 misused."""
    asked = parser().parse_args(argv)
    try:
        source = _source(asked)
    except (AddressError, Misused, UnicodeDecodeError) as error:
        return _trouble(str(error), _MISUSED)
    except (OSError, RecordingError) as error:
        return _trouble(str(error), _COULD_NOT)
    glyphs = ASCII if asked.ascii or not _takes_unicode() else UNICODE
    board = Board(source, glyphs)
    board.view.sort, board.view.filter = asked.sort, asked.filter
    printed = asked.plain or asked.batch or asked.json
    try:
        return _print(asked, board) if printed or not _on_terminal() else _screen(asked, board)
    finally:
        source.close()


def _source(asked: argparse.Namespace) -> Source:
    if asked.replay is not None:
        return _recording(asked)
    addresses = _addresses(asked)
    if not addresses:
        raise AddressError(f"{asked.address_file} has no address")
    return Live(addresses, Intervals(read=asked.delay, tree=max(2 * asked.delay, 1.0)))


def _recording(asked: argparse.Namespace) -> Source:
    from memreact_tools.top.replay import Recording  # noqa: PLC0415  # seldom

    recording = Recording(asked.replay)
    recording.faster(asked.speed)
    recording.start()
    if asked.at is not None:
        recording.jump(parse_duration(asked.at))
    return recording


def _addresses(asked: argparse.Namespace) -> list[Address]:
    """Return the addresses that were named, else the daemon's of this machine."""
    port = asked.hybrid_port
    found = [parse_address(text, hybrid_port=port) for text in asked.address or ()]
    if asked.address_file is not None:
        found += addresses_in(asked.address_file, hybrid_port=port)
    elif not found:
        usual = os.environ.get("MEMREACT_ADDRESS", f"unix:{SOCKET}")
        found = [parse_address(usual, hybrid_port=port)]
    return list(dict.fromkeys(found))


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _screen(asked: argparse.Namespace, board: Board) -> int:
    try:
        from memreact_tools.top.app import Top  # noqa: PLC0415  # an optional part
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        return _trouble(_NO_TEXTUAL, _COULD_NOT)
    for name in ("COLUMNS", "LINES"):  # the terminal knows its size, also after it has changed
        os.environ.pop(name, None)
    app = Top(board, no_color=asked.no_color)
    _start(board)
    app.run()
    return app.return_code or _DONE


def _start(board: Board) -> None:
    """Begin; a recording stands already where it was asked to begin."""
    if board.player is None:
        board.source.start()


def _print(asked: argparse.Namespace, board: Board) -> int:
    from memreact_tools.top.printer import print_frames  # noqa: PLC0415  # the screen needs none

    _start(board)
    try:
        return print_frames(asked, board)
    except BrokenPipeError:  # as of `memreact-top --plain | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held
        return _DONE
    except KeyboardInterrupt:
        return _DONE


def _trouble(text: str, code: int) -> int:
    print(f"memreact-top: {plain(text)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
