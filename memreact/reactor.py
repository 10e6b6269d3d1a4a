"""Event in, step, actions out, one wake-up timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from memreact.actions import Action
from memreact.events import Event, Instant, TimerFired
from memreact.policy.state import State, Step
from memreact.policy.step import step
from memreact.rules import Rules

__all__ = ["Reactor"]

Perform = Callable[[Action], Event | None]
Observe = Callable[[Event, Step, Instant], None]


class Reactor:
    """Owns the state and the one timer; everything runs on the loop's thread.

    Args:
        loop: The event loop.
        clock: Reads the moment.
        rules: What is in force; replaced as a whole.
        perform: Carries an action out; may answer at once with an event.
        observe: Told each event with the step that it led to.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], Instant],
        rules: Rules,
        perform: Perform,
        observe: Observe,
    ) -> None:
        self.state = State()
        self.rules = rules
        self._loop = loop
        self._clock = clock
        self._perform = perform
        self._observe = observe
        self.at_hand: Event | None = None
        """What is decided on just now; after a bug, what it was."""

        self._waiting: deque[Event] = deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: Instant | None = None

    def handle(self, event: Event) -> None:
        """Decide on an event; one that an action answers with comes after it, not inside it."""
        self._waiting.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._waiting:
                self._one(self._waiting.popleft())
        finally:
            self._handling = False

    def close(self) -> None:
        """Let go of the timer."""
        self._wake(None)

    def _one(self, event: Event) -> None:
        now, self.at_hand = self._clock(), event
        made = step(self.state, event, self.rules, now)
        self.state = made.state
        for action in made.actions:
            answer = self._perform(action)
            if answer is not None:
                self._waiting.append(answer)
        self._observe(event, made, now)
        self._wake(made.wake_at)
        self.at_hand = None

    def _wake(self, wake_at: Instant | None) -> None:
        if wake_at == self._wake_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._wake_at = None, wake_at
        if wake_at is not None:
            # A timer of uvloop counts whole milliseconds of a clock that it rounds down: it would
            # fire up to one too early, in vain.
            left_us = wake_at - self._clock()
            delay_ms = -(-left_us // 1000) + 1 if left_us > 0 else 0
            self._timer = self._loop.call_later(delay_ms / 1000, self._fire)

    def _fire(self) -> None:
        self._timer, self._wake_at = None, None
        self.handle(TimerFired())
