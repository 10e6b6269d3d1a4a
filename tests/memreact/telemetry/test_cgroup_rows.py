"""Rows that are kept say what rows that are made anew would say, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.actions import Because, Decision
from memreact.events import CapabilitiesRead, Generation, Instant, MemcgView, NodeView
from memreact.policy.promotion import PromotionLore, Promotions
from memreact.policy.state import Counters, Hold, Memcg, State
from memreact.rules import MemcgRules, Rules, rules_from
from memreact.telemetry import cgroup_rows
from memreact.telemetry.cgroup_rows import CgroupRows
from memreact.telemetry.possible import soonest
from memreact.telemetry.status import Teller, cgroups_of
from memreact.value import replace
from memreact_schemas.config import DEFAULTS, CgroupEntry, Config, overlay
from memreact_schemas.config import Memcg as MemcgTable
from memreact_schemas.status import CgroupLimits, CgroupStatus, NextEviction

SECOND = 1_000_000
START = Instant(1_000 * SECOND)
PATHS = ("/", "/a", "/a/b", "/100%d", '/"age_us":7,', "/h\N{LATIN SMALL LETTER E WITH ACUTE}")


def rules_with(*entries: CgroupEntry, **base: object) -> Rules:
    table = MemcgTable(cgroup=entries, **base)  # type: ignore[arg-type]
    return rules_from(overlay(DEFAULTS, Config(memcg=table)))


RULES = (
    rules_with(period_secs=10),
    rules_with(period_secs=10, swap=True, eviction_run_aging_count_min=1),
    rules_with(
        CgroupEntry(path="/a", disabled=True),
        CgroupEntry(path="/a/b", period_secs=7, numa=(0,), floor_bytes=5),
        period_secs=10,
        eviction_run_aging_count_min=4,
    ),
)
GUESTS = tuple(
    CapabilitiesRead(4096, evicts, True, "/a", 0.5)  # noqa: FBT003  # positional
    for evicts in ("mglru", "memory.reclaim")
)

ages = st.lists(st.integers(0, 40 * SECOND), max_size=5).map(lambda found: sorted(found)[::-1])
near = st.sampled_from([10, 20, 30, 40]).map(lambda seconds: seconds * SECOND - 50_000)
apart = st.one_of(st.integers(0, 100), st.integers(0, 15 * SECOND), near)
moments = st.integers(-20 * SECOND, 20 * SECOND)


@st.composite
def nodes(draw: st.DrawFn) -> tuple[NodeView, ...]:
    def node(number: int) -> NodeView:
        found = enumerate(draw(ages))
        return NodeView(number, tuple(Generation(seq, age, 40, 50) for seq, age in found))

    return tuple(node(number) for number in range(draw(st.integers(0, 2))))


class Guest:
    """A state that things happen to, and its rows, which are kept."""

    def __init__(self) -> None:
        self.state = State(guest=GUESTS[0], due={10 * SECOND: Instant(START + SECOND)})
        self.rules = RULES[0]
        self.now = START
        self.rows = CgroupRows()

    def moment(self, data: st.DataObject) -> Instant:
        """A moment around now."""
        return Instant(self.now + data.draw(moments))

    def passes(self, data: st.DataObject) -> None:
        """Time passes."""
        self.now = Instant(self.now + data.draw(apart))

    def appears(self, data: st.DataObject) -> None:
        """A memcg is there, or another one of the same path."""
        path = data.draw(st.sampled_from(PATHS))
        self.put(Memcg(path, data.draw(st.integers(1, 9)), populated=data.draw(st.booleans())))

    def goes(self, data: st.DataObject) -> None:
        """A memcg is gone."""
        gone = data.draw(st.sampled_from(PATHS))
        left = {path: memcg for path, memcg in self.state.memcgs.items() if path != gone}
        self.state = replace(self.state, memcgs=left)

    def changes(self, data: st.DataObject) -> None:
        """Something is decided on a memcg, or it is frozen or left."""
        memcg = self.one(data)
        saw = {
            data.draw(st.sampled_from(["age_us", "next_eviction", "x"])): data.draw(
                st.integers(0, 99)
            )
        }
        last = Decision("leave", Because("disabled", {**saw, "why": '"age_us":5,'}), memcg.path, 0)
        counters = replace(memcg.counters, agings=memcg.counters.agings + 1, because={"x": 1})
        changed = data.draw(
            st.sampled_from(
                [
                    replace(memcg, last=last, last_at=self.now, counters=counters),
                    replace(memcg, away_until=self.moment(data), oom_total=1),
                    replace(memcg, frozen=not memcg.frozen, populated=not memcg.populated),
                    replace(memcg, promotion=PromotionLore(last=Promotions(1, 2, 3, 4))),
                ]
            )
        )
        self.put(changed)

    def surveyed(self, data: st.DataObject) -> None:
        """One is read."""
        memcg = self.one(data)
        stalls = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
        view = MemcgView(memcg.path, memcg.inode, 1, *stalls, data.draw(nodes()))
        seen = replace(
            memcg, view=view, viewed_at=Instant(self.now - data.draw(st.integers(0, 99)))
        )
        begun = Instant(self.now - SECOND)
        self.put(
            replace(seen, stall_us=(0, 1), stall_at=begun) if data.draw(st.booleans()) else seen
        )

    def due(self, data: st.DataObject) -> None:
        """Another turn is the next."""
        due = {period * SECOND: self.moment(data) for period in data.draw(st.sets(_PERIODS))}
        self.state = replace(self.state, due=due)

    def held(self, data: st.DataObject) -> None:
        """Somebody wants nothing to be done, or no longer."""
        hold = Hold(self.now, self.moment(data), "them") if data.draw(st.booleans()) else None
        self.state = replace(self.state, hold=hold)

    def settled(self, data: st.DataObject) -> None:
        """Other rules, or another guest."""
        self.rules = data.draw(st.sampled_from(RULES))
        self.state = replace(self.state, guest=data.draw(st.sampled_from((*GUESTS, None))))

    def one(self, data: st.DataObject) -> Memcg:
        """One that is there."""
        path = data.draw(st.sampled_from(PATHS))
        return self.state.memcgs.get(path) or Memcg(path, 1)

    def put(self, memcg: Memcg) -> None:
        """It is there from now on."""
        self.state = replace(self.state, memcgs={**self.state.memcgs, memcg.path: memcg})

    def told(self, *, keep: bool = True) -> tuple[list[bytes], NextEviction]:
        """What the rows say."""
        telling = self.rows.tell(self.state, self.rules, self.now, keep=keep)
        for _ in telling.pieces(2):
            pass
        return [bytes(row) for row in telling.rows], telling.next_eviction

    def fresh(self) -> tuple[list[bytes], NextEviction]:
        """What is to be said."""
        made = tuple(cgroups_of(self.state, self.rules, self.now))
        first = soonest(each.next_eviction for each in made)
        return [msgspec.json.encode(each) for each in made], first


_PERIODS = st.sampled_from([7, 10])
_Happens = Callable[[Guest, st.DataObject], None]
_HAPPENS: tuple[_Happens, ...] = (
    Guest.passes,
    Guest.appears,
    Guest.goes,
    Guest.changes,
    Guest.surveyed,
    Guest.due,
    Guest.held,
    Guest.settled,
)


@given(data=st.data())
def test_kept_rows_say_what_fresh_ones_say(data: st.DataObject) -> None:
    guest = Guest()
    for happens in data.draw(st.lists(st.sampled_from(_HAPPENS), min_size=3, max_size=25)):
        happens(guest, data)
        if data.draw(st.booleans()):
            assert guest.told() == guest.fresh()
    guest.passes(data)
    assert guest.told() == guest.fresh()
    assert guest.told(keep=False) == guest.fresh()
    assert len(guest.rows) == 0


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    generations = tuple(Generation(seq, age, 0, 100) for seq, age in enumerate((40, 30, 20, 10)))
    for path in ("/x", "/y", "/z"):
        view = MemcgView(path, 1, 1, 0, 0, (NodeView(0, generations),))
        made.put(Memcg(path, 1, view=view, viewed_at=START))
    return made


@pytest.fixture
def told_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom rows are made of."""
    told: list[str] = []

    class Noting(Teller):
        def cgroup(
            self,
            memcg: Memcg,
            limits: CgroupLimits | None = None,
            found: list[MemcgRules] | None = None,
        ) -> CgroupStatus:
            told.append(memcg.path)
            return super().cgroup(memcg, limits, found)

    monkeypatch.setattr(cgroup_rows, "Teller", Noting)
    return told


def test_only_what_changed_is_made_again(guest: Guest, told_of: list[str]) -> None:
    guest.told()
    guest.now = Instant(guest.now + 7)
    guest.put(replace(guest.state.memcgs["/y"], counters=Counters(agings=3)))
    assert told_of == ["/x", "/y", "/z"]
    assert guest.told() == guest.fresh()
    assert told_of[3:] == ["/y"]


def test_while_a_turn_is_late_what_moves_is_filled_in(guest: Guest, told_of: list[str]) -> None:
    guest.now = Instant(guest.now + 2 * SECOND)
    before = guest.told()
    guest.now = Instant(guest.now + 7)
    assert guest.told() == guest.fresh() != before
    assert len(told_of) == 3


def test_so_many_rows_are_kept_at_the_most(
    guest: Guest, told_of: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup_rows, "KEPT_MAX", 2)
    for _ in range(2):
        assert guest.told() == guest.fresh()
    assert len(guest.rows) == 2
    assert told_of[3:] == ["/z"]


def test_rows_of_what_is_gone_are_not_kept(guest: Guest) -> None:
    guest.told()
    guest.state = replace(guest.state, memcgs={"/x": guest.state.memcgs["/x"]})
    guest.told()
    assert len(guest.rows) == 1
    guest.rows.forget()
    assert len(guest.rows) == 0
