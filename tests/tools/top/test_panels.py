"""The upper part of the screen: how a guest is, and whatever is out of the usual."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from memreact_schemas.status import (
    CompactionStatus,
    HoldStatus,
    LedgerStatus,
    LedgerTally,
    PauseStatus,
    SqueezeStatus,
)
from memreact_tools.top.board import Board
from memreact_tools.top.lines import UNICODE, Line, text_of
from memreact_tools.top.source import Lost, Met, Read, StatusSeen, Update
from tests.tools.top.guests import MIB, NOW, SECOND, Scripted, reading, status

LEDGER = LedgerStatus(since_start=LedgerTally(), read_at_us=NOW, reported_bytes=9 * MIB)


def board_of(*updates: Update) -> Board:
    source = Scripted()
    for update in updates:
        source.tell(update)
    board = Board(source, UNICODE, wall=lambda: 0.0)
    board.pump()
    return board


def lines_of(board: Board, width: int = 120, height: int = 40) -> list[Line]:
    return board.panels(width, height)


def text(*updates: Update, width: int = 120, later_s: int = 0) -> str:
    board = board_of(*updates)
    assert isinstance(board.source, Scripted)
    board.source.at_us += later_s * SECOND
    return "\n".join(text_of(line) for line in lines_of(board, width))


def seen(**differs: object) -> tuple[Update, Update]:
    return Met(), StatusSeen(replace(status(), **differs))


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("huge", [10**400, -(10**400)], ids=["more", "less"])
def test_figures_without_measure_are_painted(huge: int, width: int) -> None:
    ledger = replace(LEDGER, reported_bytes=huge, total_bytes=huge, free_bytes=huge)
    stalled = replace(reading(NOW + SECOND), memory_stall_us=huge, free_bytes=huge)
    updates = (*seen(ledger=ledger), Read(reading(NOW)), Read(stalled))
    assert text(*updates, width=width)
    assert board_of(*updates).clock(huge)


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({"doing": "evicting", "at_work": "/shop"}, "evicting /shop"),
        ({"idle_because": "no swap"}, "! idle: no swap"),
        (
            {
                "next_turn_at_us": None,
                "doing": "paused",
                "pause": PauseStatus(
                    since_us=NOW - 5 * SECOND, because="guest_stall_over_limit", looks_at_us=NOW
                ),
            },
            "paused for 5 s: guest stall over limit",
        ),
        (
            {
                "hold": HoldStatus(
                    since_us=NOW, until_us=NOW + 60 * SECOND, by="root", reason="backup"
                )
            },
            "! held by root for another 1 min 0 s (backup)",
        ),
        (
            {
                "squeeze": SqueezeStatus(
                    by="host", scope="/", since_us=NOW, deadline_us=NOW, evicted_bytes=3 * MIB
                )
            },
            "! squeezed by host: 3.0M evicted",
        ),
        ({"problem": "line 3"}, "! a change of settings was not taken: line 3"),
        ({"unsaved": "disk full"}, "! a restart would lose what was pushed last: disk full"),
        (
            {
                "ledger": LedgerStatus(
                    since_start=LedgerTally(),
                    reporting=False,
                    not_reporting_because="below_watermark",
                )
            },
            "! evictions of the last hour led to nothing reported: below watermark",
        ),
        ({"next_turn_at_us": NOW - 1}, "a turn is due"),
        (
            {"compaction": CompactionStatus(runs=2, gained_bytes=90 * MIB)},
            "2 compactions for 90M",
        ),
    ],
)
def test_what_is_out_of_the_usual_is_said(differs: dict[str, object], words: str) -> None:
    assert words in text(*seen(**differs))


def test_before_the_first_answer_it_says_so() -> None:
    assert "connecting" in text()
    assert "connected" in text(Met())
    assert "no connection" in text(Lost("nobody listens"))


def test_a_guest_that_says_nothing_is_said_to_be_silent() -> None:
    assert "no answer for 9 s" in text(*seen(), later_s=9)


def test_what_the_host_was_told_a_while_ago_says_when() -> None:
    updates = (Met(), StatusSeen(status(ledger=LEDGER)))
    assert "ago" not in text(*updates, later_s=2)
    assert "40s ago" in text(*updates, later_s=40)
    assert "40s ago" in text(*updates, later_s=40, width=80)


def test_a_host_that_says_nothing_is_told_apart_from_one_that_holds_all() -> None:
    assert "the host does not tell" in text(Met(), StatusSeen(status(ledger=LEDGER)))


def test_without_psi_and_without_swap_it_says_so() -> None:
    bare = reading(swap=(), memory_stall_us=None, io_stall_us=None)
    assert "n/a, no PSI here" in text(*seen(), Read(bare))
    assert "no swap" in text(*seen(), Read(bare), width=80)


@pytest.mark.parametrize(
    ("state", "style"),
    [("resting", "good"), ("evicting", "busy"), ("paused", "bad"), ("held", "warn")],
)
def test_a_state_is_told_by_its_style_and_by_its_word(state: str, style: str) -> None:
    headline = lines_of(board_of(*seen(doing=state)))[0]
    assert (state, style) in headline
