"""Parts of the screen, each made of lines: only what is seen is made, only what changed is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from memreact_tools.top.board import Board
from memreact_tools.top.lines import Line, Row
from memreact_tools.top.model import Entry
from memreact_tools.top.palette import Palette
from memreact_tools.top.tree import Place

__all__ = ["Foot", "ListPane", "LogPane", "Pane", "SheetPane", "TopPane", "TreePane"]

_WHEEL = 3


class Pane(Widget):
    """Lines, from the top.

    Args:
        board: What is looked at.
        palette: How it looks.
        name: For finding it again.
    """

    can_focus = False

    def __init__(self, board: Board, palette: Palette, name: str) -> None:
        super().__init__(id=name)
        self.board = board
        self.palette = palette
        self._strips: list[Strip] = []
        self._made: list[tuple[Line, str]] = []

    def lines(self, width: int, height: int) -> Iterator[tuple[Line, str]]:
        """Each line with what is laid over it, at most `height` of them."""
        raise NotImplementedError

    def sync(self) -> None:
        """Make the lines anew, and have those that changed painted."""
        width, height = self.size
        if not width or not height:
            return
        fresh = list(self.lines(width, height))[:height]
        fresh += [(Row(width, self.board.glyphs).done(), "")] * (height - len(fresh))
        before, self._made = self._made, fresh
        if len(before) != len(fresh) or not before or len(self._strips) != len(fresh):
            self._strips = [self.palette.strip(line, width, over) for line, over in fresh]
            self.refresh()
            return
        changed = [at for at, line in enumerate(fresh) if line != before[at]]
        for at in changed:
            line, over = fresh[at]
            self._strips[at] = self.palette.strip(line, width, over)
        if changed:
            self.refresh(*(Region(0, at, width, 1) for at in changed))

    def render_line(self, y: int) -> Strip:
        """What the terminal is given for one line."""
        if y < len(self._strips):
            return self._strips[y]
        width = self.size.width
        return self.palette.strip(Row(width, self.board.glyphs).done(), width)

    def on_resize(self) -> None:
        """The lines have another width, or are more or fewer."""
        self._made, self._strips = [], []
        self.sync()


class TopPane(Pane):
    """The panels above the tree; it is as high as they are."""

    def lines(self, width: int, height: int) -> Iterator[tuple[Line, str]]:
        """Make the panels; those that have no room are left out."""
        del height
        for line in self.board.panels(width, self.app.size.height):
            yield line, ""

    def fit_height(self) -> None:
        """Take as many lines as there are to show, but leave some for the rest."""
        size = self.app.size
        wanted = len(self.board.panels(size.width, size.height))
        self.styles.height = max(min(wanted, size.height - 6), 1)


class ListPane(Pane):
    """Lines below a heading, with a cursor; as many as there may be, only those seen are made."""

    class Chosen(Message):
        """Somebody clicked on a line."""

        def __init__(self, pane: ListPane, at: int) -> None:
            super().__init__()
            self.pane = pane
            self.at = at

    def __init__(self, board: Board, palette: Palette, name: str) -> None:
        super().__init__(board, palette, name)
        self.cursor = 0
        self.top = 0
        self.has_keys = False

    def count(self) -> int:
        """How many lines there are."""
        raise NotImplementedError

    def heading(self, width: int) -> Line:
        """What stands above them."""
        raise NotImplementedError

    def row(self, at: int, width: int) -> Line:
        """One line."""
        raise NotImplementedError

    @property
    def rows_seen(self) -> int:
        """How many lines have room."""
        return max(self.size.height - 1, 0)

    def move(self, by: int) -> None:
        """Move the cursor, as far as there are lines."""
        self.move_to(self.cursor + by)

    def move_to(self, at: int) -> None:
        """Put the cursor on a line, the last one if there are fewer."""
        self.cursor = max(min(at, self.count() - 1), 0)
        self._keep_seen()
        self.sync()

    def _keep_seen(self) -> None:
        """Scroll no more than is needed to see the cursor."""
        seen, count = max(self.rows_seen, 1), self.count()
        self.top = min(max(self.top, self.cursor - seen + 1), self.cursor)
        self.top = max(min(self.top, count - seen), 0)

    def lines(self, width: int, height: int) -> Iterator[tuple[Line, str]]:
        """The heading, and what is seen."""
        self.cursor = max(min(self.cursor, self.count() - 1), 0)
        self._keep_seen()
        yield self.heading(width), ""
        for at in range(self.top, min(self.top + height - 1, self.count())):
            over = ""
            if at == self.cursor:
                over = self.palette.cursor if self.has_keys else self.palette.quiet_cursor
            yield self.row(at, width), over

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Go down some lines."""
        event.stop()
        self.move(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Go up some lines."""
        event.stop()
        self.move(-_WHEEL)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor there."""
        at = self.top + event.y - 1
        if event.y and at < self.count():
            self.post_message(self.Chosen(self, at))


class TreePane(ListPane):
    """The cgroups."""

    def __init__(self, board: Board, palette: Palette, name: str) -> None:
        super().__init__(board, palette, name)
        self.key = ("", "/")

    def places(self) -> list[Place]:
        """All lines that are not folded away."""
        return self.board.places()

    def place(self) -> Place | None:
        """The one that the cursor is on."""
        places = self.places()
        return places[self.cursor] if self.cursor < len(places) else None

    def count(self) -> int:
        """How many there are."""
        return len(self.places())

    def move_to(self, at: int) -> None:
        """Put the cursor on a line; it stays on that cgroup wherever it goes."""
        places = self.places()
        if places:
            self.key = places[max(min(at, len(places) - 1), 0)].key
        super().move_to(at)

    def lines(self, width: int, height: int) -> Iterator[tuple[Line, str]]:
        """Those that are seen; their use is read from now on."""
        places = self.places()
        if not (self.cursor < len(places) and places[self.cursor].key == self.key):
            found = (at for at, place in enumerate(places) if place.key == self.key)
            self.cursor = next(found, self.cursor)
        yield from super().lines(width, height)
        self.board.look_at(places[self.top : self.top + height])
        if (place := self.place()) is not None:
            self.board.focus = place.guest

    def heading(self, width: int) -> Line:
        """What the columns are."""
        return self.board.head(width)

    def row(self, at: int, width: int) -> Line:
        """One cgroup."""
        return self.board.place(self.places()[at], width)


class LogPane(ListPane):
    """The decisions, the newest at the bottom; it follows them until the cursor is moved up."""

    def __init__(self, board: Board, palette: Palette, name: str) -> None:
        super().__init__(board, palette, name)
        self.follows = True
        self._on: Entry | None = None
        self._of = ""

    def entry(self) -> Entry | None:
        """The one that the cursor is on."""
        log = self.board.log()
        return log[min(self.cursor, len(log) - 1)] if log else None

    def count(self) -> int:
        """How many are shown."""
        return len(self.board.log())

    def move_to(self, at: int) -> None:
        """Put the cursor on a line; on the last one it follows again."""
        self.follows = at >= self.count() - 1
        self.cursor = max(min(at, self.count() - 1), 0)
        self._on = self.entry()
        super().move_to(at)

    def lines(self, width: int, height: int) -> Iterator[tuple[Line, str]]:
        """Those that are seen; the cursor stays on its decision while others come and go."""
        if self._of != self.board.focus:
            self._of, self.follows = self.board.focus, True
        log = self.board.log()
        if self.follows:
            self.cursor = len(log) - 1
        elif self._on is not None:
            found = (at for at in range(len(log) - 1, -1, -1) if log[at] is self._on)
            self.cursor = next(found, self.cursor)
        yield from super().lines(width, height)

    def heading(self, width: int) -> Line:
        """How many were made."""
        return self.board.log_title(width)

    def row(self, at: int, width: int) -> Line:
        """One decision."""
        return self.board.log_line(at, width)


class SheetPane(ListPane):
    """Something in full."""

    def __init__(self, board: Board, palette: Palette, name: str) -> None:
        super().__init__(board, palette, name)
        self.head: Line = ()
        self.body: list[Line] = []

    def show(self, head: Line, body: list[Line]) -> None:
        """Show other lines, made for this width."""
        self.head, self.body = head, body
        self.top = max(min(self.top, len(body) - self.rows_seen), 0)
        self.sync()

    def count(self) -> int:
        """How many lines there are."""
        return len(self.body)

    def heading(self, width: int) -> Line:
        """What it is about."""
        return self.head or Row(width, self.board.glyphs).done()

    def row(self, at: int, width: int) -> Line:
        """One line."""
        del width
        return self.body[at]

    def scroll_by(self, by: int) -> None:
        """Show what is below, or above."""
        self.top = max(min(self.top + by, self.count() - self.rows_seen), 0)
        self.sync()

    def lines(self, width: int, height: int) -> Iterator[tuple[Line, str]]:
        """What is seen; there is no cursor in it."""
        yield self.heading(width), ""
        for line in self.body[self.top : self.top + height - 1]:
            yield line, ""


class Foot(Pane):
    """The last line: what keys do, or what is being typed."""

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("?", "help"),
        ("q", "quit"),
        ("enter", "more"),
        ("tab", "log"),
        ("space", "fold"),
        ("s", "sort"),
        ("/", "filter"),
        ("e", "hide"),
    )
    PLAYER_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("?", "help"),
        ("q", "quit"),
        ("p", "play"),
        (".", "step"),
        ("+-", "speed"),
        ("[]", "10 s"),
        ("j", "jump"),
        ("tab", "log"),
    )

    def __init__(self, board: Board, palette: Palette, name: str) -> None:
        super().__init__(board, palette, name)
        self.prompt = ""
        self.typed = ""

    def lines(self, width: int, height: int) -> Iterator[tuple[Line, str]]:
        """The one line."""
        del height
        row = Row(width, self.board.glyphs)
        if self.prompt:
            row.put(f" {self.prompt} ", "prompt").put(f" {self.typed}_ ")
            yield row.to_right("enter takes it, escape does not ", "dim").done(), ""
            return
        row.put(" ", "foot")
        keys = self.KEYS if self.board.player is None else self.PLAYER_KEYS
        for key, text in keys:
            row.put(key, "footkey").put(f" {text}  ", "foot")
        yield row.field("", row.left, "foot").done(), ""
