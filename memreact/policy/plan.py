"""What one turn is going to do, from one survey: who is evicted, who is aged, who is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from memreact.actions import AgeTarget, Because, Decision
from memreact.events import Instant, MemcgView, NodeView, Surveyed
from memreact.policy.generations import (
    agings_until_cold,
    cold_seq,
    emptied_seq,
    pages_up_to,
    spacing_us,
    too_young,
)
from memreact.policy.state import Candidate, Memcg, State, Turn
from memreact.rules import MemcgRules, Rules, rules_for

__all__ = ["LEAST_PAGES", "Plan", "own_stalls", "plan", "with_baselines"]

# The kernel evicts in batches of 64 folios: less than one is not worth its readings.
LEAST_PAGES = 64
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a turn in its order, and why the rest is left alone."""

    candidates: tuple[Candidate, ...]
    agings: tuple[AgeTarget, ...]
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class _Subject:
    """One memcg on one node, with all that a rule looks at."""

    view: MemcgView
    node: NodeView
    memcg: Memcg
    rules: MemcgRules
    stall_us: tuple[int, int]


def plan(state: State, turn: Turn, survey: Surveyed, rules: Rules, now: Instant) -> Plan:
    """Order the turn: the largest eviction first, then the smallest aging.

    An eviction can be broken off and brings most when it is large; an aging cannot be broken off.
    """
    candidates: list[Candidate] = []
    agings: list[tuple[int, AgeTarget]] = []
    decisions: list[Decision] = []
    for subject in _subjects(state, turn, survey, rules):
        found = _judge(state, turn, subject, now)
        if isinstance(found, Candidate):
            candidates.append(found)
        else:
            decisions.append(Decision("leave", found, subject.view.path, subject.node.node))
        if turn.only is None and _may_age(found, subject):
            agings.append((_pages(subject.node), _age_target(subject)))
    candidates.sort(key=lambda candidate: -candidate.pages)
    agings.sort(key=lambda aging: aging[0])
    return Plan(tuple(candidates), tuple(target for _, target in agings), tuple(decisions))


def own_stalls(memcgs: tuple[MemcgView, ...]) -> dict[str, tuple[int, int]]:
    """Each memcg's memory and io stall without its children's, by path, never below 0."""
    children: dict[str, tuple[int, int]] = {}
    for view in memcgs:
        if view.path != "/":
            parent = view.path.rpartition("/")[0] or "/"
            memory, io = children.get(parent, (0, 0))
            children[parent] = (memory + view.memory_stall_us, io + view.io_stall_us)
    return {view.path: _own(view, children.get(view.path, (0, 0))) for view in memcgs}


def _own(view: MemcgView, children: tuple[int, int]) -> tuple[int, int]:
    memory, io = children
    return max(0, view.memory_stall_us - memory), max(0, view.io_stall_us - io)


def _subjects(state: State, turn: Turn, survey: Surveyed, rules: Rules) -> Iterator[_Subject]:
    stalls = own_stalls(survey.memcgs)
    for view in survey.memcgs:
        memcg = state.memcgs.get(view.path)
        if memcg is None or memcg.inode != view.inode or not _wanted(turn, view.path):
            continue
        for node in view.nodes:
            mine = rules_for(rules, view.path, node.node)
            if turn.only is not None or mine.period_us in turn.periods:
                yield _Subject(view, node, memcg, mine, stalls[view.path])


def _wanted(turn: Turn, path: str) -> bool:
    return turn.only is None or path in turn.only


def _judge(state: State, turn: Turn, subject: _Subject, now: Instant) -> Candidate | Because:
    key = (subject.view.path, subject.node.node)
    if key in turn.dropped:
        return Because("stalled_this_turn")
    if key in turn.done:
        return Because("had_its_turn")
    return _left_alone(state, turn, subject, now) or _cold(subject)


def _left_alone(state: State, turn: Turn, subject: _Subject, now: Instant) -> Because | None:
    memcg, rules = subject.memcg, subject.rules
    if rules.disabled:
        return Because("disabled")
    if state.guest is not None and _is_or_below(memcg.path, state.guest.own_path):
        return Because("memreact_itself")
    if memcg.frozen:
        return Because("frozen")
    if memcg.away_until > now:
        return Because("after_oom", {"left_us": memcg.away_until - now})
    return _period_stall(turn, subject, now)


def _is_or_below(path: str, top: str) -> bool:
    return top != "/" and (path == top or path.startswith(top + "/"))


def _period_stall(turn: Turn, subject: _Subject, now: Instant) -> Because | None:
    """The idle phase's own limit; a memcg that was never seen before has only a baseline."""
    memcg, rules = subject.memcg, subject.rules
    if memcg.stall_us is None or memcg.stall_at >= turn.started_at:
        return None
    stall = sum(
        max(0, new - old) for new, old in zip(subject.stall_us, memcg.stall_us, strict=True)
    )
    elapsed = max(1, now - memcg.stall_at)
    if stall * _PPM <= rules.period_limit_ppm * elapsed:
        return None
    saw: dict[str, int | str] = {"stall_us": stall, "over_us": elapsed}
    return Because("period_stall_over_limit", {**saw, "limit_ppm": rules.period_limit_ppm})


def _cold(subject: _Subject) -> Candidate | Because:
    view, node, rules = subject.view, subject.node, subject.rules
    if not node.generations:
        return Because("no_generations")
    seq = _seq(subject)
    if seq is None:
        return _not_yet(subject)
    anon, file = pages_up_to(node.generations, seq)
    anon = anon if rules.swap else 0
    if anon + file < LEAST_PAGES:
        return Because("too_little_cold", {"cold_pages": anon + file, "seq": seq})
    return Candidate(view.path, view.inode, view.memcg_id, node.node, seq, anon, file)


def _seq(subject: _Subject) -> int | None:
    generations, rules = subject.node.generations, subject.rules
    if not subject.memcg.populated:
        return emptied_seq(generations)
    return cold_seq(generations, rules.aging_count_min * rules.period_us)


def _not_yet(subject: _Subject) -> Because:
    generations, rules = subject.node.generations, subject.rules
    periods = agings_until_cold(generations, rules.period_us, rules.aging_count_min)
    return Because("nothing_cold_yet", {"possible_in_us": periods * rules.period_us})


def _may_age(found: Candidate | Because, subject: _Subject) -> bool:
    waits = isinstance(found, Candidate) or found.code in {
        "nothing_cold_yet",
        "too_little_cold",
        "had_its_turn",
    }
    rules, generations = subject.rules, subject.node.generations
    if not waits or not generations or not _pages(subject.node):
        return False
    return not too_young(generations, spacing_us(rules.period_us, rules.aging_count_min))


def _pages(node: NodeView) -> int:
    return sum(generation.pages for generation in node.generations)


def _age_target(subject: _Subject) -> AgeTarget:
    view, node = subject.view, subject.node
    max_seq = node.generations[-1].seq
    return AgeTarget(view.path, view.inode, view.memcg_id, node.node, max_seq, subject.rules.swap)


def with_baselines(state: State, survey: Surveyed, now: Instant) -> State:
    """Start the next idle phase's stall count for every memcg, and keep what was seen."""
    stalls = own_stalls(survey.memcgs)
    changed = {
        view.path: replace(
            memcg, stall_us=stalls[view.path], stall_at=now, view=view, viewed_at=now
        )
        for view in survey.memcgs
        if (memcg := state.memcgs.get(view.path)) and memcg.inode == view.inode
    }
    return replace(state, memcgs={**state.memcgs, **changed})
