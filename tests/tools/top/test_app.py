"""The screen: what keys do, what is painted, and how it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from memreact_tools.top.palette import ANSI, FULL, PLAIN, palette_for
from memreact_tools.top.source import Decided, Lost, Met, TreeSeen
from tests.tools.top.guests import Scripted, cgroup, decision, sample, status
from tests.tools.top.screens import PICTURES, SIZES, picture, press, screen, settle, shown

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are those of UTC, and colours are not forbidden."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def source_of(count: int) -> Scripted:
    source = Scripted()
    source.tell(Met())
    source.tell(TreeSeen(status([cgroup(f"/{n:04}", [(0, n)]) for n in range(count)])))
    return source


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_picture_is_the_one_that_was_recorded(size: tuple[int, int]) -> None:
    recorded = (PICTURES / f"{size[0]}x{size[1]}.txt").read_text()
    assert await picture(size) == recorded
    assert len(recorded.splitlines()) == size[1]
    assert max(map(len, recorded.splitlines())) <= size[0]


@pytest.mark.parametrize("palette", [FULL, ANSI, PLAIN], ids=["full", "sixteen", "none"])
async def test_every_palette_shows_the_same_text(palette: object) -> None:
    assert isinstance(palette, type(FULL))
    async with screen(palette=palette) as (top, _):
        assert "\n".join(shown(top)) + "\n" == (PICTURES / "80x24.txt").read_text()


async def test_a_screen_without_colours_has_none() -> None:
    async with screen(palette=PLAIN) as (top, _):
        for pane in (top.top_pane, top.tree_pane, top.log_pane, top.foot):
            for strip in pane._strips:
                assert all(
                    part.style is None or (part.style.color is None and part.style.bgcolor is None)
                    for part in strip
                )


@pytest.mark.parametrize(
    ("system", "without", "palette"),
    [
        ("truecolor", False, FULL),
        ("256", False, FULL),
        ("standard", False, ANSI),
        (None, False, PLAIN),
        ("truecolor", True, PLAIN),
    ],
)
async def test_the_palette_is_what_the_terminal_can(
    system: str | None, *, without: bool, palette: object
) -> None:
    assert palette_for(system, no_color=without) is palette


async def test_a_resize_shares_the_lines_out_anew() -> None:
    async with screen(size=(80, 24)) as (top, pilot):
        for width, height in ((160, 48), (40, 10), (20, 4), (80, 24)):
            await pilot.resize_terminal(width, height)
            await settle(top, pilot)
            assert all(len(line) <= width for line in shown(top))
        assert "\n".join(shown(top)) + "\n" == (PICTURES / "80x24.txt").read_text()


async def test_the_cursor_stays_on_its_cgroup_while_others_move() -> None:
    async with screen() as (top, pilot):
        await press(top, pilot, "down", "down")
        place = top.tree_pane.place()
        assert place is not None
        assert place.key[1] == "/demo.slice/batch"
        await press(top, pilot, "S")
        moved = top.tree_pane.place()
        assert moved is not None
        assert moved.key == place.key


async def test_folding_hides_what_is_below_and_left_goes_up() -> None:
    async with screen() as (top, pilot):
        await press(top, pilot, "down", "down", "left")
        place = top.tree_pane.place()
        assert place is not None
        assert place.key[1] == "/demo.slice"
        before = top.tree_pane.count()
        await press(top, pilot, "left")
        assert top.tree_pane.count() == before - 3
        assert any("▸ demo.slice +3" in line for line in shown(top))
        await press(top, pilot, "right")
        assert top.tree_pane.count() == before
        await press(top, pilot, "space", "space")
        assert top.tree_pane.count() == before


async def test_everything_folds_and_unfolds_at_once() -> None:
    async with screen() as (top, pilot):
        every = top.tree_pane.count()
        await press(top, pilot, "*")
        assert top.tree_pane.count() == 4
        await press(top, pilot, "*")
        assert top.tree_pane.count() == every


async def test_a_filter_is_typed_on_the_last_line() -> None:
    async with screen() as (top, pilot):
        await press(top, pilot, "/", *"redos", "backspace", "backspace", "i", "s")
        assert "filter  redis_" in shown(top)[-1]
        await press(top, pilot, "enter")
        assert top.tree_pane.count() == 3
        assert any("CGROUP with redis" in line for line in shown(top))
        await press(top, pilot, "/", "x", "escape")
        assert top.board.view.filter == "redis"
        await press(top, pilot, "escape")
        assert top.tree_pane.count() == 11


async def test_what_is_typed_can_be_cleared_and_is_bounded() -> None:
    async with screen() as (top, pilot):
        await press(top, pilot, "/", *"abc", "ctrl+u", *("q" * 5))
        assert top.foot.typed == "q" * 5
        assert top.is_running


async def test_the_order_goes_round() -> None:
    async with screen() as (top, pilot):
        seen = []
        for _ in range(7):
            await press(top, pilot, "s")
            seen.append(top.board.view.sort)
        assert seen == ["cold", "cold%", "evicted", "stall", "swap", "name", "use"]


async def test_enter_opens_all_of_a_cgroup_and_escape_closes_it() -> None:
    async with screen(size=(100, 40)) as (top, pilot):
        await press(top, pilot, "down", "down", "enter")
        text = "\n".join(shown(top))
        assert "memory.high" in text
        assert "min 0 s old" in text
        assert "stall over limit" in text
        await press(top, pilot, "down")
        assert "/demo.slice/cold" in "\n".join(shown(top))
        await press(top, pilot, "escape")
        assert "memory.high" not in "\n".join(shown(top))


async def test_the_cursor_in_the_log_opens_the_figures_behind_a_decision() -> None:
    async with screen() as (top, pilot):
        await press(top, pilot, "tab", "up", "enter")
        text = "\n".join(shown(top))
        assert "guest stall over limit" in text
        assert "131 ms" in text
        assert "10 %" in text
        await press(top, pilot, "up")
        assert "6144 pages, 24 MiB" in "\n".join(shown(top))
        await press(top, pilot, "tab")
        assert top.sheet_of == "cgroup"
        await press(top, pilot, "enter")
        assert top.sheet_of == ""


async def test_the_log_follows_until_the_cursor_is_moved_up_and_then_again() -> None:
    source = Scripted(sample())
    async with screen(source) as (top, pilot):
        await press(top, pilot, "tab", "up")
        held = top.log_pane.entry()
        source.tell(Decided(decision(93, verdict="end")))
        await settle(top, pilot)
        assert top.log_pane.entry() == held
        await press(top, pilot, "f")
        source.tell(Decided(decision(94, verdict="end")))
        await settle(top, pilot)
        assert top.log_pane.cursor == top.log_pane.count() - 1


async def test_what_left_something_alone_is_shown_where_somebody_asks() -> None:
    async with screen() as (top, pilot):
        assert "2 that left something alone are hidden (a)" in "\n".join(shown(top))
        assert top.log_pane.count() == 7
        await press(top, pilot, "tab", "up")
        held = top.log_pane.entry()
        await press(top, pilot, "a")
        assert top.log_pane.count() == 9
        assert top.log_pane.entry() == held
        assert "hidden" not in "\n".join(shown(top))


async def test_help_names_every_key_and_can_be_scrolled() -> None:
    async with screen() as (top, pilot):
        await press(top, pilot, "?")
        assert "this help" in "\n".join(shown(top))
        await press(top, pilot, "pagedown", "end")
        assert "gone there" in "\n".join(shown(top))
        await press(top, pilot, "?")
        assert "decisions: 96" in "\n".join(shown(top))


async def test_a_mouse_moves_the_cursor_too() -> None:
    async with screen() as (top, pilot):
        await pilot.click("#log", offset=(10, 2))
        await settle(top, pilot)
        assert top.keys_in is top.log_pane
        await pilot.click("#tree", offset=(10, 3))
        await settle(top, pilot)
        place = top.tree_pane.place()
        assert place is not None
        assert place.key[1] == "/demo.slice/batch"


async def test_only_what_is_seen_is_made_and_read() -> None:
    source = source_of(2000)
    async with screen(source) as (top, pilot):
        made: list[int] = []
        row = top.tree_pane.row

        def counted(at: int, width: int) -> object:
            made.append(at)
            return row(at, width)

        top.tree_pane.row = counted  # type: ignore[assignment, method-assign]  # counts
        await press(top, pilot, "end")
        assert len(made) < 200
        assert max(made) == 2000
        assert len(source.looked_at[source.names[0]]) < 24


async def test_only_lines_that_changed_are_painted() -> None:
    source = Scripted(sample())
    async with screen(source) as (top, pilot):
        painted: list[object] = []
        refresh = top.tree_pane.refresh

        def counted(*regions: object, **how: object) -> object:
            painted.extend(regions or ["all"])
            return refresh(*regions, **how)  # type: ignore[arg-type]  # as they came

        top.tree_pane.refresh = counted  # type: ignore[assignment, method-assign]  # counts
        source.tell(Decided(decision(93, verdict="end", path="/user.slice")))
        await settle(top, pilot)
        assert "all" not in painted
        assert 0 < len(painted) < 4


async def test_a_lost_guest_is_said_and_what_was_known_stays() -> None:
    source = Scripted(sample())
    async with screen(source) as (top, pilot):
        source.tell(Lost("nobody listens there"))
        await settle(top, pilot)
        text = "\n".join(shown(top))
        assert "no connection" in text
        assert "! nobody listens there" in text
        assert "batch" in text
        source.tell(Met())
        await settle(top, pilot)
        assert "connected again" in "\n".join(shown(top))


async def test_a_guest_that_was_never_there_is_said() -> None:
    source = Scripted()
    source.tell(Lost("there is no such socket"))
    async with screen(source) as (top, _):
        assert "there is no such socket" in "\n".join(shown(top))


async def test_several_guests_are_folded_lines_and_the_cursor_says_which_is_shown() -> None:
    names = ("vsock:3:1050", "vsock:4:1050")
    source = Scripted([*sample(names[0])], names=names)
    source.tell(Met(), names[1])
    source.tell(TreeSeen(status([cgroup("/only")], doing="held")), names[1])
    async with screen(source) as (top, pilot):
        assert top.tree_pane.count() == 2
        assert "resting" in shown(top)[0]
        await press(top, pilot, "down", "right")
        assert top.tree_pane.count() == 4
        assert "vsock:4:1050" in shown(top)[0]
        assert "held" in shown(top)[0]


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_keys_that_leave(key: str) -> None:
    async with screen() as (top, pilot):
        await pilot.press(key)
        await pilot.pause()
        assert not top.is_running
    assert top.return_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    async with screen() as (top, pilot):
        os.kill(os.getpid(), number)
        while top.is_running:
            await pilot.pause(0.01)
    assert top.return_code == 128 + number


async def test_what_a_source_raises_ends_it_with_a_trace() -> None:
    source = Scripted(sample())

    def broken() -> list[object]:
        raise ZeroDivisionError("planted")

    async def until_it_ends() -> None:
        async with screen(source) as (top, pilot):
            source.take = broken  # type: ignore[assignment, method-assign]  # planted
            while top.is_running:
                await pilot.pause(0.05)

    with pytest.raises(ZeroDivisionError):
        await until_it_ends()


async def test_a_key_that_means_nothing_does_nothing() -> None:
    async with screen() as (top, pilot):
        before = shown(top)
        await press(top, pilot, "z", "f9")
        assert shown(top) == before
