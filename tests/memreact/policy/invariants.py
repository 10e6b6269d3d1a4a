"""What holds after every step, whatever happened."""

from __future__ import annotations

import msgspec

from memreact.actions import (
    Action,
    Age,
    Arm,
    Because,
    Compact,
    Decision,
    Disarm,
    Evict,
    Inspect,
    ReadFragmentation,
    Reclaim,
    Survey,
)
from memreact.events import (
    AgingEnded,
    BatchEnded,
    CapabilitiesRead,
    CompactionEnded,
    Event,
    Fragmentation,
    Inspected,
    Instant,
    Surveyed,
    TimerFired,
)
from memreact.policy.plan import forbidden, is_within
from memreact.policy.protection import reclaimable_bytes
from memreact.policy.squeeze import evicted_pages, left_pages
from memreact.policy.state import State, Step, Work
from memreact.policy.step import step
from memreact.rules import Rules, rules_for

WORK = (Survey, Inspect, Evict, Reclaim, Age, ReadFragmentation, Compact)
MOST_BYTES = 64 << 20
DAY_US = 86_400_000_000

_ACTION = msgspec.json.Decoder(Action)
_EVENT = msgspec.json.Decoder(Event)
_DECISION = msgspec.json.Decoder(Decision)


def answers(event: Event, doing: Work) -> bool:
    """Whether this event tells how that work ended."""
    match doing:
        case Survey():
            return isinstance(event, Surveyed)
        case Inspect(path):
            return isinstance(event, Inspected) and event.path == path
        case Evict(path=path) | Reclaim(path=path):
            return isinstance(event, BatchEnded) and event.path == path
        case Age():
            return isinstance(event, AgingEnded)
        case ReadFragmentation():
            return isinstance(event, Fragmentation)
        case Compact(node=node):
            return isinstance(event, CompactionEnded) and event.node == node


class Watched:
    """Steps, and holds each step to what must always be true."""

    def __init__(self, rules: Rules) -> None:
        self.state = State()
        self.rules = rules
        self.armed: set[str] = set()
        self.wake_at: Instant | None = None

    def step(self, event: Event, now: Instant) -> Step:
        """One step, looked at from all sides."""
        before = self.state
        made = step(before, event, self.rules, now)
        assert _EVENT.decode(msgspec.json.encode(event)) == event
        self._check_records(made)
        self._check_work(before, event, made, now)
        for action in made.actions:
            self._follow_triggers(action)
        self._check_hold(made.state, now)
        self._check_scope(made)
        self._check_squeeze(before, made, now)
        self._check_keep(before, made, now)
        self._check_quiet(made, event, now)
        self.state, self.wake_at = made.state, made.wake_at
        return made

    def _check_records(self, made: Step) -> None:
        for action in made.actions:
            assert _ACTION.decode(msgspec.json.encode(action)) == action
        for decision in made.decisions:
            assert _DECISION.decode(msgspec.json.encode(decision)) == decision
            assert isinstance(decision.because, Because)
            assert decision.because.code

    def _check_work(self, before: State, event: Event, made: Step, now: Instant) -> None:
        work = [action for action in made.actions if isinstance(action, WORK)]
        if not work:
            return
        assert len(work) == 1, "one thing at a time"
        after = made.state.turn
        assert after is not None
        assert after.doing == work[0]
        if before.turn is not None and before.turn.doing is not None:
            assert answers(event, before.turn.doing), "one thing at a time"
        assert made.state.pause is None, "no work while paused"
        assert made.state.hold is None, "no work while held"
        assert now >= after.hold_until, "no work before a hold is over"
        assert not made.state.stopping, "nothing new at the end"
        compacts = isinstance(work[0], ReadFragmentation | Compact)
        assert compacts == (after.compaction is not None), "never two jobs at once"
        assert compacts or made.state.due, "no work where none is due"
        if isinstance(work[0], Compact):
            self._check_compaction(made, work[0], now)
        if isinstance(work[0], Evict | Reclaim):
            self._check_write(made.state, work[0], now)
        if isinstance(work[0], Age):
            for target in work[0].targets:
                self._check_allowed(made.state, target.path, target.inode, target.node, now)

    def _check_compaction(self, made: Step, write: Compact, now: Instant) -> None:
        mine, guest, turn = self.rules.compact, made.state.guest, made.state.turn
        assert guest is not None
        assert guest.compacts
        assert guest.idle_because is None
        assert not mine.disabled
        assert now < write.ends_by <= now + mine.longest_us
        arms = [n for n, a in enumerate(made.actions) if isinstance(a, Arm) and not a.path]
        assert "" in self.armed or (arms and arms[0] < made.actions.index(write)), "armed first"
        assert turn is not None
        assert turn.eviction is None
        assert made.state.compact.due is not None

    def _check_allowed(self, state: State, path: str, inode: int, node: int, now: Instant) -> None:
        memcg, guest = state.memcgs[path], state.guest
        assert guest is not None
        assert memcg.inode == inode
        assert forbidden(memcg, rules_for(self.rules, path, node), guest.own_path, now) is None

    def _check_write(self, state: State, write: Evict | Reclaim, now: Instant) -> None:
        node = write.node if isinstance(write, Evict) else 0
        self._check_allowed(state, write.path, write.inode, node, now)
        mine, guest, turn = rules_for(self.rules, write.path, node), state.guest, state.turn
        assert guest is not None
        assert turn is not None
        assert turn.eviction is not None
        assert (write.path, node) not in turn.dropped
        saw = turn.eviction.last
        assert saw is not None
        assert not saw.frozen
        asked_bytes = write.pages * guest.page_bytes
        assert 0 < asked_bytes <= MOST_BYTES
        anon = write.swappiness != 0
        spare, _ = reclaimable_bytes(saw, mine, guest.page_bytes, anon=anon)
        assert spare is None or asked_bytes <= spare, "protection is a promise"
        self._check_kept(saw, mine.floor_bytes, asked_bytes, anon=anon)
        view = state.memcgs[write.path].view
        if isinstance(write, Evict) and view is not None:
            generations = next(n.generations for n in view.nodes if n.node == node)
            assert write.seq <= generations[-1].seq - 2, "the two youngest are never asked for"
            assert write.swappiness == 0 or mine.swap
        self._check_kind(write, guest)

    def _check_kind(self, write: Evict | Reclaim, guest: CapabilitiesRead) -> None:
        """No write takes a kind that it cannot keep apart on this kernel."""
        if isinstance(write, Reclaim):
            assert guest.reclaim_takes_swappiness or write.swappiness == -1
            assert write.swappiness <= 200
            return
        alone = {"max": {0, 201}, "after_file": {0, 200}, "200": set(range(201))}
        assert write.swappiness in alone[guest.anon_alone]

    def _check_kept(self, saw: object, floor: int, asked_bytes: int, *, anon: bool) -> None:
        """The promise once more, in its own words."""
        guards = saw.guards  # type: ignore[attr-defined]
        largest = max(saw.folio_bytes, saw.anon_folio_bytes if anon else 0)  # type: ignore[attr-defined]
        overshoot = 63 * 4096 + largest
        for at, guard in enumerate(guards):
            kept = max(guard.protected_bytes, floor if at == 0 else 0)
            assert not kept or guard.current_bytes - asked_bytes - overshoot >= kept

    def _check_hold(self, state: State, now: Instant) -> None:
        """A hold ends by itself, and something wakes us for it."""
        hold = state.hold
        if hold is None or state.stopping:
            return
        assert hold.since <= now < hold.until <= now + DAY_US
        assert not state.turn or not state.turn.armed, "nothing is armed while nothing is done"

    def _check_scope(self, made: Step) -> None:
        """A turn for one memcg touches nothing outside of it."""
        turn = made.state.turn
        if turn is None or turn.within is None:
            return
        for action in made.actions:
            match action:
                case Evict(path=path) | Reclaim(path=path) | Inspect(path):
                    assert is_within(path, turn.within)
                case Age(targets):
                    assert all(is_within(target.path, turn.within) for target in targets)

    def _check_squeeze(self, before: State, made: Step, now: Instant) -> None:
        """One at a time; told once when it is over; nothing new after that or its deadline."""
        squeeze, turn = made.state.squeeze, made.state.turn
        told = sum(decision.verdict == "squeezed" for decision in made.decisions)
        if before.squeeze is not None:
            quietly = before.squeeze.at_least_pages is not None and evicted_pages(before) == 0
            assert told == (squeeze is None) or (quietly and not told)
            same = squeeze is None or squeeze.asked_at == before.squeeze.asked_at
            assert same, "a second one never takes the place of the first"
        work = [action for action in made.actions if isinstance(action, WORK)]
        if squeeze is None:
            assert not work or turn is None or not turn.squeezes, "over is over"
            return
        if not made.state.stopping and (turn is None or turn.doing is None or not squeeze.ends):
            assert squeeze.ends is None
            assert made.wake_at is not None
            assert made.wake_at <= squeeze.deadline, "it always ends"
        if work:
            assert squeeze.ends is None
            assert now < squeeze.deadline, "no overrun but by what is under way"
            assert turn is not None
            assert turn.squeezes, "nothing of its own beside it"
        for write in work:
            if isinstance(write, Evict | Reclaim):
                self._check_target(before, made.state, write)
            if isinstance(write, Compact):
                assert write.ends_by <= squeeze.deadline

    def _check_keep(self, before: State, made: Step, now: Instant) -> None:
        """What is kept ends by itself, and only a squeeze that was asked for begins it."""
        keep, turn = made.state.keep, made.state.turn
        if keep is None or made.state.stopping:
            return
        assert keep.since <= now < keep.until <= keep.since + DAY_US
        if before.keep is None:
            assert before.squeeze is not None
            assert before.squeeze.hold_us
        if turn is None or turn.doing is None:
            assert made.wake_at is not None
            assert made.wake_at <= keep.until, "it always ends"

    def _check_target(self, before: State, state: State, write: Evict | Reclaim) -> None:
        left = left_pages(state)
        if left is not None:
            assert left > 0, "never past its target"
            assert write.pages <= max(64, left), "not by more than a batch of the kernel's"
        assert before.squeeze is not None

    def _follow_triggers(self, action: Action) -> None:
        if isinstance(action, Arm):
            assert action.triggers
            self.armed.add(action.path)
        if isinstance(action, Disarm):
            assert action.path in self.armed, "only what is armed is disarmed"
            self.armed.discard(action.path)

    def _check_quiet(self, made: Step, event: Event, now: Instant) -> None:
        turn = made.state.turn
        eviction = turn.eviction if turn else None
        for path in self.armed - {""}:
            assert eviction is not None, "armed only while it is evicted"
            assert eviction.armed
            assert path == eviction.candidate.path
        if turn is None:
            assert not self.armed
        if made.state.stopping:
            return
        if made.state.hold is not None and (turn is None or turn.doing is None):
            assert made.wake_at is not None
            assert made.wake_at <= made.state.hold.until, "a hold always ends"
        looks_at = made.state.compact.due
        if (made.state.due or looks_at is not None) and (turn is None or turn.doing is None):
            assert made.wake_at is not None, "no timer is lost"
        if turn is None and made.state.hold is None and looks_at is not None:
            assert made.wake_at is not None
            assert made.wake_at <= looks_at
        if turn is not None and isinstance(turn.doing, Compact):
            assert made.wake_at is not None, "a compaction always ends"
        if turn is not None and turn.doing is None:
            assert made.wake_at is not None
            late = made.state.pause is not None and not isinstance(event, TimerFired)
            assert late or made.wake_at > now, "no loop without a delay"
