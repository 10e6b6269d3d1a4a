from __future__ import annotations

from lab.bench.scenes import Scene
from memreact.actions import BreakOff, Inspect
from memreact.policy.state import State


def test_a_plan_begins_with_the_first_memcg_that_has_something_cold() -> None:
    scene = Scene(20)
    scene.turn_begins()
    made = scene.step(scene.survey())
    assert any(isinstance(action, Inspect) for action in made.actions)


def test_a_stall_in_the_middle_of_an_eviction_is_a_pause() -> None:
    scene = Scene(20)
    scene.eviction_begins()
    made = scene.step(scene.stall())
    assert made.state.pause is not None
    assert any(isinstance(action, BreakOff) for action in made.actions)


def test_a_step_is_decided_again_and_again_on_the_same_state() -> None:
    scene = Scene(20)
    scene.turn_begins()
    before: State = scene.state
    assert scene.step(scene.survey()) == scene.step(scene.survey())
    assert scene.state is before
