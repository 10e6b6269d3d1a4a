"""What it did to the workloads that work was not broken off sooner."""

from __future__ import annotations

from memreact.actions import Because, Decision
from memreact.events import HarmSeen, MemcgDelays
from memreact.policy.state import TOLD, State, Step
from memreact.value import replace

__all__ = ["harm_seen"]

_MOST_TOLD = 3


def harm_seen(state: State, event: HarmSeen) -> Step:
    """Remember who waited, and tell of the worst; it decides nothing, for that was done in time."""
    told = tuple(_told(memcg, event) for memcg in event.memcgs[:_MOST_TOLD])
    return Step(replace(state, hurt=event), (), told)


def _told(memcg: MemcgDelays, event: HarmSeen) -> Decision:
    saw: dict[str, int | str] = {"over_us": event.at - event.since, "processes": memcg.processes}
    delays = {
        "reclaim_us": memcg.reclaim_us,
        "swap_in_us": memcg.swap_in_us,
        "thrashing_us": memcg.thrashing_us,
        "compact_us": memcg.compact_us,
        "block_io_us": memcg.block_io_us,
    }
    saw |= {kind: us for kind, us in delays.items() if us is not None}
    return Decision(TOLD, Because("waited", saw), memcg.path)
