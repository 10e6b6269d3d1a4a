"""What is looked at: the model of a source, the view of its tree, and what is made of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from memreact_tools.ctl.amounts import bounded
from memreact_tools.top.lines import Glyphs, Line
from memreact_tools.top.model import Entry, GuestModel, Model
from memreact_tools.top.panels import Scene, panels
from memreact_tools.top.source import Player, Source
from memreact_tools.top.table import (
    log_line,
    log_title,
    page_bytes_of,
    place_line,
    table_head,
)
from memreact_tools.top.tree import Node, Place, View, forest_of, places_of

__all__ = ["Board"]

_USE_CHANGES = {"use", "stall", "swap"}


class Board:
    """Pumps a source into a model, and says what the lines of a screen are.

    Args:
        source: Where updates come from; the caller starts and closes it.
        glyphs: What to draw with.
        wall: Reads the time of day, in seconds.
    """

    def __init__(
        self, source: Source, glyphs: Glyphs, wall: Callable[[], float] = time.time
    ) -> None:
        self.source = source
        self.glyphs = glyphs
        self.view = View()
        self.model = Model(source.guests, recorded=isinstance(source, Player))
        self.focus = source.guests[0]
        """The guest that the panels and the log are about."""
        self._wall = wall
        self._forests: dict[str, Node | None] = {}
        self._versions: dict[str, int] = {}
        self._places: list[Place] = []
        self._stale = True
        self._log: list[Entry] = []
        self._log_key = ("", -1, False)
        self._generation = source.generation if isinstance(source, Player) else 0

    @property
    def guest(self) -> GuestModel:
        """The one in focus."""
        return self.model.guests[self.focus]

    @property
    def player(self) -> Player | None:
        """What plays, if a recording does."""
        return self.source if isinstance(self.source, Player) else None

    def pump(self) -> bool:
        """Take in what came; returns whether anything did."""
        player = self.player
        updates = self.source.take()
        if player is not None and player.generation != self._generation:
            self._generation = player.generation
            self.model = Model(self.source.guests, recorded=True)
            self._versions.clear()
            self._log_key = ("", -1, False)
            self._stale = True
        self.model.take(updates)
        if updates and self.view.sort in _USE_CHANGES:
            self._stale = True
        return bool(updates)

    def turn(self, guest: str, path: str) -> None:
        """Fold what is open, or unfold what is closed."""
        self.view.turned ^= {(guest, path)}
        self._stale = True

    def turn_all(self) -> None:
        """Unfold everything, or fold it where nothing is folded."""
        closed = {place.key for place in self.places() if place.folds == "closed"}
        if closed:
            while closed:  # what was hidden may be folded as well
                self.view.turned ^= closed
                self._stale = True
                closed = {place.key for place in self.places() if place.folds == "closed"}
            return
        for place in self.places():
            if place.folds == "open" and place.depth:
                self.view.turned ^= {place.key}
        self._stale = True

    def view_changed(self) -> None:
        """The view is another: places are made anew."""
        self._stale = True

    def places(self) -> list[Place]:
        """The lines of the tree, made anew only where something has changed."""
        for name, guest in self.model.guests.items():
            if self._versions.get(name) != guest.tree_version:
                self._versions[name] = guest.tree_version
                self._forests[name] = forest_of(guest.cgroups)
                self._stale = True
        if self._stale:
            self._stale = False
            self._places = places_of(self.model.guests, self._forests, self.view)
        return self._places

    def look_at(self, places: list[Place]) -> None:
        """Have the use of what is seen read from now on."""
        for name in self.source.guests:
            paths = [p.node.path for p in places if p.guest == name and p.node is not None]
            self.source.look_at(name, paths)

    def clock(self, at_us: int) -> str:
        """A moment as the time of day, or as time since a recording's begin."""
        ago = bounded(self.source.now_us() - at_us) / 1e6
        if self.player is not None:
            return _position(self.player.position()[0] - ago)
        return time.strftime("%H:%M:%S", time.localtime(self._wall() - ago))

    def panels(self, width: int, height: int) -> list[Line]:
        """What is above the tree."""
        note = self.focus if len(self.model.guests) > 1 else ""
        now_us = self.source.now_us()
        scene = Scene(width, height, now_us, self.glyphs, self._when(now_us), note)
        return panels(self.guest, scene)

    def _when(self, now_us: int) -> str:
        player = self.player
        if player is None:
            return self.clock(now_us)
        at, of = player.position()
        how = f"x{player.speed:g}" if player.playing else "stands still"
        return f"{_position(at)} of {_position(of)}, {how}"

    def head(self, width: int) -> Line:
        """The headings of the tree."""
        return table_head(self.view, width, self.glyphs)

    def place(self, place: Place, width: int) -> Line:
        """A line of the tree."""
        models = self.model.guests
        return place_line(place, models, self.source.now_us(), width, self.glyphs)

    def log(self) -> Sequence[Entry]:
        """The decisions that are shown, the oldest first; remarks of ours among them."""
        guest, every = self.guest, self.view.every_decision
        key = guest.name, guest.log_version, every
        if self._log_key != key:
            self._log_key = key
            self._log = [entry for entry in guest.log if every or not _is_left_alone(entry)]
        return self._log

    def log_title(self, width: int) -> Line:
        """The heading of the log."""
        hidden = len(self.guest.log) - len(self.log())
        many = len(self.model.guests) > 1
        return log_title(self.guest, width, self.glyphs, many=many, hidden=hidden)

    def log_line(self, at: int, width: int) -> Line:
        """A line of the log, counted from the oldest."""
        size = page_bytes_of(self.guest)
        return log_line(self.log()[at], self.clock, size, width, self.glyphs)


def _is_left_alone(entry: Entry) -> bool:
    """Most decisions of a turn are that nothing is done; the tree tells why of each cgroup."""
    return entry.row is not None and entry.row.verdict == "leave"


def _position(seconds: float) -> str:
    whole = int(max(seconds, 0))
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
