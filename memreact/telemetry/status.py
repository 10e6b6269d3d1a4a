"""One line on what the daemon does now, what it did, and when the first eviction can be."""

from __future__ import annotations

from memreact.events import Instant
from memreact.policy.generations import agings_until_cold
from memreact.policy.state import State
from memreact.rules import Rules, rules_for

__all__ = ["first_eviction", "status_line"]

_SECOND_US = 1_000_000


def status_line(state: State, rules: Rules, now: Instant, page_bytes: int) -> str:
    """What systemctl status shows."""
    if state.guest is not None and state.guest.idle_because:
        return f"idle: {state.guest.idle_because}"
    if state.pause is not None:
        return f"paused for {(now - state.pause.since) // _SECOND_US} s: {state.pause.because.code}"
    evicted = sum(memcg.counters.evicted_pages for memcg in state.memcgs.values()) * page_bytes
    doing = "at work" if state.turn is not None else _next_turn(state, now)
    return f"{len(state.memcgs)} cgroups, {evicted >> 20} MiB evicted; {doing}; " + first_eviction(
        state, rules, now
    )


def _next_turn(state: State, now: Instant) -> str:
    due = min(state.due.values(), default=None)
    if due is None:
        return "nothing due: every rule is disabled"
    return f"next turn in {max(0, due - now) // _SECOND_US} s"


def first_eviction(state: State, rules: Rules, now: Instant) -> str:
    """When something can be evicted at the earliest, and why not sooner."""
    soonest = min(_possible_at(state, rules), default=None)
    if soonest is None:
        return "no generations seen yet"
    left_s = max(0, soonest[0] - now) // _SECOND_US
    return f"eviction possible in {left_s} s (untouched for {soonest[1]} periods is cold)"


def _possible_at(state: State, rules: Rules) -> list[tuple[Instant, int]]:
    found = []
    for memcg in state.memcgs.values():
        for node in memcg.view.nodes if memcg.view else ():
            mine = rules_for(rules, memcg.path, node.node)
            due = state.due.get(mine.period_us)
            if mine.disabled or due is None or not any(g.pages for g in node.generations):
                continue
            periods = agings_until_cold(node.generations, mine.period_us, mine.aging_count_min)
            at = Instant(due + max(0, periods - 1) * mine.period_us)
            found.append((at, mine.aging_count_min))
    return found
