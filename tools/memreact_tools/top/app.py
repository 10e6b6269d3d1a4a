"""memreact-top on a terminal; this file and its two neighbours alone know textual."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from textual import events
from textual.app import App, ComposeResult

from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.keys import Misused
from memreact_tools.top.board import Board
from memreact_tools.top.lines import title
from memreact_tools.top.palette import Palette, palette_for
from memreact_tools.top.panes import Foot, ListPane, LogPane, SheetPane, TopPane, TreePane
from memreact_tools.top.sheets import cgroup_sheet, decision_sheet, help_sheet
from memreact_tools.top.tree import SORTS

__all__ = ["Top"]

_PUMP_S = 0.1
_PAINT_EVERY = 5  # pumps without news: ages and the clock move on
_LOG_LEAST, _LOG_SHARE = 5, 4
_TREE_BESIDE_SHEET = 3
_TYPED_MAX = 200
_JUMP_S = 10.0
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Top(App[None]):
    """The screen, and what the keys do.

    Args:
        board: What is looked at; its source runs already.
        no_color: Show no colours, whatever the terminal can.
        palette: How it looks, where that is not to be found out.
    """

    ENABLE_COMMAND_PALETTE = False
    TITLE = "memreact-top"
    CSS = """
    Screen { layout: vertical; overflow: hidden; padding: 0; }
    Pane { width: 100%; height: 1fr; }
    TopPane { height: 1; }
    Foot { height: 1; }
    """

    def __init__(
        self, board: Board, *, no_color: bool = False, palette: Palette | None = None
    ) -> None:
        super().__init__()
        self.board = board
        chosen = palette or palette_for(
            self.console.color_system, no_color=no_color or self.no_color
        )
        # Whatever filters there are, a palette of the terminal's own colours goes through as it is.
        self.ansi_color = chosen.ansi
        self.palette = chosen
        self.top_pane = TopPane(board, chosen, "top")
        self.tree_pane = TreePane(board, chosen, "tree")
        self.sheet_pane = SheetPane(board, chosen, "sheet")
        self.log_pane = LogPane(board, chosen, "log")
        self.foot = Foot(board, chosen, "foot")
        self.keys_in: ListPane = self.tree_pane
        self.sheet_of = ""
        """What the sheet shows: "cgroup", "decision" or "help"; empty while it is closed."""
        self._idle_pumps = 0
        self._typed_to: Callable[[str], None] | None = None
        self._key_actions = self._key_table()

    def compose(self) -> ComposeResult:
        """From the top."""
        yield self.top_pane
        yield self.tree_pane
        yield self.sheet_pane
        yield self.log_pane
        yield self.foot

    def on_mount(self) -> None:
        """Begin to follow; whatever ends us, the terminal is put right first."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._end_by, number)
        base = self.palette.style("")
        if base.bgcolor is not None and base.bgcolor.triplet is not None:
            self.screen.styles.background = base.bgcolor.triplet.hex
        self.tree_pane.has_keys = True
        self._arrange()
        self.set_interval(_PUMP_S, self._pump)

    def on_unmount(self) -> None:
        """Let signals end the process again, as they do by themselves."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def _end_by(self, number: signal.Signals) -> None:
        self.exit(return_code=128 + number)

    def on_resize(self, event: events.Resize) -> None:
        """The parts share the lines out anew."""
        self._arrange(event.size.height)

    def _pump(self) -> None:
        """Take in what came; what is shown is made anew then, and now and then without."""
        news = self.board.pump()
        self._idle_pumps = 0 if news else self._idle_pumps + 1
        if news or self._idle_pumps % _PAINT_EVERY == 0:
            self.paint()

    def paint(self) -> None:
        """Show how things stand."""
        self.top_pane.fit_height()
        for pane in (self.tree_pane, self.top_pane, self.log_pane, self.foot):
            pane.sync()
        if self.sheet_of:
            self._fill_sheet()

    def _arrange(self, height: int | None = None) -> None:
        """Share the screen out: a sheet takes the place of the part that it is not about."""
        height = self.size.height if height is None else height
        log = max(_LOG_LEAST, height // _LOG_SHARE)
        self.tree_pane.display = self.sheet_of in ("", "cgroup")
        self.log_pane.display = self.sheet_of in ("", "decision")
        self.sheet_pane.display = bool(self.sheet_of)
        self.log_pane.styles.height = log
        beside = max(height // _TREE_BESIDE_SHEET - 2, 3)
        self.tree_pane.styles.height = beside if self.sheet_of else "1fr"
        self.call_after_refresh(self.paint)

    def _fill_sheet(self) -> None:
        width, glyphs, board = self.sheet_pane.size.width, self.board.glyphs, self.board
        if not width:
            return
        if self.sheet_of == "help":
            body = help_sheet(width, glyphs, plays=board.player is not None)
            self.sheet_pane.show(title("help", width, glyphs), body)
        elif self.sheet_of == "decision" and (entry := self.log_pane.entry()) is not None:
            body = decision_sheet(entry, board.guest, board.clock, width, glyphs)
            self.sheet_pane.show(title("the figures behind it", width, glyphs), body)
        elif self.sheet_of == "cgroup" and (place := self.tree_pane.place()) is not None:
            guest = board.model.guests[place.guest]
            now_us = board.source.now_us()
            body = cgroup_sheet(place.node, guest, now_us, width, glyphs) if place.node else []
            self.sheet_pane.show(title("all of it", width, glyphs), body)

    def _open(self, what: str) -> None:
        self.sheet_of = "" if self.sheet_of == what else what
        self.sheet_pane.top = 0
        self._arrange()

    async def on_event(self, event: events.Event) -> None:
        """Keys are ours, all of them; the rest is as it is."""
        if isinstance(event, events.Key):
            event.stop()
            self._key(event)
            return
        await super().on_event(event)

    def on_list_pane_chosen(self, message: ListPane.Chosen) -> None:
        """Somebody clicked on a line: the keys go there."""
        if message.pane is not self.sheet_pane:
            self._give_keys(message.pane)
            message.pane.move_to(message.at)
            self.paint()

    def _key(self, event: events.Key) -> None:
        if self._typed_to is not None:
            self._type(event)
        else:
            name = event.character if event.character and event.is_printable else event.key
            action = self._key_actions.get(name) or self._key_actions.get(event.key)
            if action is not None:
                action()
        self.paint()

    def _key_table(self) -> dict[str, Callable[[], object]]:
        moves: dict[str, Callable[[], object]] = {
            "up": lambda: self._move(-1),
            "k": lambda: self._move(-1),
            "down": lambda: self._move(1),
            "j": lambda: self._move(1),
            "pageup": lambda: self._move(-max(self._mover.rows_seen - 1, 1)),
            "pagedown": lambda: self._move(max(self._mover.rows_seen - 1, 1)),
            "home": lambda: self._move(-(1 << 30)),
            "end": lambda: self._move(1 << 30),
            "left": lambda: self._fold(closed=True),
            "right": lambda: self._fold(closed=False),
            "space": lambda: self._fold(closed=None),
            " ": lambda: self._fold(closed=None),
            "*": self._fold_all,
        }
        others: dict[str, Callable[[], object]] = {
            "q": self.exit,
            "ctrl+c": self.exit,
            "ctrl+q": self.exit,
            "ctrl+z": self.action_suspend_process,
            "?": lambda: self._open("help"),
            "h": lambda: self._open("help"),
            "f1": lambda: self._open("help"),
            "escape": self._shut,
            "enter": self._more,
            "tab": self._other_pane,
            "shift+tab": self._other_pane,
            "s": self._next_sort,
            "S": self._reverse,
            "/": lambda: self._ask("filter", self.board.view.filter, self._filter),
            "e": self._hide_empty,
            "f": self._follow,
            "a": self._every_decision,
        }
        return moves | others | (self._player_keys() if self.board.player is not None else {})

    def _player_keys(self) -> dict[str, Callable[[], object]]:
        player = self.board.player
        assert player is not None  # noqa: S101  # asked before
        return {
            "p": lambda: player.play(on=not player.playing),
            ".": player.step,
            "+": lambda: player.faster(2.0),
            "-": lambda: player.faster(0.5),
            "[": lambda: player.jump(player.position()[0] - _JUMP_S),
            "]": lambda: player.jump(player.position()[0] + _JUMP_S),
            "j": lambda: self._ask("jump to", "", self._jump),
        }

    @property
    def _mover(self) -> ListPane:
        return self.sheet_pane if self.sheet_of == "help" else self.keys_in

    def _move(self, by: int) -> None:
        if self.sheet_of == "help":
            self.sheet_pane.scroll_by(by)
        else:
            self.keys_in.move(by)

    def _fold(self, *, closed: bool | None) -> None:
        """Fold the line (True), unfold it (False), or whichever it is not (None)."""
        place = self.tree_pane.place()
        if place is None or self.keys_in is not self.tree_pane:
            return
        is_closed = place.folds == "closed"
        if place.folds and closed is not is_closed:
            self.board.turn(*place.key)
        elif closed:
            self._to_parent()

    def _to_parent(self) -> None:
        """Go to what the line is folded into."""
        places, at = self.tree_pane.places(), self.tree_pane.cursor
        depth = places[at].depth
        above = (each for each in range(at - 1, -1, -1) if places[each].depth < depth)
        self.tree_pane.move_to(next(above, at))

    def _fold_all(self) -> None:
        """Fold what is below the line, or unfold it where something of it is folded."""
        self.board.turn_all()

    def _shut(self) -> None:
        if self.sheet_of:
            self.sheet_of = ""
            self._arrange()
        elif self.board.view.filter:
            self._filter("")

    def _more(self) -> None:
        self._open("decision" if self.keys_in is self.log_pane else "cgroup")

    def _other_pane(self) -> None:
        self._give_keys(self.log_pane if self.keys_in is self.tree_pane else self.tree_pane)
        if self.sheet_of:
            self.sheet_of = "decision" if self.keys_in is self.log_pane else "cgroup"
            self._arrange()

    def _give_keys(self, pane: ListPane) -> None:
        self.keys_in = pane
        self.tree_pane.has_keys = pane is self.tree_pane
        self.log_pane.has_keys = pane is self.log_pane

    def _next_sort(self) -> None:
        names = list(SORTS)
        view = self.board.view
        view.sort = names[(names.index(view.sort) + 1) % len(names)]
        self.board.view_changed()

    def _reverse(self) -> None:
        self.board.view.reverse = not self.board.view.reverse
        self.board.view_changed()

    def _hide_empty(self) -> None:
        self.board.view.hide_empty = not self.board.view.hide_empty
        self.board.view_changed()

    def _every_decision(self) -> None:
        self.board.view.every_decision = not self.board.view.every_decision

    def _follow(self) -> None:
        self.log_pane.move_to(self.log_pane.count() - 1)

    def _filter(self, text: str) -> None:
        self.board.view.filter = text
        self.board.view_changed()

    def _jump(self, text: str) -> None:
        """Go to a time; what is none leaves it where it is."""
        if self.board.player is None:
            return
        with suppress(Misused):
            self.board.player.jump(0.0 if text.strip() == "0" else parse_duration(text))

    def _ask(self, prompt: str, typed: str, enter: Callable[[str], None]) -> None:
        """Let something be typed on the last line."""
        self.foot.prompt, self.foot.typed, self._typed_to = prompt, typed, enter

    def _type(self, event: events.Key) -> None:
        """Take a key into what is typed."""
        enter, foot = self._typed_to, self.foot
        if event.key in ("enter", "escape", "ctrl+c"):
            foot.prompt, self._typed_to = "", None
            if event.key == "enter" and enter is not None:
                enter(foot.typed)
        elif event.key in ("backspace", "ctrl+h"):
            foot.typed = foot.typed[:-1]
        elif event.key == "ctrl+u":
            foot.typed = ""
        elif event.character and event.is_printable and len(foot.typed) < _TYPED_MAX:
            foot.typed += event.character
