"""Guests of so many memcgs, known to the policy as after a few turns: what the parts work on."""

from __future__ import annotations

from memreact.actions import Survey
from memreact.events import (
    CapabilitiesRead,
    Event,
    Generation,
    GuestPressure,
    Instant,
    MemcgAppeared,
    MemcgView,
    NodeView,
    PressureSample,
    StallSeen,
    Surveyed,
    TimerFired,
)
from memreact.policy.state import State, Step
from memreact.policy.step import step
from memreact.rules import Rules, rules_from
from memreact_schemas.config import DEFAULTS

__all__ = ["RULES", "Scene", "survey_of"]

RULES: Rules = rules_from(DEFAULTS)
_GUEST = CapabilitiesRead(
    page_bytes=4096,
    evicts="mglru",
    privileged_psi=True,
    own_path="/system.slice/memreact.service",
    boot_phase=0.0,
)
_SECOND_US = 1_000_000
_COLD_PAGES = 64


class Scene:
    """A guest between two turns.

    Args:
        memcgs: How many it has.
    """

    def __init__(self, memcgs: int) -> None:
        self.memcgs = memcgs
        self.now = Instant(1_000 * _SECOND_US)
        self.state = State()
        self._tell(_GUEST)
        for number in range(memcgs):
            self._tell(MemcgAppeared(_path(number), number + 100))
        self.turn_begins()
        self.take(self.survey())  # the first one only looks, so that stall is counted from there

    def turn_begins(self) -> None:
        """Jump to the next turn: it wants to see all memcgs."""
        while self.state.turn is None or not isinstance(self.state.turn.doing, Survey):
            made = self._tell(TimerFired())
            if made.wake_at is not None:
                self.now = max(self.now, made.wake_at)

    def eviction_begins(self) -> None:
        """Go on to where the first memcg is about to be written to."""
        self.turn_begins()
        self.take(self.survey())

    def survey(self) -> Surveyed:
        """What is to be seen then."""
        return survey_of(self.memcgs, self.now)

    def stall(self) -> StallSeen:
        """A trigger fires, and the totals are over the limit."""
        return StallSeen(_pressure(self.now, 500_000), "guest")

    def step(self, event: Event) -> Step:
        """Decide, and remember nothing: the same again and again."""
        return step(self.state, event, RULES, self.now)

    def take(self, event: Event) -> None:
        """Decide, and remember."""
        self._tell(event)

    def _tell(self, event: Event) -> Step:
        made = self.step(event)
        self.state = made.state
        return made


def survey_of(memcgs: int, now: Instant) -> Surveyed:
    """Memcgs of four generations each, the older two with something cold."""
    period_us = RULES.base.period_us
    ages = (4 * period_us, 3 * period_us, 2 * period_us, period_us)
    generations = tuple(Generation(seq, age, 0, _COLD_PAGES) for seq, age in enumerate(ages))
    views = (
        MemcgView(_path(number), number + 100, number + 1, 0, 0, (NodeView(0, generations),))
        for number in range(memcgs)
    )
    return Surveyed(tuple(views), _pressure(now, 0))


def _pressure(now: Instant, stall_us: int) -> PressureSample:
    return PressureSample(now, GuestPressure(stall_us))


def _path(number: int) -> str:
    return f"/system.slice/some-{number}.service"
