"""Event in, step, actions out, one timer; on both loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import pytest_asyncio

from memreact import reactor as module
from memreact.actions import Action, BreakOff, Decision, ReadCapabilities, Survey
from memreact.events import (
    CapabilitiesRead,
    Event,
    Instant,
    MemcgAppeared,
    MemcgGone,
    TimerFired,
)
from memreact.policy.state import State, Step
from memreact.reactor import Reactor
from memreact.rules import Rules, rules_from
from memreact.sources.pressure import now_us
from memreact_schemas.config import DEFAULTS

pytestmark = pytest.mark.asyncio
PATIENCE_S = 20  # bounds a failure; nothing waits for it when all is well
RULES = rules_from(DEFAULTS)
A, B, C = MemcgAppeared("/a", 1), MemcgAppeared("/b", 2), MemcgAppeared("/c", 3)
LATER_US, MUCH_LATER_US = 20_000, 3_600_000_000

Answer = Callable[[Event], Step]


class Stage:
    """A reactor whose policy is a script, and a record of all that it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Event] = []
        self.done: list[Action] = []
        self.timer_fired = asyncio.Event()
        self.script: dict[Event, Step] = {}
        self.answers: dict[Action, Event] = {}
        self.during: Callable[[Action], None] = lambda _action: None
        monkeypatch.setattr(module, "step", self._step)
        loop = asyncio.get_running_loop()
        self.reactor = Reactor(loop, now_us, RULES, self._perform, self._observe)

    def _step(self, state: State, event: Event, rules: Rules, now: Instant) -> Step:
        assert abs(now_us() - now) < PATIENCE_S * 1_000_000
        assert rules is RULES
        return self.script.get(event, Step(state))

    def _perform(self, action: Action) -> Event | None:
        self.done.append(action)
        self.during(action)
        return self.answers.get(action)

    def _observe(self, event: Event, _made: Step, _now: Instant) -> None:
        self.seen.append(event)
        if event == TimerFired():
            self.timer_fired.set()

    async def until_timer_fired(self) -> None:
        """Wait for it."""
        await asyncio.wait_for(self.timer_fired.wait(), PATIENCE_S)


@pytest_asyncio.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def step(*actions: Action, wake_in_us: int | None = None) -> Step:
    wake_at = None if wake_in_us is None else Instant(now_us() + wake_in_us)
    return Step(State(), actions, (), wake_at)


async def turns(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_carries_out_what_was_decided_in_its_order(stage: Stage) -> None:
    stage.script[A] = step(BreakOff(), Survey())
    stage.reactor.handle(A)
    assert stage.done == [BreakOff(), Survey()]
    assert stage.seen == [A]


async def test_an_answer_comes_after_the_event_not_inside_it(stage: Stage) -> None:
    stage.script[A] = step(ReadCapabilities(), Survey())
    stage.answers[ReadCapabilities()] = B
    stage.reactor.handle(A)
    assert stage.done == [ReadCapabilities(), Survey()]
    assert stage.seen == [A, B]


async def test_is_never_inside_itself(stage: Stage) -> None:
    depth: list[int] = []

    def handle_another(action: Action) -> None:
        depth.append(len(stage.seen))
        if action == Survey():
            stage.reactor.handle(B)
            stage.reactor.handle(C)
            assert stage.seen == [], "handled inside another"

    stage.during = handle_another
    stage.script[A] = step(Survey(), BreakOff())
    stage.reactor.handle(A)
    assert stage.seen == [A, B, C]
    assert stage.done == [Survey(), BreakOff()]


async def test_wakes_when_the_step_asked_for_it_and_not_before(stage: Stage) -> None:
    asked = step(wake_in_us=LATER_US)
    stage.script[A] = asked
    stage.reactor.handle(A)
    await stage.until_timer_fired()
    assert asked.wake_at is not None
    assert now_us() >= asked.wake_at
    assert stage.seen == [A, TimerFired()]


async def test_a_sooner_moment_replaces_the_timer(stage: Stage) -> None:
    stage.script[A] = step(wake_in_us=MUCH_LATER_US)
    stage.script[B] = step(wake_in_us=0)
    stage.reactor.handle(A)
    first = stage.reactor._timer
    stage.reactor.handle(B)
    assert first is not None
    assert first.cancelled()
    await stage.until_timer_fired()


async def test_a_later_moment_replaces_the_timer_too(stage: Stage) -> None:
    stage.script[A] = step(wake_in_us=0)
    stage.script[B] = step(wake_in_us=MUCH_LATER_US)
    stage.reactor.handle(A)
    stage.reactor.handle(B)
    await turns(20)
    assert stage.seen == [A, B]
    stage.reactor.close()


async def test_the_same_moment_keeps_the_timer(stage: Stage) -> None:
    stage.script[A] = stage.script[B] = step(wake_in_us=MUCH_LATER_US)
    stage.reactor.handle(A)
    first = stage.reactor._timer
    stage.reactor.handle(B)
    assert stage.reactor._timer is first
    stage.reactor.close()


async def test_no_moment_takes_the_timer_away(stage: Stage) -> None:
    stage.script[A] = step(wake_in_us=0)
    stage.script[B] = step()
    stage.reactor.handle(A)
    stage.reactor.handle(B)
    await turns(20)
    assert stage.seen == [A, B]


async def test_a_moment_in_the_past_wakes_at_once_and_lets_the_loop_breathe(stage: Stage) -> None:
    loop, breaths = asyncio.get_running_loop(), [0]

    def breathe() -> None:
        breaths[0] += 1
        loop.call_soon(breathe)

    stage.script[A] = stage.script[TimerFired()] = step(Survey(), wake_in_us=-5_000_000)
    between: list[int] = []
    stage.during = lambda _action: between.append(breaths[0])
    breathe()
    stage.reactor.handle(A)
    for _ in range(20):
        await stage.until_timer_fired()
        stage.timer_fired.clear()
    stage.reactor.close()
    assert len(set(between[1:])) == len(between[1:])


async def test_nothing_fires_after_closing(stage: Stage) -> None:
    stage.script[A] = step(wake_in_us=0)
    stage.reactor.handle(A)
    stage.reactor.close()
    await turns(20)
    assert stage.seen == [A]


async def test_goes_on_after_an_action_that_failed(stage: Stage) -> None:
    def fails(_action: Action) -> None:
        raise RuntimeError("no")

    stage.script[A] = step(Survey())
    stage.during = fails
    with pytest.raises(RuntimeError):
        stage.reactor.handle(A)
    stage.reactor.handle(B)
    assert stage.seen == [B]


async def test_with_the_real_policy_a_turn_begins_when_it_is_due() -> None:
    """The clock jumps to what was asked for; nothing is waited for but the loop."""
    clock = [Instant(1_000_000_000)]
    done: list[Action] = []
    decided: list[Decision] = []
    surveyed = asyncio.Event()

    def perform(action: Action) -> None:
        done.append(action)
        if action == Survey():
            surveyed.set()

    reactor = Reactor(
        asyncio.get_running_loop(),
        lambda: clock[0],
        RULES,
        perform,
        lambda _event, made, _now: decided.extend(made.decisions),
    )
    reactor.handle(CapabilitiesRead(4096, "mglru", True, "/", 0.5))  # noqa: FBT003  # positional
    reactor.handle(A)
    reactor.handle(MemcgGone("/a"))
    assert reactor._wake_at is not None
    clock[0] = reactor._wake_at
    reactor._fire()
    await asyncio.wait_for(surveyed.wait(), PATIENCE_S)
    assert done == [Survey()]
    assert reactor.state.turn is not None
    reactor.close()
