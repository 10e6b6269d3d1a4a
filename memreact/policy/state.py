"""All that the policy remembers, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from memreact.actions import Action, AgeTarget, Because, Decision
from memreact.events import CapabilitiesRead, Inspection, Instant, MemcgView, PressureSample
from memreact.policy.pressure import Samples, remember
from memreact.policy.refault import Appetite

__all__ = [
    "START",
    "Candidate",
    "Counters",
    "Eviction",
    "Memcg",
    "Pause",
    "Stage",
    "State",
    "Step",
    "Turn",
    "decided",
    "nothing",
    "sampled",
    "with_memcg",
]

START = Instant(0)
"""Before anything happened."""

Stage = Literal["survey", "evict", "age", "close"]


@dataclass(frozen=True, slots=True)
class Counters:
    """What was done to one memcg since it appeared, and why no more; they only grow."""

    agings: int = 0
    evicted_pages: int = 0
    evictions: int = 0
    because: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Memcg:
    """One memcg: what it is, and what the last turns taught about it."""

    path: str
    inode: int
    populated: bool = True
    frozen: bool = False
    stall_us: tuple[int, int] | None = None
    stall_at: Instant = START
    appetite: Appetite = field(default_factory=Appetite)
    away_until: Instant = START
    oom_total: int | None = None
    counters: Counters = field(default_factory=Counters)
    last: Decision | None = None
    view: MemcgView | None = None
    viewed_at: Instant = START


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memcg on a node with pages that may go this turn."""

    path: str
    inode: int
    memcg_id: int
    node: int
    seq: int
    anon_pages: int
    file_pages: int

    @property
    def pages(self) -> int:
        """Both kinds together."""
        return self.anon_pages + self.file_pages


@dataclass(frozen=True, slots=True)
class Eviction:
    """The eviction of one candidate, from its first reading to its last write."""

    candidate: Candidate
    started_at: Instant
    first: Inspection | None = None
    last: Inspection | None = None
    allowed_pages: int = 0
    write_ends_by: Instant = START
    anon_only: bool = False
    armed: bool = False

    @property
    def evicted_pages(self) -> int:
        """What the kernel counted as evicted since the first reading."""
        if self.first is None or self.last is None:
            return 0
        return max(0, self.last.evicted_total_pages - self.first.evicted_total_pages)


@dataclass(frozen=True, slots=True)
class Turn:
    """One pass: evict what is cold, then age."""

    started_at: Instant
    periods: frozenset[int]
    only: frozenset[str] | None = None
    stage: Stage = "survey"
    candidates: tuple[Candidate, ...] = ()
    agings: tuple[AgeTarget, ...] = ()
    aging: tuple[AgeTarget, ...] = ()
    eviction: Eviction | None = None
    in_flight: bool = False
    plan_again: bool = False
    dropped: frozenset[tuple[str, int]] = frozenset()
    done: frozenset[tuple[str, int]] = frozenset()
    armed: bool = False
    worked: bool = False
    evicted_pages: int = 0
    aged: int = 0
    surveys: int = 0
    hold_until: Instant = START


@dataclass(frozen=True, slots=True)
class Pause:
    """We stay away: the guest is being hurt, and not by what we can see of ourselves."""

    since: Instant
    check_at: Instant
    because: Because
    checks: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """The whole of it."""

    guest: CapabilitiesRead | None = None
    memcgs: Mapping[str, Memcg] = field(default_factory=lambda: MappingProxyType({}))
    due: Mapping[int, Instant] = field(default_factory=lambda: MappingProxyType({}))
    emptied: frozenset[str] = frozenset()
    emptied_due: Instant = START
    turn: Turn | None = None
    turns: int = 0
    turn_ended_at: Instant = START
    pause: Pause | None = None
    samples: Samples = ()
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One decision: the state after it, what to do, when to wake, and why."""

    state: State
    actions: tuple[Action, ...] = ()
    decisions: tuple[Decision, ...] = ()
    wake_at: Instant | None = None

    def then(self, later: Step) -> Step:
        """This step, followed by one that was decided on its state."""
        return Step(
            later.state,
            (*self.actions, *later.actions),
            (*self.decisions, *later.decisions),
        )


def nothing(state: State) -> Step:
    """Nothing to do and nothing to say."""
    return Step(state)


def with_memcg(state: State, memcg: Memcg) -> State:
    """The state with this memcg in place of what stood under its path."""
    return replace(state, memcgs={**state.memcgs, memcg.path: memcg})


def decided(state: State, decisions: tuple[Decision, ...]) -> State:
    """Remember the last decision on each memcg, and count its reason."""
    changed: dict[str, Memcg] = {}
    for decision in decisions:
        memcg = changed.get(decision.path) or state.memcgs.get(decision.path)
        if memcg is not None:
            changed[decision.path] = _counted(memcg, decision)
    return replace(state, memcgs={**state.memcgs, **changed}) if changed else state


def sampled(state: State, sample: PressureSample, window_us: int) -> State:
    """Remember a pressure reading."""
    return replace(state, samples=remember(state.samples, sample, window_us))


def _counted(memcg: Memcg, decision: Decision) -> Memcg:
    code = decision.because.code
    because = {**memcg.counters.because, code: memcg.counters.because.get(code, 0) + 1}
    return replace(memcg, last=decision, counters=replace(memcg.counters, because=because))
