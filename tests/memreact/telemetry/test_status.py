"""One line on what the daemon does, did, and can do first when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memreact.actions import Because
from memreact.events import CapabilitiesRead, Generation, Instant, MemcgView, NodeView
from memreact.policy.state import Counters, Memcg, Pause, State, Turn
from memreact.rules import rules_from
from memreact.telemetry.status import status_line
from memreact_schemas.config import DEFAULTS

RULES = rules_from(DEFAULTS)
PERIOD_US = RULES.base.period_us
GUEST = CapabilitiesRead(4096, "mglru", True, "/own", 0.5)  # noqa: FBT003  # positional
NOW = Instant(7_000_000_000)


def seconds(count: float) -> int:
    return int(count * 1_000_000)


def line(state: State) -> str:
    return status_line(state, RULES, NOW, 4096)


def with_ages(*ages_us: int) -> State:
    """A guest with one memcg whose generations have these ages, oldest first."""
    generations = tuple(Generation(seq, age, 10, 10) for seq, age in enumerate(ages_us))
    view = MemcgView("/a", 1, 1, 0, 0, (NodeView(0, generations),))
    memcg = Memcg("/a", 1, view=view, counters=Counters(evicted_pages=512))
    due = {PERIOD_US: Instant(NOW + seconds(90))}
    return State(guest=GUEST, memcgs={"/a": memcg}, due=due)


def test_idle_says_why() -> None:
    idle = State(guest=CapabilitiesRead(4096, "nothing", True, "/", 0.5, "nothing to do"))  # noqa: FBT003
    assert line(idle) == "idle: nothing to do"


def test_a_pause_says_since_when_and_why() -> None:
    since = Instant(NOW - seconds(12.7))
    paused = State(guest=GUEST, pause=Pause(since, NOW, Because("guest_stall_over_limit")))
    assert line(paused) == "paused for 12 s: guest_stall_over_limit"


def test_before_anything_was_seen_it_says_so() -> None:
    seen = line(replace(with_ages(), memcgs={}))
    assert seen == "0 cgroups, 0 MiB evicted; next turn in 90 s; no generations seen yet"


def test_where_every_rule_is_disabled_nothing_is_due() -> None:
    assert "nothing due: every rule is disabled" in line(State(guest=GUEST))


def test_what_was_evicted_is_added_up() -> None:
    assert line(with_ages(0)).startswith("1 cgroups, 2 MiB evicted; ")


def test_a_turn_is_work() -> None:
    busy = replace(with_ages(0), turn=Turn(NOW, frozenset({PERIOD_US})))
    assert "; at work; " in line(busy)


@pytest.mark.parametrize(
    ("ages", "possible_in_s"),
    [
        # Cold already: the next turn evicts.
        ((5 * PERIOD_US, 4 * PERIOD_US, 3 * PERIOD_US, PERIOD_US), 90),
        # Newborn: four generations of one age; each period ages once.
        ((0, 0, 0, 0), 90 + 3 * PERIOD_US // 1_000_000),
    ],
)
def test_says_when_the_first_eviction_is_possible(
    ages: tuple[int, ...], possible_in_s: int
) -> None:
    wanted = f"eviction possible in {possible_in_s} s (untouched for 3 periods is cold)"
    assert line(with_ages(*ages)).endswith(wanted)


def test_a_turn_that_is_overdue_is_due_now() -> None:
    state = with_ages(5 * PERIOD_US, 4 * PERIOD_US, 3 * PERIOD_US, PERIOD_US)
    late = replace(state, due={PERIOD_US: Instant(NOW - 5)})
    assert "next turn in 0 s; eviction possible in 0 s" in line(late)
