"""What one turn is going to do, from one survey: who is evicted, who is aged, who is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from msgspec import structs

from memreact.actions import AgeTarget, Because, Decision
from memreact.events import CapabilitiesRead, Instant, MemcgView, NodeView, Surveyed
from memreact.policy.generations import (
    KEPT,
    agings_until_cold,
    cold_seq,
    emptied_seq,
    pages_up_to,
    ripe,
    spacing_us,
    too_young,
)
from memreact.policy.promotion import (
    Promotions,
    judged,
    measured,
    own_promotions,
    workingset_pages,
)
from memreact.policy.state import Candidate, Key, Memcg, State, Turn
from memreact.rules import MemcgRules, Rules, rules_for
from memreact.value import Struct, replace

__all__ = [
    "LEAST_PAGES",
    "RECLAIM_SEQ",
    "SQUEEZE_AGINGS",
    "Plan",
    "forbidden",
    "is_within",
    "own_stalls",
    "period_stall",
    "plan",
    "still_to_age",
    "with_baselines",
]

# The kernel evicts in batches of 64 folios: less than one is not worth its readings.
LEAST_PAGES = 64
SQUEEZE_AGINGS = 2
"""The two youngest generations are never evicted: after so many agings what nobody touched is in
neither of them."""

RECLAIM_SEQ = -1
"""Stands for the generations of a candidate of the rung below, which has none."""

_PPM = 1_000_000
_STALLED = "period_stall_over_limit"
# Those that are left alone are not aged either, but for these reasons.
_WAITS = frozenset({"ages_first", "had_its_turn", "nothing_cold_yet", "too_little_cold"})


class Plan(Struct, frozen=True):
    """The work of a turn in its order, and why the rest is left alone.

    Args:
        candidates: The largest eviction first: it can be broken off, and brings most. Where a
            squeeze goes beyond what is cold, the coldest first.
        agings: The smallest first: an aging cannot be broken off.
        decisions: One for each that is not a candidate.
        dropped: Those whose idle phase stalled: no more is done to them in this turn.
        ripening: Whether one of the agings makes something cold at once.
    """

    candidates: tuple[Candidate, ...]
    agings: tuple[AgeTarget, ...]
    decisions: tuple[Decision, ...]
    dropped: frozenset[Key]
    ripening: bool


class _Subject(Struct, frozen=True):
    """One memcg on one node, with all that a rule looks at."""

    view: MemcgView
    node: NodeView
    memcg: Memcg
    rules: MemcgRules
    stall_us: tuple[int, int]
    due: bool
    promoted: Promotions | None

    @property
    def key(self) -> Key:
        return self.view.path, self.node.node


def plan(state: State, turn: Turn, survey: Surveyed, rules: Rules, now: Instant) -> Plan:
    """Decide on every memcg and node whose turn it is."""
    candidates: list[Candidate] = []
    agings: list[tuple[int, AgeTarget]] = []
    decisions: list[Decision] = []
    ripening = False
    beyond = _beyond(state, turn)
    for subject in _subjects(state, turn, survey, rules, now):
        found = _judge(state, turn, subject, rules, now)
        if isinstance(found, tuple):
            candidates.extend(found)
        else:
            decisions.append(Decision("leave", found, *subject.key))
            ripening = ripening or found.code == "ages_first"
        if _may_age(found, subject, beyond=beyond and _more_agings(state)):
            agings.append((_pages(subject.node), _age_target(subject)))
    candidates.sort(key=lambda candidate: (-candidate.idle_us, -candidate.pages))
    agings.sort(key=lambda aging: aging[0])
    stalled = frozenset(
        (d.path, d.node) for d in decisions if d.because.code == _STALLED and d.node is not None
    )
    targets = tuple(target for _, target in agings)
    return Plan(tuple(candidates), targets, tuple(decisions), stalled, ripening)


def forbidden(memcg: Memcg, mine: MemcgRules, own_path: str, now: Instant) -> Because | None:
    """Why nothing at all may be done to a memcg now, whatever its pages look like."""
    if mine.disabled:
        return Because("disabled")
    if _is_ours(memcg.path, own_path):
        return Because("memreact_itself")
    if memcg.frozen:
        return Because("frozen")
    if memcg.away_until > now:
        return Because("after_oom", {"left_us": memcg.away_until - now})
    return None


def is_within(path: str, top: str) -> bool:
    """Whether a memcg is `top` or below it."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def own_stalls(memcgs: tuple[MemcgView, ...]) -> dict[str, tuple[int, int]]:
    """Each memcg's memory and io stall without its children's, by path, never below 0.

    A child that cannot be read counts nothing, so its stall is its parent's.
    """
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


def _is_ours(path: str, own_path: str) -> bool:
    return path == own_path or (own_path != "/" and path.startswith(own_path + "/"))


def _subjects(
    state: State, turn: Turn, survey: Surveyed, rules: Rules, now: Instant
) -> Iterator[_Subject]:
    alive = _alive(state, survey)
    stalls, promotions = own_stalls(alive), _promotions(state, turn, alive, rules, now)
    below = state.guest is not None and state.guest.evicts == "memory.reclaim"
    whole = (NodeView(0, ()),)
    for view in alive:
        memcg = state.memcgs[view.path]
        if turn.within is not None and not is_within(view.path, turn.within):
            continue
        for node in whole if below or not view.nodes else view.nodes:
            mine = rules_for(rules, view.path, node.node)
            due = turn.within is not None or mine.period_us in turn.periods
            if due or view.path in turn.emptied:
                stall_us, promoted = stalls[view.path], promotions[view.path]
                yield _Subject(view, node, memcg, mine, stall_us, due, promoted)


def _promotions(
    state: State, turn: Turn, alive: tuple[MemcgView, ...], rules: Rules, now: Instant
) -> dict[str, Promotions | None]:
    """What came back from swap to each memcg since its last turn."""
    totals, limit = own_promotions(alive), rules.promotion_limit_ppm_per_min
    found: dict[str, Promotions | None] = {}
    page_bytes = state.guest.page_bytes if state.guest else 1
    for view in alive:
        mine = rules_for(rules, view.path, view.nodes[0].node if view.nodes else 0)
        touched = workingset_pages(view, mine, page_bytes)
        lore, total = state.memcgs[view.path].promotion, totals[view.path]
        found[view.path] = measured(lore, total, touched, limit, began=turn.started_at, now=now)
    return found


def _alive(state: State, survey: Surveyed) -> tuple[MemcgView, ...]:
    """Those that are still what the survey saw: the stall of one that went was accounted for."""
    known = state.memcgs
    return tuple(v for v in survey.memcgs if v.path in known and known[v.path].inode == v.inode)


def _beyond(state: State, turn: Turn) -> bool:
    """Whether it is for a squeeze that asks for more than what is cold."""
    return turn.squeezes and state.squeeze is not None and state.squeeze.target_pages is not None


def _more_agings(state: State) -> bool:
    """Whether a squeeze may age sooner than a turn would; one for what is kept comes too often."""
    squeeze = state.squeeze
    if squeeze is None or squeeze.at_least_pages is not None:
        return False
    return squeeze.agings < SQUEEZE_AGINGS


def _judge(
    state: State, turn: Turn, subject: _Subject, rules: Rules, now: Instant
) -> tuple[Candidate, ...] | Because:
    if subject.key in turn.dropped:
        return Because("stalled_this_turn")
    aside = turn.aside.get(subject.key)
    if aside is not None and aside.until > now:
        return Because("waits_for_quiet_window", {"left_us": aside.until - now})
    guest = state.guest
    if guest is None:
        return Because("guest_unknown")
    return (
        forbidden(subject.memcg, subject.rules, guest.own_path, now)
        or _period_stall(turn, subject, now)
        or _done(turn, subject)
        or _all_found(state, turn, subject, guest, rules)
    )


def _all_found(
    state: State, turn: Turn, subject: _Subject, guest: CapabilitiesRead, rules: Rules
) -> tuple[Candidate, ...] | Because:
    if _beyond(state, turn):
        return _by_generation(subject, guest)
    found = _found(turn, subject, guest, rules)
    return (found,) if isinstance(found, Candidate) else found


def _by_generation(subject: _Subject, guest: CapabilitiesRead) -> tuple[Candidate, ...] | Because:
    """All that the kernel would evict, a generation at a time, so that the coldest can go first.

    On the rung below nobody knows what is colder: it is the whole of the memcg.
    """
    if guest.evicts == "memory.reclaim":
        pages = subject.view.current_bytes // guest.page_bytes
        found = [_candidate(subject, RECLAIM_SEQ, 0, pages)] if pages >= LEAST_PAGES else []
        return tuple(found) or Because("too_little_cold", {"cold_pages": pages})
    if not subject.node.generations:
        return Because("no_generations")
    return tuple(_each_generation(subject)) or Because("nothing_cold_yet")


def _each_generation(subject: _Subject) -> Iterator[Candidate]:
    generations = subject.node.generations
    may_swap = subject.rules.swap and subject.rules.swappiness_max > 0
    anon = file = 0
    for old, younger in pairwise(generations[: 1 - KEPT]):
        anon += old.anon_pages if may_swap else 0
        file += old.file_pages
        if anon + file >= LEAST_PAGES:
            found = _candidate(subject, old.seq, anon, file)
            yield replace(found, idle_us=younger.age_us)
            anon = file = 0


def _done(turn: Turn, subject: _Subject) -> Because | None:
    return Because("had_its_turn") if subject.key in turn.done else None


def _period_stall(turn: Turn, subject: _Subject, now: Instant) -> Because | None:
    """The idle phase's limit, for whom it is time; what the turn itself cost does not count."""
    if subject.memcg.stall_at >= turn.started_at or not subject.due:
        return None
    return period_stall(subject.memcg, subject.stall_us, subject.rules, now)


def period_stall(
    memcg: Memcg, stall_us: tuple[int, int], rules: MemcgRules, now: Instant
) -> Because | None:
    """Whether a memcg stalled too much since its last turn; one never seen has only a baseline.

    Args:
        memcg: With the totals of then.
        stall_us: Its own totals of now, memory and io, without what is below it.
        rules: What holds for it.
        now: The moment.
    """
    if memcg.stall_us is None:
        return None
    stall = sum(max(0, new - old) for new, old in zip(stall_us, memcg.stall_us, strict=True))
    elapsed = max(1, now - memcg.stall_at)
    if stall * _PPM <= rules.period_limit_ppm * elapsed:
        return None
    saw: dict[str, int | str] = {"stall_us": stall, "over_us": elapsed}
    return Because(_STALLED, {**saw, "limit_ppm": rules.period_limit_ppm})


def _found(
    turn: Turn, subject: _Subject, guest: CapabilitiesRead, rules: Rules
) -> Candidate | Because:
    if guest.evicts == "memory.reclaim":
        return _share(subject, guest, rules)
    if not subject.node.generations:
        return Because("no_generations")
    if not turn.ripened and _ripens(subject):
        return Because("ages_first")
    return _cold(subject)


def _ripens(subject: _Subject) -> bool:
    generations, rules = subject.node.generations, subject.rules
    cold_us = rules.aging_count_min * rules.period_us
    return subject.memcg.populated and _ages_now(subject) and ripe(generations, cold_us)


def _cold(subject: _Subject) -> Candidate | Because:
    seq = _seq(subject)
    if seq is None:
        return _not_yet(subject)
    anon, file = pages_up_to(subject.node.generations, seq)
    # Aged without swap, hot anonymous pages sit in old generations too; the kernel looks at the
    # accessed bit of each before it goes, so switching swap on costs them nothing.
    anon = anon if subject.rules.swap and subject.rules.swappiness_max else 0
    if anon + file < LEAST_PAGES:
        return Because("too_little_cold", {"cold_pages": anon + file, "seq": seq})
    return _candidate(subject, seq, anon, file)


def _share(subject: _Subject, guest: CapabilitiesRead, rules: Rules) -> Candidate | Because:
    """Without generations nobody knows what is cold: a small share, and refaults say how far."""
    pages = subject.view.current_bytes // guest.page_bytes
    if subject.memcg.populated:
        pages = pages * rules.reclaim_ppm_per_period // _PPM
    if pages < LEAST_PAGES:
        return Because("too_little_cold", {"cold_pages": pages})
    return _candidate(subject, RECLAIM_SEQ, 0, pages)


def _candidate(subject: _Subject, seq: int, anon: int, file: int) -> Candidate:
    view, node = subject.view, subject.node.node
    back = subject.promoted if subject.promoted and subject.promoted.over_limit else None
    made = Candidate(view.path, view.inode, view.memcg_id, node, seq, anon, file)
    return replace(made, promoted=back)


def _seq(subject: _Subject) -> int | None:
    generations, rules = subject.node.generations, subject.rules
    if not subject.memcg.populated:
        return emptied_seq(generations)
    return cold_seq(generations, rules.aging_count_min * rules.period_us)


def _not_yet(subject: _Subject) -> Because:
    generations, rules = subject.node.generations, subject.rules
    periods = agings_until_cold(generations, rules.period_us, rules.aging_count_min)
    return Because("nothing_cold_yet", {"possible_in_us": periods * rules.period_us})


def _may_age(
    found: tuple[Candidate, ...] | Because, subject: _Subject, *, beyond: bool = False
) -> bool:
    if not isinstance(found, tuple) and found.code not in _WAITS:
        return False
    # A squeeze looks at what is young, too, and ages sooner than the ages would want it.
    return _ages_now(subject) or (beyond and _pages(subject.node) >= LEAST_PAGES)


def _ages_now(subject: _Subject) -> bool:
    rules, generations = subject.rules, subject.node.generations
    if not subject.due or not _pages(subject.node):
        return False
    return not too_young(generations, spacing_us(rules.period_us, rules.aging_count_min))


def _pages(node: NodeView) -> int:
    return sum(generation.pages for generation in node.generations)


def _age_target(subject: _Subject) -> AgeTarget:
    view, node = subject.view, subject.node
    max_seq = node.generations[-1].seq
    return AgeTarget(view.path, view.inode, view.memcg_id, node.node, max_seq, subject.rules.swap)


def still_to_age(
    agings: tuple[AgeTarget, ...], survey: Surveyed, rules: Rules
) -> Iterator[AgeTarget]:
    """Those of the plan that are still due: somebody else may have aged one meanwhile.

    Before Linux 6.14 such an aging would do nothing and be called a success; from then on it would
    only blur the ages.
    """
    seen = {(v.path, v.inode, n.node): n for v in survey.memcgs for n in v.nodes}
    for target in agings:
        node = seen.get((target.path, target.inode, target.node))
        mine = rules_for(rules, target.path, target.node)
        wanted_us = spacing_us(mine.period_us, mine.aging_count_min)
        if node is not None and node.generations and not too_young(node.generations, wanted_us):
            yield structs.replace(target, max_seq=node.generations[-1].seq)


def with_baselines(state: State, turn: Turn, survey: Surveyed, rules: Rules, now: Instant) -> State:
    """Keep what was seen, and begin the next idle phase of those whose turn it is.

    It begins with the turn, and once more with the turn's last survey, so that what the turn itself
    cost a memcg is not held against it.
    """
    alive = _alive(state, survey)
    stalls, totals = own_stalls(alive), own_promotions(alive)
    promotions = _promotions(state, turn, alive, rules, now)
    changed = {}
    for view in alive:
        memcg = state.memcgs[view.path]
        seen = replace(memcg, view=view, viewed_at=now)
        due = _is_due(view, turn, rules)
        if memcg.promotion.total_pages is None or (due and memcg.promotion.since < turn.started_at):
            lore = judged(memcg.promotion, totals[view.path], promotions[view.path], now)
            seen = replace(seen, promotion=lore)
        begins = turn.stage == "close" or memcg.stall_at < turn.started_at
        if memcg.stall_us is None or (begins and due):
            seen = replace(seen, stall_us=stalls[view.path], stall_at=now)
        changed[view.path] = seen
    return replace(state, memcgs={**state.memcgs, **changed})


def _is_due(view: MemcgView, turn: Turn, rules: Rules) -> bool:
    if turn.within is not None:
        return is_within(view.path, turn.within)
    nodes = [node.node for node in view.nodes] or [0]
    return any(rules_for(rules, view.path, node).period_us in turn.periods for node in nodes)
