"""When something can be evicted at the earliest, and why not sooner; by what is known now.

A survey tells how old generations are; until the next turn they grow older, and from it on each
turn ages them. So the moment is that of a turn, unless somebody stalls, holds or changes settings.
"""

from __future__ import annotations

from collections.abc import Iterable

from memreact.events import Generation, Instant, NodeView
from memreact.policy.generations import (
    NEVER_WITHIN,
    agings_until_cold,
    cold_seq,
    emptied_seq,
    pages_up_to,
)
from memreact.policy.plan import LEAST_PAGES, forbidden
from memreact.policy.state import Memcg, State
from memreact.rules import MemcgRules, Rules, rules_for
from memreact_schemas.status import NextEviction

__all__ = [
    "aged",
    "all_cold_bytes",
    "cold_pages",
    "eviction_order",
    "first_of_all",
    "is_late",
    "next_on_node",
    "nodes_of",
    "rules_on",
    "soonest",
]

# On the rung below there are no generations, and no nodes.
_WHOLE = NodeView(0, ())
_NOTHING = NextEviction(waits_for="no_cgroups", text="no cgroups seen yet")
_NO_TURN = NextEviction(waits_for="disabled", text="nothing is due")


def aged(node: NodeView, by_us: int) -> tuple[Generation, ...]:
    """The generations as they will be, with nothing but time in between."""
    return tuple(
        Generation(g.seq, g.age_us + by_us, g.anon_pages, g.file_pages) for g in node.generations
    )


def cold_pages(
    generations: tuple[Generation, ...], mine: MemcgRules, *, populated: bool, since_us: int = 0
) -> tuple[int, int]:
    """Anon and file pages that are cold by these rules, and may go.

    Args:
        generations: As they were read.
        mine: The rules.
        populated: Whether processes live there.
        since_us: How long ago they were read.
    """
    if populated:
        seq = cold_seq(generations, mine.aging_count_min * mine.period_us - since_us)
    else:
        seq = emptied_seq(generations)
    if seq is None:
        return 0, 0
    anon, file = pages_up_to(generations, seq)
    return (anon if mine.swap and mine.swappiness_max else 0), file


def all_cold_bytes(state: State, rules: Rules, now: Instant) -> int:
    """What is cold in all memcgs together: with thousands of them longer than the loop should."""
    pages = 0
    for memcg in state.memcgs.values():
        for node in memcg.view.nodes if memcg.view else ():
            mine = rules_for(rules, memcg.path, node.node)
            if not mine.disabled:
                since_us = now - memcg.viewed_at
                pages += sum(
                    cold_pages(node.generations, mine, populated=memcg.populated, since_us=since_us)
                )
    return pages * (state.guest.page_bytes if state.guest else 0)


def next_on_node(
    state: State, memcg: Memcg, node: NodeView | None, mine: MemcgRules, now: Instant
) -> NextEviction:
    """When something of a memcg on a node can go; `node` is None before it was surveyed."""
    guest = state.guest
    if guest is None or guest.idle_because is not None:
        return NextEviction(waits_for="idle", text="nothing may be done in this guest")
    because = forbidden(memcg, mine, guest.own_path, now)
    if because is not None and because.code != "after_oom":
        return NextEviction(waits_for=because.code, text=because.code.replace("_", " "))
    due = state.due.get(mine.period_us)
    if due is None:
        return _NO_TURN
    at = _not_before(state, memcg, due, now)
    if node is None:
        return _first_survey(at)
    if guest.evicts == "memory.reclaim":
        return _at(at, "next_turn", "a share each period")
    return _by_age(memcg, node, mine, at)


def _by_age(memcg: Memcg, node: NodeView, mine: MemcgRules, at: Instant) -> NextEviction:
    if _may_go(node.generations, mine) < LEAST_PAGES:
        return NextEviction(waits_for="too_little", text="there is too little that may go")
    generations, since_us = node.generations, max(0, at - memcg.viewed_at)
    if not memcg.populated and emptied_seq(generations) is not None:
        return _at(at, "next_turn", "nobody lives in it")
    count = mine.aging_count_min
    periods = agings_until_cold(generations, mine.period_us, count, since_us=since_us)
    if periods >= NEVER_WITHIN:
        return NextEviction(waits_for="ages", text=f"not within {periods} periods")
    at = Instant(at + periods * mine.period_us)
    waits_for = "ages" if periods else "next_turn"
    return _at(at, waits_for, f"untouched for {count} periods is cold")


def _may_go(generations: tuple[Generation, ...], mine: MemcgRules) -> int:
    if mine.swap and mine.swappiness_max:
        return sum([each.pages for each in generations])
    return sum([each.file_pages for each in generations])


def _not_before(state: State, memcg: Memcg, due: Instant, now: Instant) -> Instant:
    """The turn that is next for a memcg: after a hold, and after it was left alone."""
    held_until = state.hold.until if state.hold else now
    return Instant(max(now, due, held_until, memcg.away_until))


def is_late(state: State, memcg: Memcg, mine: MemcgRules, now: Instant) -> bool:
    """Whether its turn is due and not held: what can go first then moves on with the clock."""
    due = state.due.get(mine.period_us)
    return due is not None and _not_before(state, memcg, due, now) == now


def _at(at: Instant, waits_for: str, why: str) -> NextEviction:
    return NextEviction(at_us=at, waits_for=waits_for, text=why)


def _first_survey(at: Instant) -> NextEviction:
    """Nobody has looked yet; before its first turn nothing goes in any case."""
    return NextEviction(at_us=at, waits_for="first_survey", text="nobody has looked yet")


def soonest(found: Iterable[NextEviction]) -> NextEviction:
    """The one that comes first; one that nobody has looked at yet only where nothing is known."""
    return min(found, key=eviction_order, default=_NOTHING)


def eviction_order(each: NextEviction) -> tuple[int, int]:
    """What comes first is the smallest; the moment is the second of the two."""
    if each.at_us is None:
        return 3 if each is _NOTHING else 2, 0
    return int(each.waits_for == "first_survey"), each.at_us


def first_of_all(state: State, rules: Rules, now: Instant) -> NextEviction:
    """The soonest of all memcgs; those whose turn comes later than that are not looked at."""
    best = _NOTHING
    for memcg in state.memcgs.values():
        for node in nodes_of(memcg):
            mine = rules_on(rules, memcg, node)
            if not _is_later(state, memcg, mine, best, now):
                best = soonest((best, next_on_node(state, memcg, node, mine, now)))
    return best


def _is_later(
    state: State, memcg: Memcg, mine: MemcgRules, best: NextEviction, now: Instant
) -> bool:
    due = state.due.get(mine.period_us)
    if due is None or best.at_us is None or best.waits_for == "first_survey":
        return False
    return _not_before(state, memcg, due, now) >= best.at_us


def nodes_of(memcg: Memcg) -> tuple[NodeView | None, ...]:
    """Its nodes, one of them at least; None stands for one that was never surveyed."""
    if memcg.view is None:
        return (None,)
    return memcg.view.nodes or (_WHOLE,)


def rules_on(rules: Rules, memcg: Memcg, node: NodeView | None) -> MemcgRules:
    """What holds for it there; `node` is None before it was surveyed."""
    return rules_for(rules, memcg.path, 0 if node is None else node.node)
