"""Any events in any order: what must hold holds, and there is always a way on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memreact.actions import (
    Action,
    Age,
    Compact,
    Evict,
    Inspect,
    ReadFragmentation,
    ReadPressure,
    Reclaim,
    Survey,
)
from memreact.events import (
    AgeResult,
    AgingEnded,
    BatchEnded,
    CapabilitiesRead,
    ClockDisturbed,
    CompactionEnded,
    Event,
    Fragmentation,
    Generation,
    Guard,
    GuestPressure,
    HoldAsked,
    Inspected,
    Inspection,
    Instant,
    LimitHit,
    MemcgAppeared,
    MemcgChanged,
    MemcgGone,
    MemcgView,
    NodeView,
    Outcome,
    PressureSample,
    ReleaseAsked,
    RulesChanged,
    RunAsked,
    SqueezeAsked,
    SqueezeCancelled,
    SqueezeReleased,
    StallSeen,
    Stopping,
    Surveyed,
    TimerFired,
    ZoneView,
)
from memreact.policy.asked import why_not_run
from memreact.policy.squeeze import why_not_squeeze
from memreact.rules import CgroupRule, CompactRules, Rules
from memreact.value import replace
from tests.effort import examples
from tests.memreact.policy.invariants import Watched
from tests.memreact.policy.simulated_guest import BASE

PATHS = ("/", "/a", "/a/b", "/c", "/m", "/m/x")
OWN = "/m"
MB = 1 << 20
SECOND = 1_000_000

_times = st.sampled_from([0, 1, 500, 20_000, 100_000, SECOND, 7 * SECOND, 61 * SECOND])
_paths = st.sampled_from(PATHS)
_inodes = st.integers(1, 2)
_outcomes: st.SearchStrategy[Outcome] = st.sampled_from(
    ["done", "done", "done", "broken_off", "held_back", "refused", "vanished", "unsupported"]
)
_seldom = st.integers(0, 9).map(lambda n: n == 9)
_bytes = st.sampled_from([0, 4096, 3 * MB, 100 * MB, 900 * MB])


_compact_rules = st.builds(
    CompactRules,
    disabled=_seldom,
    period_us=st.sampled_from([20 * SECOND, 60 * SECOND]),
    period_limit_ppm=st.sampled_from([10_000, 1_000_000]),
    limit_ppm=st.sampled_from([50_000, 0]),
    longest_us=st.sampled_from([180 * SECOND, SECOND, 0, -(2**63)]),
    order=st.sampled_from([None, 0, 5, 9, 255]),
    by_gain=st.booleans(),
    threshold_pages=st.sampled_from([0, 1024, 2**64 - 1]),
    force_times=st.sampled_from([None, 0, 2]),
)


@st.composite
def _rules(draw: st.DrawFn) -> Rules:
    def mine(path: str) -> CgroupRule:
        keys: dict[str, Any] = {
            "disabled": draw(_seldom),
            "swap": draw(st.booleans()),
            "swappiness_max": draw(st.sampled_from([0, 50, 200])),
            "aging_count_min": draw(st.sampled_from([1, 2, 3, 6])),
            "floor_bytes": draw(st.sampled_from([0, 0, 0, 900 * MB])),
            "period_us": draw(st.sampled_from([20, 60])) * SECOND,
        }
        return CgroupRule(path, frozenset(), no_subdir=False, rules=replace(BASE, **keys))

    base = mine("/").rules
    return Rules(
        base=base,
        cgroups=tuple(mine(path) for path in draw(st.sets(_paths, max_size=2))),
        system_limit_ppm=draw(st.sampled_from([100_000, 100_000, 10_000, 0])),
        compact=draw(_compact_rules),
        resume_quiet=draw(st.booleans()),
        revision=draw(st.integers(1, 9)),
    )


_guests = st.builds(
    CapabilitiesRead,
    page_bytes=st.sampled_from([4096, 65_536]),
    evicts=st.sampled_from(["mglru"] * 8 + ["memory.reclaim"] * 2 + ["nothing"]),
    privileged_psi=st.booleans(),
    own_path=st.just(OWN),
    boot_phase=st.sampled_from([0.0, 0.5]),
    anon_alone=st.sampled_from(["200", "max", "after_file"]),
    reclaim_takes_swappiness=st.booleans(),
    idle_because=_seldom.map(lambda so: "another memreact" if so else None),
    compacts=st.integers(0, 3).map(bool),
    reports=st.integers(0, 9).map(bool),
)


@st.composite
def _zones(draw: st.DrawFn) -> tuple[ZoneView, ...]:
    orders = draw(st.sampled_from([0, 6, 11]))
    blocks = st.lists(st.sampled_from([0, 1, 3_000]), min_size=orders, max_size=orders)
    free = st.sampled_from([0, 10_000, 1_000_000])
    names = st.sampled_from(["DMA32", "Normal"])
    found = draw(st.sets(st.tuples(st.integers(0, 1), names), max_size=3))
    return tuple(
        ZoneView(node, name, tuple(draw(blocks)), draw(free), 10, 20_000) for node, name in found
    )


@st.composite
def _generations(draw: st.DrawFn) -> tuple[Generation, ...]:
    ages = sorted(draw(st.lists(st.integers(0, 400 * SECOND), max_size=4)), reverse=True)
    first = draw(st.integers(0, 5))
    pages = st.sampled_from([0, 10, 5_000, 60_000])
    return tuple(Generation(first + n, a, draw(pages), draw(pages)) for n, a in enumerate(ages))


class AnyEvents(RuleBasedStateMachine):
    """The answers that are asked for, late or wrong or not at all, and everything else between."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10_000 * SECOND
        self.guest_us = 0
        self.memcg_us: dict[str, int] = dict.fromkeys(PATHS, 0)
        self.evicted = 0
        self.refaults = 0
        self.last: tuple[Action, ...] = ()

    @initialize(rules=_rules(), guest=_guests)
    def begin(self, rules: Rules, guest: CapabilitiesRead) -> None:
        """Every run begins like the daemon does."""
        self.watched = Watched(rules)
        self.tell(guest)
        for path in PATHS:
            self.tell(MemcgAppeared(path, 1))

    def tell(self, event: Event) -> None:
        """One step; the actions wait for their answers."""
        self.last = self.watched.step(event, Instant(self.now)).actions

    @property
    def doing(self) -> Any:  # noqa: ANN401  # any of the works, or None
        """What the worker would be at."""
        turn = self.watched.state.turn
        return turn.doing if turn else None

    def sample(self, path: str | None = None) -> PressureSample:
        """The totals of now."""
        us = self.memcg_us[path] if path else 0
        return PressureSample(Instant(self.now), GuestPressure(self.guest_us), path, us)

    # Time and stall

    @rule(us=_times)
    def time_passes(self, us: int) -> None:
        """And nothing else."""
        self.now += us

    @rule(us=st.sampled_from([100, 20_000, 200_000]), path=_paths)
    def somebody_stalls(self, us: int, path: str) -> None:
        """A memcg, and with it the guest."""
        self.now += us
        self.guest_us += us
        self.memcg_us[path] += us

    @precondition(lambda self: self.watched.wake_at is not None)
    @rule()
    def the_timer_fires(self) -> None:
        """At its moment; whatever is to be done then is done in a few steps."""
        self.now = max(self.now, self.watched.wake_at or 0)
        for _ in range(5):
            self.tell(TimerFired())
            if self.watched.wake_at is None or self.watched.wake_at > self.now:
                return
        raise AssertionError("the timer never rests")

    @rule()
    def a_timer_fires_for_nothing(self) -> None:
        """Early, late, or twice."""
        self.tell(TimerFired())

    # Answers

    @precondition(lambda self: self.doing is not None)
    @rule(data=st.data(), outcome=_outcomes)
    def the_answer_comes(self, data: st.DataObject, outcome: Any) -> None:  # noqa: ANN401
        """To what is under way."""
        match self.doing:
            case Survey():
                self.surveyed(data)
            case Inspect(path):
                self.tell(Inspected(path, self.inspection(data, path)))
            case Evict(path=path, node=node, pages=pages):
                self.batch(data, path, node, pages, outcome)
            case Reclaim(path=path, pages=pages):
                self.batch(data, path, 0, pages, outcome)
            case Age(targets):
                self.aged(data, targets)
            case ReadFragmentation():
                self.tell(self.fragmentation(data))
            case Compact(node=node):
                after = data.draw(st.none() | st.just(self.fragmentation(data)))
                self.tell(CompactionEnded(node, outcome, 10_000, 5_000, after))

    @rule(rounds=st.integers(1, 12), sure=st.booleans())
    def all_goes_well(self, rounds: int, sure: bool) -> None:  # noqa: FBT001
        """Several answers in a row, and the wake-ups between, so that deep states are reached."""
        for _ in range(rounds):
            self.now += 1_000
            if self.doing is not None:
                self.answer_well()
            elif self.watched.wake_at is not None and sure:
                self.now = max(self.now, self.watched.wake_at or 0)
                self.tell(TimerFired())
            for asked in self.asked:
                self.tell(StallSeen(self.sample(asked)))

    @property
    def asked(self) -> list[str | None]:
        """The totals that the last step asked for."""
        found = [a.path for a in self.last if isinstance(a, ReadPressure)]
        self.last = ()
        return found

    def answer_well(self) -> None:
        """The answer that is hoped for."""
        match self.doing:
            case Survey():
                self.tell(Surveyed(tuple(self.cold_views()), self.sample()))
            case Inspect(path):
                self.tell(Inspected(path, self.quiet(path)))
            case Evict(path=path, node=node, pages=pages):
                self.evicted += pages
                self.tell(BatchEnded(path, node, pages, "done", self.quiet(path)))
            case Reclaim(path=path, pages=pages):
                self.evicted += pages
                self.tell(BatchEnded(path, 0, pages, "done", self.quiet(path)))
            case Age(targets):
                results = tuple(AgeResult(t.path, t.node, "done") for t in targets)
                self.tell(AgingEnded(results, self.sample()))
            case ReadFragmentation(order=order):
                self.tell(self.in_pieces(order))
            case Compact(node=node, order=order):
                self.tell(CompactionEnded(node, "done", 1_000, 500, self.in_pieces(order)))

    def in_pieces(self, order: int | str) -> Fragmentation:
        """Much that could be gathered, on two nodes."""
        blocks = (9_000 + self.now // SECOND % 1_000, 5_000, 3_000, *([500] * 6), 10, 10)
        zones = tuple(ZoneView(node, "Normal", blocks, 300_000, 10, 20_000) for node in (0, 1))
        found = order if isinstance(order, int) else 9
        return Fragmentation(zones, found, GB, 40_000, 4096, self.sample())

    def fragmentation(self, data: st.DataObject) -> Fragmentation:
        """Any reading."""
        return Fragmentation(
            zones=data.draw(_zones()),
            order=data.draw(st.sampled_from([0, 5, 9, 255])),
            memfree_bytes=data.draw(_bytes),
            movable_small_pages=data.draw(st.none() | st.integers(0, 50_000)),
            page_bytes=data.draw(st.sampled_from([4096, 65_536])),
            pressure=self.sample(),
            failed="no" if data.draw(st.integers(0, 9)) == 0 else None,
        )

    def cold_views(self) -> Iterator[MemcgView]:
        """Every memcg that is known, with much that is cold, on two nodes."""
        ages = [900, 700, 500, 300 + self.now // SECOND % 100]
        lines = tuple(Generation(n, age * SECOND, 9_000, 20_000) for n, age in enumerate(ages))
        nodes = (NodeView(0, lines), NodeView(1, lines))
        for path, memcg in self.watched.state.memcgs.items():
            yield MemcgView(path, memcg.inode, 70_000, self.memcg_us[path], 0, nodes, GB)

    def quiet(self, path: str) -> Inspection:
        """A memcg of which much may go."""
        return Inspection(
            path=path,
            pressure=self.sample(path),
            guards=(),
            anon_bytes=500 * MB,
            file_bytes=500 * MB,
            dirty_bytes=0,
            unevictable_bytes=0,
            evicted_total_pages=self.evicted,
            refault_total_pages=self.refaults,
            swap_free_bytes=1 << 30,
        )

    def inspection(self, data: st.DataObject, path: str) -> Inspection | None:
        """Any memcg."""
        if data.draw(st.integers(0, 5)) == 0:
            return None
        guards = st.tuples(_bytes, _bytes).map(lambda both: Guard(path, *both))
        return msgspec.structs.replace(
            self.quiet(path),
            guards=tuple(data.draw(st.lists(guards, max_size=2))),
            anon_bytes=data.draw(_bytes),
            file_bytes=data.draw(_bytes),
            dirty_bytes=data.draw(_bytes),
            swap_free_bytes=data.draw(_bytes),
            folio_bytes=data.draw(st.sampled_from([4096, 2 * MB])),
            anon_folio_bytes=data.draw(st.sampled_from([4096, 2 * MB])),
            frozen=data.draw(st.integers(0, 9)) == 0,
            throttled_total=int(data.draw(st.integers(0, 9)) == 0),
            oom_total=int(data.draw(st.integers(0, 9)) == 0),
            shmem_bytes=data.draw(_bytes),
            zram_left_bytes=data.draw(st.none() | _bytes),
        )

    def surveyed(self, data: st.DataObject) -> None:
        """Any survey."""
        nodes = st.lists(_generations(), max_size=2).map(
            lambda found: tuple(NodeView(n, lines) for n, lines in enumerate(found))
        )
        if data.draw(st.booleans()):
            self.tell(Surveyed(tuple(self.cold_views()), self.sample()))
            return
        views = tuple(
            MemcgView(path, data.draw(_inodes), 5, self.memcg_us[path], 0, data.draw(nodes), GB)
            for path in data.draw(st.sets(_paths))
        )
        failed = "no" if data.draw(st.integers(0, 9)) == 0 else None
        self.tell(Surveyed(views, self.sample(), failed))

    def batch(self, data: st.DataObject, path: str, node: int, pages: int, how: Any) -> None:  # noqa: ANN401
        """The end of a write."""
        self.evicted += data.draw(st.sampled_from([0, pages // 2, pages, pages + 64]))
        after = self.inspection(data, path)
        exhausted = how == "done" and isinstance(self.doing, Reclaim) and data.draw(st.booleans())
        self.tell(BatchEnded(path, node, pages, how, after, 1_000, exhausted=exhausted))

    def aged(self, data: st.DataObject, targets: Any) -> None:  # noqa: ANN401
        """The end of a row of agings; some of them may not be told."""
        results = tuple(
            AgeResult(target.path, target.node, data.draw(_outcomes))
            for target in targets
            if data.draw(st.integers(0, 5))
        )
        self.tell(AgingEnded(results, self.sample()))

    # What nobody asked for

    @rule(data=st.data(), path=_paths, node=st.integers(0, 1), outcome=_outcomes)
    def an_answer_comes_that_nobody_waits_for(
        self,
        data: st.DataObject,
        path: str,
        node: int,
        outcome: Any,  # noqa: ANN401
    ) -> None:
        """Late, twice, or from nowhere: only one that fits changes anything."""
        kind = data.draw(st.sampled_from(["survey", "inspect", "batch", "age", "look", "node"]))
        if kind == "survey":
            self.surveyed(data)
        elif kind == "inspect":
            self.tell(Inspected(path, self.inspection(data, path)))
        elif kind == "batch":
            self.batch(data, path, node, 10, outcome)
        elif kind == "look":
            self.tell(self.fragmentation(data))
        elif kind == "node":
            self.tell(CompactionEnded(node, outcome, after=self.fragmentation(data)))
        else:
            self.tell(AgingEnded((AgeResult(path, node, outcome),), self.sample()))

    @rule(path=st.none() | _paths, trigger=st.sampled_from([None, "guest", "/a", "/gone"]))
    def totals_are_read(self, path: str | None, trigger: str | None) -> None:
        """By a trigger, or as asked for."""
        self.tell(StallSeen(self.sample(path), trigger))

    @rule(path=_paths, high=st.integers(0, 1), oom=st.sampled_from([0, 0, 1]))
    def a_limit_is_hit(self, path: str, high: int, oom: int) -> None:
        """Somewhere."""
        self.tell(LimitHit(path, high=high, oom=oom))

    @rule(path=_paths, inode=_inodes, populated=st.booleans(), frozen=_seldom)
    def a_memcg_appears(self, path: str, inode: int, populated: bool, frozen: bool) -> None:  # noqa: FBT001
        """New, known, or another one under its name."""
        self.tell(MemcgAppeared(path, inode, populated, frozen))

    @rule(path=_paths, populated=st.booleans(), frozen=_seldom)
    def a_memcg_changes(self, path: str, populated: bool, frozen: bool) -> None:  # noqa: FBT001
        """Known or not."""
        self.tell(MemcgChanged(path, populated, frozen))

    @rule(path=_paths)
    def a_memcg_goes(self, path: str) -> None:
        """Known or not."""
        self.tell(MemcgGone(path))

    @rule(rules=_rules())
    def the_rules_change(self, rules: Rules) -> None:
        """As a whole."""
        self.watched.rules = rules
        self.tell(RulesChanged(rules.revision))

    @rule(guest=_guests)
    def the_guest_changes(self, guest: CapabilitiesRead) -> None:
        """Its hardware, or who else reclaims in it."""
        self.tell(guest)

    @rule(cause=st.sampled_from(["test", "suspend", "snapshot_restored"]))
    def the_clock_is_disturbed(self, cause: str) -> None:
        """A suspend, a step, a restored snapshot."""
        held = self.watched.state.hold is not None and not self.watched.state.stopping
        self.tell(ClockDisturbed(cause))
        assert self.watched.state.hold is None or not held or cause == "test"

    # What an operator asks for

    @rule(us=st.sampled_from([-1, 0, 1, 50_000, 30 * SECOND, 2 * 86_400 * SECOND]))
    def a_hold_is_asked_for(self, us: int) -> None:
        """Too late, short, or for longer than there is."""
        self.tell(HoldAsked(Instant(self.now + us), "cid 2", "test"))

    @rule()
    def a_release_is_asked_for(self) -> None:
        """Held or not."""
        stopping = self.watched.state.stopping
        self.tell(ReleaseAsked("cid 2"))
        assert stopping or self.watched.state.hold is None

    @rule(path=st.none() | st.sampled_from([*PATHS, "/gone"]))
    def a_turn_is_asked_for(self, path: str | None) -> None:
        """It begins at once, or there is a reason."""
        state = self.watched.state
        over = state.hold is not None and self.now >= state.hold.until
        why = why_not_run(replace(state, hold=None) if over else state, path)
        self.tell(RunAsked(path, "cid 2"))
        turn = self.watched.state.turn
        if why is not None:
            assert turn is None or state.turn is not None, "nothing begins"
            return
        assert turn is not None
        assert (turn.within, turn.started_at) == (path, self.now)
        assert turn.asked == (turn.compaction is None)

    @rule(
        path=st.sampled_from(["/", "/", *PATHS, "/gone"]),
        us=st.sampled_from([0, 50_000, 30 * SECOND, 2 * 86_400 * SECOND]),
        pages=st.none() | st.sampled_from([1, 600, 30_000, 1 << 40]),
        hold_us=st.sampled_from([0, 0, 1, 90 * SECOND, 2 * 86_400 * SECOND]),
    )
    def a_squeeze_is_asked_for(self, path: str, us: int, pages: int | None, hold_us: int) -> None:
        """It is taken up at once, or there is a reason."""
        state = self.watched.state
        over = state.hold is not None and self.now >= state.hold.until
        why = why_not_squeeze(replace(state, hold=None) if over else state, path)
        self.tell(SqueezeAsked(pages, Instant(self.now + us), path, "cid 3", hold_us))
        after = self.watched.state.squeeze
        if why is not None or not us:
            assert after is None or state.squeeze is not None
            return
        assert after is not None
        assert (after.path, after.target_pages, after.ends) == (path, pages, None)

    @rule()
    def nothing_is_to_be_kept(self) -> None:
        """Kept or not."""
        stopping = self.watched.state.stopping
        self.tell(SqueezeReleased("cid 4"))
        assert stopping or self.watched.state.keep is None

    @precondition(lambda self: self.watched.state.squeeze is not None)
    @rule()
    def whoever_wanted_a_squeeze_is_gone(self) -> None:
        """It is over as soon as what is under way has returned."""
        self.tell(SqueezeCancelled("cid 3"))
        squeeze = self.watched.state.squeeze
        assert squeeze is None or squeeze.ends is not None or self.watched.state.stopping

    @rule(really=st.integers(0, 15))
    def it_is_stopped(self, really: int) -> None:
        """Seldom, or nothing else would be tried."""
        if not really:
            self.tell(Stopping())

    @invariant()
    def a_stopped_one_sleeps(self) -> None:
        """For good."""
        state = self.watched.state
        if state.stopping:
            assert self.watched.wake_at is None
            assert state.turn is None or state.turn.doing is not None


GB = 1 << 30
AnyEvents.TestCase.settings = settings(
    max_examples=examples(150),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyEvents = AnyEvents.TestCase
