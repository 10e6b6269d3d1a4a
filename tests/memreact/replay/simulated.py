"""A recording of the simulated guest, through the very recorder of the daemon."""

from __future__ import annotations

from memreact.events import Event, Instant
from memreact.policy.state import Step
from memreact.settings.files import load_text
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, Settings, settle
from memreact.telemetry.flight import unpacked
from memreact.telemetry.recorder import About, Follower, Recorder, line_of
from memreact_schemas.config import DEFAULTS
from memreact_schemas.trace import End
from tests.memreact.policy.simulated_guest import SECOND, SimulatedGuest

__all__ = ["MINUTE", "RecordedGuest", "settings_from"]

MINUTE = 60 * SECOND
ABOUT = About("9", "6.12", "a-boot", lambda: 1_790_000_000_000_000)


def settings_from(text: str, revision: int = 1) -> Settings:
    """Make settings of TOML over the defaults."""
    layers = [Layer(DEFAULT_ORIGIN, DEFAULTS), Layer("file", load_text(text, "file"))]
    return settle(layers, revision)


class RecordedGuest(SimulatedGuest):
    """Is followed from its first event on.

    Args:
        text: Its settings, as TOML.
    """

    def __init__(self, text: str = "", **can: object) -> None:
        self.settings = settings_from(text)
        self.recorder = Recorder(ABOUT, self.settings, Instant(1_000 * SECOND))
        self.follower: Follower = self.recorder.follow(lambda: None, Instant(1_000 * SECOND))
        super().__init__(self.settings.rules, **can)  # type: ignore[arg-type]  # what it can do

    def _tell_one(self, event: Event) -> None:
        self.observe = self.record
        super()._tell_one(event)

    def record(self, event: Event, made: Step, now: Instant) -> None:
        """Take in a step."""
        self.recorder.observe(event, made, now, self.settings)

    def change_settings(self, text: str) -> None:
        """Put others in force."""
        self.settings = settings_from(text, self.settings.revision + 1)
        self.set_rules(self.settings.rules)

    def recording(self) -> bytes:
        """All that was recorded until now, with its end."""
        return self.follower.take(1 << 40) + line_of(End(at=self.now, because="asked"))

    def flight(self) -> bytes:
        """What the flight recorder holds."""
        now = Instant(self.now)
        return b"".join(unpacked(block) for block in self.recorder.packed("limit", now))
