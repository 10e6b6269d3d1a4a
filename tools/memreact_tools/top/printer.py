"""Prints frames at intervals."""

from __future__ import annotations

import argparse
import os
import sys
import time

from memreact_tools.plain import plain
from memreact_tools.top.board import Board
from memreact_tools.top.model import GuestModel
from memreact_tools.top.plain import frame, sample

__all__ = ["print_frames"]

_DONE, _COULD_NOT = 0, 1
_WIDTH, _HEIGHT = 80, 24
_FIRST_S = 10.0
_SETTLED_S = 0.5


def print_frames(asked: argparse.Namespace, board: Board) -> int:
    """Print until there were enough; 1 where a guest did not answer in the last frame.

    Args:
        asked: What was typed.
        board: What is looked at; its source runs.
    """
    if board.player is not None:
        while board.player.behind:  # all that is before the moment that was asked for
            board.pump()
    board.view.turned = {(name, "") for name in board.source.guests}  # unfold each guest
    if board.player is None:
        _first(board, asked.delay)
    numbers = dict.fromkeys(board.source.guests, 0)
    printed = 0
    while True:
        if asked.json:
            _print_samples(board, numbers)
        else:
            _print_frame(board, everything=asked.batch, first=not printed)
        printed += 1
        if asked.n is not None and printed >= asked.n:
            break
        _wait(board, asked.delay)
    lost = [guest for guest in board.model.guests.values() if guest.state != "live"]
    for guest in lost:
        why = guest.why or "no answer yet"
        print(f"memreact-top: {plain(guest.name)}: {plain(why)}", file=sys.stderr)
    return _COULD_NOT if lost else _DONE


def _first(board: Board, delay_s: float) -> None:
    """Wait until each guest was seen in full, or cannot be; and for a second reading: for rates."""
    deadline = time.monotonic() + _FIRST_S
    while time.monotonic() < deadline and not all(map(_is_known, board.model.guests.values())):
        board.source.wait(_SETTLED_S)
        board.pump()
    board.look_at(board.places())
    until = min(deadline, time.monotonic() + 2 * delay_s + _SETTLED_S)
    while time.monotonic() < until and any(map(_has_no_rates, board.model.guests.values())):
        board.source.wait(_SETTLED_S)
        board.pump()


def _is_known(guest: GuestModel) -> bool:
    return guest.state == "lost" or (guest.state == "live" and guest.tree_version > 0)


def _has_no_rates(guest: GuestModel) -> bool:
    return guest.state == "live" and not guest.points


def _wait(board: Board, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        board.source.wait(left)
        board.pump()


def _print_frame(board: Board, *, everything: bool, first: bool) -> None:
    width, height = _terminal()
    if not first:
        print()
    for name in board.source.guests:
        board.focus = name
        for line in frame(board, width, None if everything else height):
            print(line)
    sys.stdout.flush()


def _terminal() -> tuple[int, int]:
    """Columns and lines: as the environment says, or the terminal, or as a VT100 has."""
    found = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    width, height = (int(text) if text.isascii() and text.isdigit() else 0 for text in found)
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        size = os.terminal_size((_WIDTH, _HEIGHT))
    return max(width or size.columns or _WIDTH, 40), max(height or size.lines or _HEIGHT, 10)


def _print_samples(board: Board, numbers: dict[str, int]) -> None:
    for name, guest in board.model.guests.items():
        print(sample(guest, numbers[name]))
        rows = [entry.row.number for entry in guest.log if entry.row is not None]
        numbers[name] = rows[-1] if rows else 0
    sys.stdout.flush()
