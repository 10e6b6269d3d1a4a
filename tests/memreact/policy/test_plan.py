"""Who is evicted, who is aged, who is left alone, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from memreact.events import (
    CapabilitiesRead,
    Generation,
    Instant,
    MemcgAppeared,
    MemcgView,
    NodeView,
    Surveyed,
)
from memreact.policy.plan import Plan, plan, with_baselines
from memreact.policy.state import Memcg, State, Turn
from memreact.policy.step import step
from memreact.rules import CgroupRule, Rules
from memreact.value import replace
from tests.memreact.policy.readings import sample
from tests.memreact.policy.simulated_guest import BASE

SECOND = 1_000_000
PERIOD = BASE.period_us
NOW = Instant(10_000 * SECOND)
GUEST = CapabilitiesRead(
    page_bytes=4096,
    evicts="mglru",
    privileged_psi=True,
    own_path="/system.slice/memreact.service",
    boot_phase=0.0,
)
RULES = Rules(base=BASE)


def lines(*periods: float, pages: int = 10_000) -> tuple[Generation, ...]:
    return tuple(
        Generation(seq, int(age * PERIOD), pages, pages) for seq, age in enumerate(periods)
    )


COLD = lines(4, 3, 2, 1)


def view(path: str, generations: tuple[Generation, ...] = COLD, **keys: object) -> MemcgView:
    known: dict[str, object] = {
        "path": path,
        "inode": 7,
        "memcg_id": 70_000,
        "memory_stall_us": 0,
        "io_stall_us": 0,
        "nodes": (NodeView(0, generations),),
    }
    return MemcgView(**{**known, **keys})  # type: ignore[arg-type]


def state_of(*views: MemcgView, **memcg: object) -> State:
    memcgs = {v.path: Memcg(v.path, v.inode, **memcg) for v in views}  # type: ignore[arg-type]
    return State(guest=GUEST, memcgs=memcgs, due={PERIOD: NOW})


def turn(**keys: object) -> Turn:
    return Turn(started_at=NOW, periods=frozenset({PERIOD}), **keys)  # type: ignore[arg-type]


def planned(
    *views: MemcgView, rules: Rules = RULES, of: Turn | None = None, **memcg: object
) -> Plan:
    survey = Surveyed(views, sample(NOW))
    return plan(state_of(*views, **memcg), of or turn(), survey, rules, NOW)


def code(made: Plan) -> str:
    (decision,) = made.decisions
    return decision.because.code


def test_what_is_cold_is_a_candidate_with_its_64_bit_id() -> None:
    (candidate,) = planned(view("/shop")).candidates
    assert (candidate.memcg_id, candidate.seq, candidate.file_pages) == (70_000, 0, 10_000)


def test_a_memcg_is_evicted_and_aged_in_one_turn() -> None:
    made = planned(view("/shop"))
    assert [target.path for target in made.agings] == ["/shop"]
    assert made.agings[0].max_seq == 3


def test_names_with_blanks_are_names() -> None:
    assert planned(view("/a b")).candidates[0].path == "/a b"


def test_a_memcg_with_another_inode_is_another_one() -> None:
    views = (view("/shop"),)
    survey = Surveyed((view("/shop", inode=8),), sample(NOW))
    made = plan(state_of(*views), turn(), survey, RULES, NOW)
    assert made == Plan((), (), (), frozenset(), ripening=False)


def test_one_that_was_never_announced_waits() -> None:
    made = plan(State(guest=GUEST), turn(), Surveyed((view("/a"),), sample(NOW)), RULES, NOW)
    assert made.candidates == ()


def test_less_than_a_batch_is_too_little() -> None:
    assert code(planned(view("/shop", lines(4, 3, 2, 1, pages=63)))) == "too_little_cold"


def test_a_memcg_without_generations_is_told() -> None:
    assert code(planned(view("/shop", ()))) == "no_generations"
    assert code(planned(view("/shop", nodes=()))) == "no_generations"


def test_what_is_not_cold_yet_is_aged_and_says_when_it_will_be() -> None:
    made = planned(view("/shop", lines(3, 2.9, 2, 1)))
    assert code(made) == "nothing_cold_yet"
    assert made.decisions[0].because.saw == {"possible_in_us": PERIOD}
    assert len(made.agings) == 1


def test_one_that_was_aged_a_moment_ago_is_not_aged_again() -> None:
    made = planned(view("/shop", lines(3, 2, 1, 0.01)))
    assert code(made) == "nothing_cold_yet"
    assert made.agings == ()


def test_one_that_one_aging_makes_cold_is_aged_first() -> None:
    made = planned(view("/shop", lines(9, 8, 7, 3)))
    assert code(made) == "ages_first"
    assert made.ripening
    again = planned(view("/shop", lines(9, 8, 7, 3)), of=turn(ripened=True))
    assert again.candidates[0].seq == 1


def test_a_node_that_is_at_another_age_has_a_turn_of_its_own() -> None:
    nodes = (NodeView(0, COLD), NodeView(1, lines(3, 2, 1, 1)))
    made = planned(view("/shop", nodes=nodes))
    assert [candidate.node for candidate in made.candidates] == [0]
    assert [decision.node for decision in made.decisions] == [1]


def test_only_those_whose_period_it_is_are_looked_at() -> None:
    quick = CgroupRule("/q", frozenset(), no_subdir=False, rules=replace(BASE, period_us=SECOND))
    rules = Rules(base=BASE, cgroups=(quick,))
    of = Turn(NOW, frozenset({SECOND}))
    made = planned(view("/q"), view("/shop"), rules=rules, of=of)
    assert {d.path for d in made.decisions} | {c.path for c in made.candidates} == {"/q"}


def test_an_emptied_memcg_is_evicted_outside_its_period_but_not_aged() -> None:
    of = Turn(NOW, frozenset(), emptied=frozenset({"/shop"}))
    made = planned(view("/shop", lines(1, 1, 1, 1)), of=of, populated=False)
    assert made.candidates[0].seq == 1
    assert made.agings == ()


def test_stall_of_the_idle_phase_leaves_a_memcg_alone_for_the_turn() -> None:
    then: dict[str, Any] = {"stall_us": (0, 0), "stall_at": Instant(NOW - PERIOD)}
    made = planned(view("/shop", memory_stall_us=3 * SECOND, io_stall_us=4 * SECOND), **then)
    assert code(made) == "period_stall_over_limit"
    assert made.dropped == {("/shop", 0)}
    assert made.agings == ()
    made = planned(view("/shop", memory_stall_us=3 * SECOND, io_stall_us=3 * SECOND), **then)
    assert made.candidates


def test_a_first_sight_is_a_baseline() -> None:
    assert planned(view("/shop", memory_stall_us=10**12)).candidates


def test_a_baseline_is_set_for_those_whose_turn_it_is_and_for_new_ones() -> None:
    quick = CgroupRule("/q", frozenset(), no_subdir=False, rules=replace(BASE, period_us=SECOND))
    rules = Rules(base=BASE, cgroups=(quick,))
    views = (view("/q", memory_stall_us=5), view("/old", memory_stall_us=5), view("/new"))
    state = state_of(*views, stall_us=(1, 1), stall_at=Instant(1))
    state = replace(state, memcgs={**state.memcgs, "/new": Memcg("/new", 7)})
    of = Turn(NOW, frozenset({SECOND}))
    after = with_baselines(state, of, Surveyed(views, sample(NOW)), rules, NOW).memcgs
    assert after["/q"].stall_us == (5, 0)
    assert after["/old"].stall_us == (1, 1)
    assert after["/new"].stall_us == (0, 0)


def test_each_memcg_of_a_plan_costs_the_same_however_many_there_are() -> None:
    few, many = (_calls_of_a_plan(memcgs) / memcgs for memcgs in (50, 1000))
    assert many == pytest.approx(few, rel=0.02)


def _calls_of_a_plan(memcgs: int) -> int:
    views = tuple(
        view(f"/s{n % 50}.slice/c{n}", COLD if n % 3 else lines(2, 1, 0.5, 0.2))
        for n in range(memcgs)
    )
    state, survey = state_of(*views), Surveyed(views, sample(NOW))
    with counted_calls() as calls:
        made = plan(state, turn(), survey, RULES, NOW)
        with_baselines(state, turn(), survey, RULES, NOW)
    assert len(made.candidates) + len(made.decisions) == memcgs
    return len(calls)


def test_one_more_memcg_costs_the_same_however_many_there_are() -> None:
    assert _calls_of_one_more(10) == _calls_of_one_more(1000)


def _calls_of_one_more(known: int) -> int:
    state = step(State(), GUEST, RULES, NOW).state
    for n in range(known):
        state = step(state, MemcgAppeared(f"/c{n}", n), RULES, NOW).state
    with counted_calls() as calls:
        after = step(state, MemcgAppeared("/one-more", known), RULES, NOW).state
    assert all(after.memcgs[path] is memcg for path, memcg in state.memcgs.items())
    return len(calls)


@contextmanager
def counted_calls() -> Iterator[list[str]]:
    """One entry for each call and each return meanwhile, those of builtins as well."""
    calls: list[str] = []
    sys.setprofile(lambda _frame, event, _what: calls.append(event))
    try:
        yield calls
    finally:
        sys.setprofile(None)
