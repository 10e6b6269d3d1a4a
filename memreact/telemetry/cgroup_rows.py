"""The rows of a status of all cgroups, as they are written, kept until something in one changes.

A row is made of one memcg, which is frozen: the very same one gives the very same row, but for what
moves with the clock. Ages and, where a turn is late, the moment of the next eviction grow as fast
as the clock does, so they are filled in each time; everything else holds until a moment that is
known when the row is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from operator import is_
from typing import NamedTuple, cast

import msgspec
from msgspec import Raw

from memreact.events import CapabilitiesRead, Generation, Instant, MemcgView
from memreact.policy.generations import cold_holds_us, periods_hold_us
from memreact.policy.plan import own_stalls
from memreact.policy.state import Hold, Memcg, State
from memreact.rules import MemcgRules, Rules
from memreact.telemetry.possible import eviction_order, is_late, nodes_of, soonest
from memreact.telemetry.status import Teller
from memreact.value import Struct, replace
from memreact_schemas.status import CgroupStatus, NextEviction, Status

__all__ = ["KEPT_MAX", "CgroupRows", "Telling"]

KEPT_MAX = 4096
"""Rows that are kept at the most, of about 1.5 KiB each; those beyond are made each time."""

# A text has no quotes that are not escaped, so these stand where the schema has them, but for a
# figure of a decision that might have the name of an age.
_AGE, _NEXT_AT, _PLACE = b'"age_us":', b'"next_eviction":{"at_us":', b":%d,"
_ENCODER = msgspec.json.Encoder()


class _Made(Struct, frozen=True, gc=False):
    """A row, and until when it holds.

    Args:
        memcg: What it was made of.
        stall_us: Its own stall then.
        at: When it was made.
        until: Time alone changes nothing else before.
        pattern: The row with places for what moves with the clock; no pattern but the row where
            there is nothing such.
        moving: What stood there.
        next_eviction: When something of it can go.
        late: Whether that moves too.
        order: Of all evictions the smallest comes first.
    """

    memcg: Memcg
    stall_us: tuple[int, int] | None
    at: Instant
    until: Instant
    pattern: bytes
    moving: tuple[int, ...]
    next_eviction: NextEviction
    late: bool
    order: tuple[int, int]

    def row(self, now: Instant) -> Raw:
        if not self.moving:
            return Raw(self.pattern)
        by_us = now - self.at
        return Raw(self.pattern % tuple([each + by_us for each in self.moving]))

    def order_at(self, now: Instant) -> tuple[int, int]:
        if not self._moves:
            return self.order
        rank, at_us = self.order
        return rank, at_us + now - self.at

    def next_at(self, now: Instant) -> NextEviction:
        found = self.next_eviction
        return replace(found, at_us=self.order_at(now)[1]) if self._moves else found

    @property
    def _moves(self) -> bool:
        return self.late and self.next_eviction.at_us is not None


class _Ground(NamedTuple):
    """What every row was made by, besides its memcg."""

    guest: CapabilitiesRead | None
    hold: Hold | None
    rules: Rules
    due: tuple[tuple[int, Instant], ...]

    def is_of(self, other: _Ground) -> bool:
        """Whether it is the very same: rules are too many to compare."""
        same = self.guest is other.guest and self.hold is other.hold and self.rules is other.rules
        return same and self.due == other.due


class CgroupRows:
    """Makes the rows, and keeps them for the next time until told to forget them."""

    def __init__(self) -> None:
        self.forget()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def forget(self) -> None:
        """Keep none."""
        self._ground: _Ground | None = None
        self._kept: dict[str, _Made] = {}
        self._views: tuple[MemcgView, ...] = ()
        self._stalls: dict[str, tuple[int, int]] = {}

    def tell(self, state: State, rules: Rules, now: Instant, *, keep: bool) -> Telling:
        """Tell of all cgroups of this state, some of them at a time.

        Args:
            state: As it is now.
            rules: What is in force.
            now: The moment.
            keep: Whether somebody will ask again soon, so that rows are worth their memory.
        """
        if not keep:
            self.forget()
            return Telling(_Maker(state, rules, now, own_stalls(_views_of(state))), {}, keep=False)
        ground = _Ground(state.guest, state.hold, rules, tuple(state.due.items()))
        if self._ground is None or not ground.is_of(self._ground):
            self._ground, self._kept = ground, {}
        if len(self._kept) > len(state.memcgs):
            self._kept = {path: self._kept[path] for path in state.memcgs if path in self._kept}
        stalls = self._stalls_of(state)
        return Telling(_Maker(state, rules, now, stalls), self._kept, keep=True)

    def _stalls_of(self, state: State) -> dict[str, tuple[int, int]]:
        """Each one's own stall: it depends on those below it, and changes with surveys alone."""
        views = _views_of(state)
        if len(views) != len(self._views) or not all(map(is_, views, self._views)):
            self._views, self._stalls = views, own_stalls(views)
        return self._stalls


def _views_of(state: State) -> tuple[MemcgView, ...]:
    return tuple([memcg.view for memcg in state.memcgs.values() if memcg.view])


class Telling:
    """One status of all cgroups while it is made.

    Args:
        maker: Makes rows.
        kept: Those of before, by path; what is made is kept there too.
        keep: Whether it is.
    """

    def __init__(self, maker: _Maker, kept: dict[str, _Made], *, keep: bool) -> None:
        self._maker = maker
        self._kept = kept
        self._most = KEPT_MAX if keep else 0
        self._paths: Iterator[str] = iter(sorted(maker.state.memcgs))
        self._first: _Made | None = None
        self.rows: list[Raw] = []
        """Those that were made, by path."""

    @property
    def next_eviction(self) -> NextEviction:
        """The soonest of them."""
        return soonest(() if self._first is None else (self._first.next_at(self._maker.now),))

    def within(self, brief: Status) -> Status:
        """That status with the rows in it: to an encoder one that is written is as good."""
        return replace(brief, cgroups=cast(tuple[CgroupStatus, ...], tuple(self.rows)))

    def pieces(self, most: int) -> Iterator[None]:
        """Make all rows, so many at a time."""
        now = self._maker.now
        while made := [self._made(path) for path in islice(self._paths, most)]:
            self.rows += [each.row(now) for each in made]
            first = made if self._first is None else [self._first, *made]
            self._first = min(first, key=lambda each: each.order_at(now))
            yield

    def _made(self, path: str) -> _Made:
        kept = self._kept.get(path)
        if kept is not None and self._maker.holds(kept, path):
            return kept
        keep = kept is not None or len(self._kept) < self._most
        made = self._maker.make(path, keep=keep)
        if keep:
            self._kept[path] = made
        return made


class _Maker:
    """Makes the rows of one state at one moment."""

    def __init__(
        self, state: State, rules: Rules, now: Instant, stalls: dict[str, tuple[int, int]]
    ) -> None:
        self.state = state
        self.now = now
        self._stalls = stalls
        self._teller = Teller(state, rules, now, stalls)
        moments = (*state.due.values(), *(() if state.hold is None else (state.hold.until,)))
        self._until = min((each for each in moments if each > now), default=now)

    def holds(self, made: _Made, path: str) -> bool:
        """Whether a row says what would be said now."""
        same = made.memcg is self.state.memcgs[path] and made.at <= self.now < made.until
        return same and made.stall_us == self._stalls.get(path)

    def make(self, path: str, *, keep: bool) -> _Made:
        """Make the row of a memcg; one that is not kept needs no pattern."""
        memcg = self.state.memcgs[path]
        rules = self._teller.rules_of(memcg)
        told = self._teller.cgroup(memcg, found=rules)
        row = _ENCODER.encode(told)
        late, until = self._while(memcg, rules) if keep else (False, self.now)
        found = _pattern_of(row, told, late=late) if keep else None
        pattern, moving, until = (*found, until) if found else (row, (), self.now)
        return _Made(
            memcg=memcg,
            stall_us=self._stalls.get(path),
            at=self.now,
            until=until,
            pattern=pattern,
            moving=moving,
            next_eviction=told.next_eviction,
            late=late,
            order=eviction_order(told.next_eviction),
        )

    def _while(self, memcg: Memcg, rules: list[MemcgRules]) -> tuple[bool, Instant]:
        """Whether its next eviction moves with the clock, and for how long nothing else does."""
        now, nodes = self.now, nodes_of(memcg)
        late = {is_late(self.state, memcg, mine, now) for mine in rules}
        if len(late) > 1:  # which of its nodes is the first may change at any moment
            return False, now
        moves = late.pop()
        holds = _all_holds_us if moves else _cold_holds_us
        moments = [
            now + holds(node.generations if node else (), now - memcg.viewed_at, mine)
            for node, mine in zip(nodes, rules, strict=True)
        ]
        moments += [each for each in (memcg.away_until, self._until) if each > now]
        return moves, Instant(min(moments))


def _cold_holds_us(generations: tuple[Generation, ...], since_us: int, mine: MemcgRules) -> int:
    """Between two turns: the next one's moment is known, and with it what it will find."""
    return cold_holds_us(generations, since_us, mine.aging_count_min * mine.period_us)


def _all_holds_us(generations: tuple[Generation, ...], since_us: int, mine: MemcgRules) -> int:
    return periods_hold_us(generations, since_us, mine.period_us, mine.aging_count_min)


def _pattern_of(
    row: bytes, told: CgroupStatus, *, late: bool
) -> tuple[bytes, tuple[int, ...]] | None:
    """A row with places for the numbers that move, and those; None where one cannot be told."""
    moving: list[int] = []
    for node in told.nodes:
        moving += [generation.age_us for generation in node.generations]
        if late and node.next_eviction.at_us is not None:
            moving.append(node.next_eviction.at_us)
    if late and told.next_eviction.at_us is not None:
        moving.append(told.next_eviction.at_us)
    if not moving:
        return row, ()
    pattern = _opened(_AGE, row.replace(b"%", b"%%") if b"%" in row else row)
    if late:
        pattern = _opened(_NEXT_AT, pattern)
    # A figure of the last decision that has the name of an age is one place too many.
    return (pattern, tuple(moving)) if pattern.count(_PLACE) == len(moving) else None


def _opened(mark: bytes, row: bytes) -> bytes:
    """The row with a place for each number behind a mark; behind some there is none."""
    head, *others = row.split(mark)
    filled = [
        each if each.startswith(b"null") else b"%d" + each[each.index(b",") :] for each in others
    ]
    return mark.join([head, *filled])
