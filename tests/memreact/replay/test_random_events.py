"""Whatever happens, what was recorded of it is decided again in the same way."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import HealthCheck, settings

from memreact.events import Event, Instant
from memreact.replay.moments import Began, Happened, Moment, Ruled
from memreact.replay.verify import verify
from memreact.rules import Rules
from memreact.telemetry.checkpoint import decode_state, encode_state
from memreact.telemetry.recorder import line_of
from memreact.telemetry.trace import Entry, entries_in
from memreact_schemas.config import Config
from tests.effort import examples
from tests.memreact.policy.test_step import AnyEvents

__all__ = ["TestRecorded"]

CONFIG = Config()


class Recorded(AnyEvents):
    """Keeps each step as the daemon would write it, and checkpoints in between."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[Rules, bytes]] = []
        self.checkpoints: dict[int, bytes] = {}

    def tell(self, event: Event) -> None:
        """One step, recorded."""
        if len(self.lines) % 7 == 0:
            self.checkpoints[len(self.lines)] = encode_state(self.watched.state)
        made = self.watched.step(event, Instant(self.now))
        self.last = made.actions
        entry = Entry(Instant(self.now), event, made.actions, made.decisions, made.wake_at)
        self.lines.append((self.watched.rules, line_of(entry)))

    def recorded(self) -> Iterator[Moment]:
        """All of it, read back."""
        known: Rules | None = None
        for number, (rules, line) in enumerate(self.lines):
            ruled = Ruled(number, rules, rules, CONFIG)
            if number in self.checkpoints:
                state = decode_state(self.checkpoints[number])
                yield Began(number, Instant(self.now), state, ruled)
            elif rules is not known:
                yield ruled
            known = rules
            (entry,) = entries_in(line)
            yield Happened(number, entry)

    def teardown(self) -> None:
        """Replay it."""
        replayed = verify(self.recorded())
        assert replayed.difference is None
        assert replayed.steps == len(self.lines)
        assert replayed.checkpoints == max(0, len(self.checkpoints) - 1)
        assert decode_state(encode_state(self.watched.state)) == self.watched.state


Recorded.TestCase.settings = settings(
    max_examples=examples(60),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRecorded = Recorded.TestCase
