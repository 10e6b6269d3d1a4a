"""Lines are exactly as wide as they are to be, and hold nothing that a terminal acts on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from memreact_schemas.status import HoldStatus, Status
from memreact_tools.top.board import Board
from memreact_tools.top.cells import cells
from memreact_tools.top.lines import ASCII, UNICODE, Glyphs, Line, Row, bar, text_of, title
from memreact_tools.top.sheets import cgroup_sheet, decision_sheet, help_sheet
from memreact_tools.top.source import Decided, Lost, Met, StatusSeen, TreeSeen, Warned
from tests.effort import examples
from tests.tools.top.guests import NOW, Scripted, cgroup, decision, sample, status

ANYTHING = st.text(st.characters(codec=None), max_size=12)
PARTS = st.text(st.characters(codec=None, exclude_characters="/\0\n"), min_size=1, max_size=12)


def told(text: str, part: str) -> Status:
    hold = HoldStatus(since_us=NOW, until_us=NOW, by=text, reason=text)
    return status(
        [cgroup(f"/{part}", [(1, 2)]), cgroup(f"/{part}/{part}")],
        hold=hold,
        at_work=text,
        version=text,
        problem=text,
        unsaved=text,
    )


def lines_of(board: Board, width: int, height: int) -> list[Line]:
    """Everything that can be shown."""
    places = board.places()
    guest = board.guest
    lines = [*board.panels(width, height), board.head(width), board.log_title(width)]
    lines += [board.place(place, width) for place in places]
    board.view.every_decision = True
    lines += [board.log_line(at, width) for at in range(len(guest.log))]
    for place in places:
        if place.node is not None:
            lines += cgroup_sheet(place.node, guest, NOW, width, board.glyphs)
    for entry in guest.log:
        lines += decision_sheet(entry, guest, board.clock, width, board.glyphs)
    return [*lines, *help_sheet(width, board.glyphs, plays=True)]


@settings(max_examples=examples(60), deadline=None)
@given(
    ANYTHING,
    PARTS,
    st.integers(1, 170),
    st.integers(1, 60),
    st.sampled_from([UNICODE, ASCII]),
)
def test_whatever_a_guest_says_is_shown_as_text_alone(
    text: str, part: str, width: int, height: int, glyphs: Glyphs
) -> None:
    source = Scripted(names=(text,))
    row = decision(1, because=text, verdict=part, path=f"/{part}", words={text: part})
    updates = (
        Met(),
        StatusSeen(told(text, part)),
        TreeSeen(told(text, part)),
        Decided(row),
        Warned(text),
        Lost(text),
    )
    for update in updates:
        source.tell(update)
    board = Board(source, glyphs, wall=lambda: 0.0)
    board.view.filter = text[:1]
    board.pump()
    for line in lines_of(board, width, height):
        assert cells(text_of(line)) == width
        assert text_of(line).isprintable()


def test_ascii_is_ascii_where_all_names_are() -> None:
    board = Board(Scripted(sample()), ASCII, wall=lambda: 0.0)
    board.pump()
    for width, height in ((80, 24), (160, 48)):
        for line in lines_of(board, width, height):
            assert text_of(line).isascii()


def test_a_row_gives_what_has_no_room_no_room() -> None:
    row = Row(5, UNICODE).put("abc").field("de", 4, "x").put("more")
    assert row.done() == (("abc", ""), ("de", "x"))


def test_what_belongs_to_the_right_is_left_out_where_it_would_touch() -> None:
    assert text_of(Row(8, UNICODE).put("abc").to_right("de").done()) == "abc   de"
    assert text_of(Row(5, UNICODE).put("abc").to_right("de").done()) == "abc  "


def test_a_title_is_a_rule_as_long_as_the_line() -> None:
    assert text_of(title("a", 8, UNICODE)) == "── a ───"
    assert cells(text_of(title("much too long", 8, UNICODE))) == 8


@given(st.lists(st.integers(0, 1 << 50), min_size=1, max_size=9), st.integers(0, 60), st.booleans())
def test_a_bar_is_shared_out_to_the_last_cell(amounts: list[int], width: int, more: bool) -> None:  # noqa: FBT001  # drawn
    whole = sum(amounts)
    parts = bar([(each, "#", "") for each in amounts], whole, width)
    assert sum(len(text) for text, _ in parts) == (width if whole else 0)
    wider = bar([(each, "#", "") for each in amounts], whole * 2, width) if more else []
    assert sum(len(text) for text, _ in wider) <= width


def test_a_status_may_lack_all_that_may_be_lacking() -> None:
    source = Scripted()
    bare = replace(status(), pressure=None, ledger=None, next_turn_at_us=None, page_bytes=0)
    source.tell(StatusSeen(bare))
    board = Board(source, UNICODE, wall=lambda: 0.0)
    board.pump()
    shown = "\n".join(text_of(line) for line in board.panels(120, 40))
    assert "its cost: n/a" in shown
    assert "reported" in shown
