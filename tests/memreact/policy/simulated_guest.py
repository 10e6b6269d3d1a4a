"""A kernel of numbers: generations, stall totals and refaults, and a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from memreact.actions import (
    Action,
    Age,
    AgeTarget,
    Arm,
    BreakOff,
    Compact,
    Decision,
    Disarm,
    Evict,
    Inspect,
    ReadCapabilities,
    ReadFragmentation,
    ReadPressure,
    Reclaim,
    Survey,
    Trigger,
)
from memreact.events import (
    AgeResult,
    AgingEnded,
    BatchEnded,
    CapabilitiesRead,
    CompactionEnded,
    Event,
    Fragmentation,
    Generation,
    Guard,
    GuestPressure,
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
    RulesChanged,
    StallSeen,
    Stopping,
    Surveyed,
    TimerFired,
    ZoneView,
)
from memreact.policy.state import Step
from memreact.rules import MemcgRules, Rules
from tests.memreact.policy.invariants import Watched

PAGE = 4096
MB = 1 << 20
SECOND = 1_000_000
PAGES_PER_MB = MB // PAGE
BATCH = 64
PAGES_PER_MS = 200

BASE = MemcgRules(
    disabled=False,
    swap=False,
    swappiness_max=50,
    period_us=600 * SECOND,
    period_limit_ppm=10_000,
    eviction_limit_ppm=10_000,
    aging_count_min=3,
)


@dataclass
class Pages:
    """Pages of one kind that share their fate.

    `hot` ones are touched all the time: through a mapping, which an aging sees, or, with `pread`,
    through an fd, which only refaults show. What was hot is still `accessed` until an aging has
    looked.
    """

    kind: str
    pages: int
    seq: int
    hot: bool = False
    pread: bool = False
    dirty: bool = False
    accessed: bool = False

    @property
    def in_use(self) -> bool:
        """Whether the page tables say so."""
        return not self.pread and (self.hot or self.accessed)

    def cool(self) -> None:
        """Nobody touches them from now on."""
        self.hot, self.accessed = False, True


@dataclass
class Lruvec:
    """The generations of one memcg on one node, newborn: four of them, of one age."""

    born: dict[int, int]
    held: list[Pages] = field(default_factory=list)

    @property
    def max_seq(self) -> int:
        """The youngest."""
        return max(self.born)

    @property
    def min_seq(self) -> int:
        """The oldest."""
        return min(self.born)

    def age(self, now: int) -> None:
        """The touched ones go to the youngest, and that is no longer the youngest then."""
        for pages in self.held:
            if pages.in_use:
                pages.seq, pages.accessed = self.max_seq, False
        self.born[self.max_seq + 1] = now
        if len(self.born) > 4:
            del self.born[self.min_seq]
        for pages in self.held:
            pages.seq = max(pages.seq, self.min_seq)

    def generations(self, now: int) -> tuple[Generation, ...]:
        """As the kernel prints them."""
        return tuple(
            Generation(seq, now - born, self._sum("anon", seq), self._sum("file", seq))
            for seq, born in sorted(self.born.items())
        )

    def _sum(self, kind: str, seq: int) -> int:
        return sum(p.pages for p in self.held if p.kind == kind and p.seq == seq)

    def total(self, kind: str) -> int:
        """Pages of one kind."""
        return sum(p.pages for p in self.held if p.kind == kind)


@dataclass
class Memcg:
    """One memcg and its counters."""

    path: str
    inode: int
    nodes: dict[int, Lruvec]
    populated: bool = True
    frozen: bool = False
    low_bytes: int = 0
    limit_bytes: int | None = None
    evicted: int = 0
    refaults: int = 0
    promoted: int | None = None
    returning: int = 0
    throttled: int = 0
    oom: int = 0
    writes: list[Evict | Reclaim] = field(default_factory=list)

    def total(self, kind: str) -> int:
        """Pages of one kind."""
        return sum(lruvec.total(kind) for lruvec in self.nodes.values())


@dataclass
class Zone:
    """Free memory of one zone: in single pages, of which some can be gathered, or in blocks.

    Args:
        name: "Normal".
        node: Where.
        small: Free single pages.
        stuck: Of these, what lies among pages that do not move.
        blocks: Free blocks of order 9.
        headroom: With fewer free pages nothing of it is reported.
    """

    name: str = "Normal"
    node: int = 0
    small: int = 0
    stuck: int = 0
    blocks: int = 0
    headroom: int = 20_000

    def gather(self) -> int:
        """A compaction: whole blocks of what is not stuck; returns the pages that moved."""
        made = max(0, self.small - self.stuck) // 512
        self.small -= made * 512
        self.blocks += made
        return made * 512

    def take_back(self, pages: int, *, scattered: bool) -> None:
        """Pages become free: here and there, or side by side, which makes blocks of them."""
        self.small += pages
        if not scattered:
            self.gather()

    def view(self) -> ZoneView:
        """As buddyinfo and zoneinfo have it."""
        by_order = (self.small, *([0] * 8), self.blocks, 0)
        return ZoneView(
            self.node, self.name, by_order, self.small + self.blocks * 512, 10, self.headroom
        )


@dataclass(frozen=True)
class StallSpan:
    """A steady share of stall, of one memcg or of somebody outside of all of them."""

    begin: int
    end: int
    ppm: int
    path: str | None = None

    def until(self, now: int) -> int:
        """How much of it there was by then."""
        return max(0, min(now, self.end) - self.begin) * self.ppm // 1_000_000


class SimulatedGuest:
    """Runs the policy against numbers; `run_for` jumps from one moment to the next.

    Args:
        rules: In force from the start.
        phase: The phase of this boot.
        can: What the guest is able to do.
    """

    def __init__(self, rules: Rules | None = None, *, phase: float = 0.0, **can: object) -> None:
        self.now = 1_000 * SECOND
        self.rules = rules or Rules(base=BASE)
        self.memcgs: dict[str, Memcg] = {}
        self.decisions: list[tuple[int, Decision]] = []
        self.actions: list[tuple[int, Action]] = []
        self.events: list[tuple[int, Event]] = []
        self.stalls: list[StallSpan] = []
        self.swap_free = 0
        self.zram = (0, 0)
        self.slower = 1
        self.own_ppm = 0
        self.survey_fails: str | None = None
        self.out_of_reach_pages = 0
        self.ages_in_vain: set[str] = set()
        self.refuses: set[str] = set()
        self.zones: list[Zone] = []
        self.observe: Callable[[Event, Step, Instant], None] = lambda *_: None
        self.frees_into: Zone | None = None
        self.scatters = False
        self.movable: bool = True
        self.unreadable: str | None = None
        self.kernel_order = 9
        self.compact_us = 300_000
        self.tells_after = True
        self.compact_ends: Outcome = "done"
        known: dict[str, object] = {
            "page_bytes": PAGE,
            "evicts": "mglru",
            "privileged_psi": True,
            "own_path": "/system.slice/memreact.service",
            "boot_phase": phase,
        }
        self.guest = CapabilitiesRead(**{**known, **can})  # type: ignore[arg-type]
        self._inodes = 100
        self._worker: tuple[int, Action, int, Outcome] | None = None
        self._armed: dict[str, tuple[Trigger, ...]] = {}
        self._fired: dict[tuple[str, int], int] = {}
        self._waiting: list[Event] = []
        self._telling = False
        self.restart()

    def restart(self) -> None:
        """Start memreact, for the first time or again; the kernel stays as it is."""
        self.watched = Watched(self.rules)
        self._worker, self._armed = None, {}
        self.tell(self.guest)
        for memcg in self.memcgs.values():
            self.tell(MemcgAppeared(memcg.path, memcg.inode, memcg.populated, memcg.frozen))

    def add(self, path: str, *nodes: int, **fields: object) -> Memcg:
        """A memcg is born, without pages."""
        self._inodes += 1
        born = dict.fromkeys(range(4), self.now)
        lruvecs = {node: Lruvec(dict(born)) for node in nodes or (0,)}
        memcg = Memcg(path, self._inodes, lruvecs, **fields)  # type: ignore[arg-type]
        self.memcgs[path] = memcg
        self.tell(MemcgAppeared(path, memcg.inode, memcg.populated, memcg.frozen))
        return memcg

    def fill(self, memcg: Memcg, kind: str, mb: int, *, node: int = 0, **how: bool) -> Pages:
        """Pages that are touched now for the first time; through an fd they enter as old ones."""
        lruvec = memcg.nodes[node]
        seq = lruvec.min_seq + 1 if how.get("pread") else lruvec.max_seq
        pages = Pages(kind, mb * PAGES_PER_MB, seq, **how)
        lruvec.held.append(pages)
        return pages

    def remove(self, path: str) -> None:
        """The memcg is removed, and inotify tells."""
        del self.memcgs[path]
        self.tell(MemcgGone(path))

    def change(self, path: str, *, populated: bool = True, frozen: bool = False) -> None:
        """Its cgroup.events says this from now on."""
        self.memcgs[path].populated, self.memcgs[path].frozen = populated, frozen
        self.tell(MemcgChanged(path, populated, frozen))

    def set_rules(self, rules: Rules) -> None:
        """Other settings are in force."""
        self.rules = self.watched.rules = rules
        self.tell(RulesChanged(rules.revision))

    def hit_limit(self, path: str, *, high: int = 0, oom: int = 0) -> None:
        """Its memory.events grows."""
        self.memcgs[path].throttled += high
        self.memcgs[path].oom += oom
        self.tell(LimitHit(path, high=high, oom=oom))

    def stop(self) -> None:
        """SIGTERM."""
        self.tell(Stopping())

    def stall(self, ppm: int, for_us: int, path: str | None = None) -> None:
        """Somebody stalls from now on."""
        self.stalls.append(StallSpan(self.now, self.now + for_us, ppm, path))

    def tell(self, event: Event) -> None:
        """Hand over an event, then what the step's actions answer at once."""
        self._waiting.append(event)
        if self._telling:
            return
        self._telling = True
        while self._waiting:
            self._tell_one(self._waiting.pop(0))
        self._telling = False

    def _tell_one(self, event: Event) -> None:
        self.events.append((self.now, event))
        made = self.watched.step(event, Instant(self.now))
        self.observe(event, made, Instant(self.now))
        self.decisions.extend((self.now, decision) for decision in made.decisions)
        for action in made.actions:
            self.actions.append((self.now, action))
            self._perform(action)

    def run_for(self, us: int) -> None:
        """Let time pass."""
        self.run_until(self.now + us)

    def run_until(self, end: int) -> None:
        """Let time pass, from one moment at which something happens to the next."""
        steps_now, last = 0, -1
        while (at := self._next_moment()) <= end:
            steps_now = steps_now + 1 if at == last else 0
            assert steps_now < 10_000, "no end of steps at one moment"
            self.now = last = max(self.now, at)
            self._one_moment()
        self.now = end

    def run_while(self, busy: Callable[[], bool], most_us: int = 7_200 * SECOND) -> None:
        """Jump on until something is so."""
        end = self.now + most_us
        while busy():
            assert self.now < end, "it never came to that"
            self.now = max(self.now, self._next_moment())
            assert self.now < 1 << 60, "nothing is going to happen"
            self._one_moment()

    def run_until_write(self, path: str) -> Evict | Reclaim:
        """Jump to the middle of the next write to a memcg."""
        self.run_while(lambda: not self._writing_to(path))
        assert self._worker is not None
        self.now = (self.now + self._worker[0]) // 2
        action = self._worker[1]
        assert isinstance(action, Evict | Reclaim)
        return action

    def _writing_to(self, path: str) -> bool:
        work = self._worker[1] if self._worker else None
        return isinstance(work, Evict | Reclaim) and work.path == path

    def _next_moment(self) -> int:
        moments = [self._worker[0]] if self._worker else []
        if self.watched.wake_at is not None:
            moments.append(self.watched.wake_at)
        if self._armed:
            moments.extend(self._ticks())
        return min(moments, default=1 << 62)

    def _ticks(self) -> Iterator[int]:
        """The kernel looks every 10 ms while somebody stalls."""
        for span in self.stalls:
            if span.end > self.now:
                yield max(span.begin, self.now) + 10_000 - max(span.begin, self.now) % 10_000

    def _one_moment(self) -> None:
        if self._worker and self._worker[0] <= self.now:
            self._answer()
        elif self.watched.wake_at is not None and self.watched.wake_at <= self.now:
            self.tell(TimerFired())
        else:
            self._look_at_triggers()

    def _look_at_triggers(self) -> None:
        for path, triggers in list(self._armed.items()):
            for at, trigger in enumerate(triggers):
                grown = self._stalled(path or None, self.now) - self._stalled(
                    path or None, self.now - trigger.window_us
                )
                quiet_until = self._fired.get((path, at), 0) + trigger.window_us
                if grown >= trigger.stall_us and self.now >= quiet_until:
                    self._fired[path, at] = self.now
                    self._break_off()
                    self.tell(StallSeen(self._sample(path or self._at_work()), path or "guest"))

    def _stalled(self, path: str | None, at: int) -> int:
        """Stall of the guest, or of a memcg with all below it."""
        return sum(
            span.until(at)
            for span in self.stalls
            if path is None or (span.path or "").startswith(path)
        )

    def _at_work(self) -> str | None:
        turn = self.watched.state.turn
        return turn.eviction.candidate.path if turn and turn.eviction else None

    def _sample(self, path: str | None = None) -> PressureSample:
        memcg_us = self._stalled(path, self.now) if path else 0
        own = self.now * self.own_ppm // 1_000_000
        guest = GuestPressure(self._stalled(None, self.now) + own, own, {})
        return PressureSample(Instant(self.now), guest, path, memcg_us)

    def _perform(self, action: Action) -> None:  # noqa: C901  # a table
        match action:
            case Survey():
                self._work(5_000, action)
            case Inspect():
                self._work(500, action)
            case Evict(pages=pages) | Reclaim(pages=pages):
                self._work(max(100, pages * 1000 * self.slower // PAGES_PER_MS), action)
            case Age(targets):
                self._work(2_000 * len(targets), action)
            case ReadFragmentation():
                self._work(1_000, action)
            case Compact():
                self._work(self.compact_us, action)
            case Arm(path, triggers):
                self._armed[path] = triggers
            case Disarm(path):
                del self._armed[path]
            case ReadPressure(path):
                self._waiting.append(StallSeen(self._sample(path)))
            case BreakOff():
                self._break_off()
            case ReadCapabilities():
                self._waiting.append(self.guest)

    def _work(self, takes_us: int, action: Action) -> None:
        assert self._worker is None, "one thing at a time"
        self._worker = (self.now + takes_us, action, self.now, "done")

    def _break_off(self) -> None:
        if self._worker and isinstance(self._worker[1], Evict | Reclaim | Compact):
            ends, action, began, _ = self._worker
            if ends > self.now + 500:
                self._worker = (self.now + 500, action, began, "broken_off")

    def _answer(self) -> None:
        assert self._worker is not None
        _, action, began, outcome = self._worker
        self._worker = None
        match action:
            case Survey():
                views = tuple(self._view(memcg) for memcg in self.memcgs.values())
                lost = self.out_of_reach_pages
                self.tell(Surveyed(views, self._sample(), self.survey_fails, lost))
            case Inspect(path):
                self.tell(Inspected(path, self._inspection(path)))
            case Age(targets):
                results = tuple(self._age(target) for target in targets)
                self.tell(AgingEnded(results, self._sample()))
            case Evict() | Reclaim():
                self._finish_write(action, outcome, self.now - began)
            case ReadFragmentation(order, with_movable):
                self.tell(self._in_pieces(order, with_movable=with_movable))
            case Compact():
                self.tell(self._compacted(action, outcome, self.now - began))
            case _:
                raise AssertionError(action)

    def _in_pieces(self, order: int | str, *, with_movable: bool) -> Fragmentation:
        found = order if isinstance(order, int) else self.kernel_order
        free = sum(zone.small + zone.blocks * 512 for zone in self.zones)
        small = sum(zone.small for zone in self.zones)
        movable = small if with_movable and self.movable else None
        views = tuple(zone.view() for zone in self.zones)
        sample = self._sample()
        return Fragmentation(views, found, free * PAGE, movable, PAGE, sample, self.unreadable)

    def _compacted(self, action: Compact, outcome: Outcome, took_us: int) -> CompactionEnded:
        if outcome == "done":
            outcome = self.compact_ends
        moved = 0
        if outcome == "done":
            moved = sum(zone.gather() for zone in self.zones if zone.node == action.node)
        movable = action.with_movable and outcome == "done"
        after = self._in_pieces(action.order, with_movable=movable) if self.tells_after else None
        return CompactionEnded(action.node, outcome, took_us, moved, after)

    def _view(self, memcg: Memcg) -> MemcgView:
        self._come_back(memcg)
        own = self._stalled(memcg.path, self.now)
        mglru = self.guest.evicts == "mglru"
        nodes = tuple(
            NodeView(node, lruvec.generations(self.now)) for node, lruvec in memcg.nodes.items()
        )
        current = (memcg.total("anon") + memcg.total("file")) * PAGE
        return MemcgView(
            memcg.path,
            memcg.inode,
            memcg.inode,
            own,
            0,
            nodes if mglru else (),
            current,
            memcg.promoted,
        )

    def _inspection(self, path: str) -> Inspection | None:
        memcg = self.memcgs.get(path)
        if memcg is None:
            return None
        self._come_back(memcg)
        file = memcg.total("file")
        dirty = sum(p.pages for v in memcg.nodes.values() for p in v.held if p.dirty)
        return Inspection(
            path=path,
            pressure=self._sample(path),
            guards=tuple(self._guards(path)),
            anon_bytes=memcg.total("anon") * PAGE,
            file_bytes=file * PAGE,
            dirty_bytes=dirty * PAGE,
            unevictable_bytes=0,
            evicted_total_pages=memcg.evicted,
            refault_total_pages=memcg.refaults,
            swap_free_bytes=self.swap_free,
            zram_stored_bytes=self.zram[0],
            zram_used_bytes=self.zram[1],
            limit_bytes=memcg.limit_bytes,
            frozen=memcg.frozen,
            throttled_total=memcg.throttled,
            oom_total=memcg.oom,
        )

    def _come_back(self, memcg: Memcg) -> None:
        """What a pread workload lost was read again by the time anybody looks."""
        if memcg.returning and self.now - self._last_write(memcg) > SECOND:
            memcg.refaults += memcg.returning
            lruvec = memcg.nodes[0]
            again = Pages("file", memcg.returning, lruvec.min_seq + 1, hot=True, pread=True)
            lruvec.held.append(again)
            memcg.returning = 0

    def _last_write(self, memcg: Memcg) -> int:
        times = [
            at
            for at, action in self.actions
            if isinstance(action, Evict | Reclaim) and action.path == memcg.path
        ]
        return times[-1] if times else 0

    def _guards(self, path: str) -> Iterator[Guard]:
        while path != "/":
            if path in self.memcgs:
                yield Guard(path, self.current_bytes(path), self.memcgs[path].low_bytes)
            path = path[: path.rfind("/")] or "/"

    def current_bytes(self, path: str) -> int:
        """With all below it."""
        return PAGE * sum(
            memcg.total("anon") + memcg.total("file")
            for known, memcg in self.memcgs.items()
            if known == path or known.startswith(path + "/")
        )

    def _age(self, target: AgeTarget) -> AgeResult:
        memcg = self.memcgs.get(target.path)
        if memcg is None or memcg.inode != target.inode:
            return AgeResult(target.path, target.node, "vanished")
        self._come_back(memcg)
        if target.path not in self.ages_in_vain:
            memcg.nodes[target.node].age(self.now)
        return AgeResult(target.path, target.node, "done")

    def _finish_write(self, action: Action, outcome: Outcome, took_us: int) -> None:
        assert isinstance(action, Evict | Reclaim)
        memcg = self.memcgs.get(action.path)
        node = action.node if isinstance(action, Evict) else 0
        if memcg is None or memcg.inode != action.inode:
            self.tell(BatchEnded(action.path, node, action.pages, "vanished", None))
            return
        took = took_us * PAGES_PER_MS // 1000 // self.slower + BATCH
        pages = min(-(-action.pages // BATCH) * BATCH, took)
        if action.path in self.refuses:
            outcome, pages = "refused", 0
        self._evict(memcg, action, node, pages)
        memcg.writes.append(action)
        after = self._inspection(action.path)
        self.tell(BatchEnded(action.path, node, action.pages, outcome, after, took_us))

    def _evict(self, memcg: Memcg, action: Evict | Reclaim, node: int, pages: int) -> None:
        lruvec = memcg.nodes[node]
        upto = action.seq if isinstance(action, Evict) else lruvec.max_seq
        kinds = {0: ("file",), 200: ("anon", "file"), 201: ("anon",), -1: ("file",)}.get(
            action.swappiness, ("file", "anon")
        )
        for kind in kinds:
            ends = self._ends_at(lruvec, action, upto) if kind == "anon" else upto
            for held in sorted(lruvec.held, key=lambda p: p.seq):
                if held.kind == kind and held.seq <= ends and pages > 0:
                    if held.dirty or held.in_use:
                        continue
                    took = min(pages, held.pages)
                    held.pages -= took
                    pages -= took
                    self._lost(memcg, held, took)
        lruvec.held = [held for held in lruvec.held if held.pages]

    def _ends_at(self, lruvec: Lruvec, action: Evict | Reclaim, upto: int) -> int:
        """From 6.14 on anon's younger generations go as long as file's old ones are there."""
        behind = any(held.kind == "file" and held.seq <= upto for held in lruvec.held)
        if self.guest.anon_alone == "200" or action.swappiness > 200 or not behind:
            return upto
        return lruvec.max_seq - 2 if isinstance(action, Evict) else upto

    def _lost(self, memcg: Memcg, held: Pages, took: int) -> None:
        memcg.evicted += took
        if self.frees_into is not None:
            self.frees_into.take_back(took, scattered=self.scatters)
        if held.kind == "anon":
            self.swap_free -= took * PAGE
            assert self.swap_free >= 0
        if held.pread and held.hot:
            memcg.returning += took

    def codes(self, path: str = "", verdict: str | None = None) -> list[str]:
        """The reasons of the decisions on one memcg, in their order."""
        return [
            decision.because.code
            for _, decision in self.decisions
            if decision.path == path and verdict in {None, decision.verdict}
        ]

    def count_doing(self, kind: type[Action]) -> int:
        """Whether the worker does this now: 0 or 1."""
        return int(self._worker is not None and isinstance(self._worker[1], kind))

    def count(self, kind: type[Action]) -> int:
        """How often this was done."""
        return sum(isinstance(action, kind) for _, action in self.actions)
