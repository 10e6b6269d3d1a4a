"""What a look at free memory would lead to, without anybody who compacts."""

from __future__ import annotations

import pytest

from memreact.actions import Compact
from memreact.events import Instant
from memreact.policy.dry_compaction import DryCompaction, dry_compaction, order_asked
from memreact.rules import CompactRules, Rules
from memreact.value import replace
from tests.memreact.policy.simulated_guest import (
    BASE,
    MB,
    PAGES_PER_MB,
    SECOND,
    SimulatedGuest,
    Zone,
)

PERIOD = 600 * SECOND
GAIN = CompactRules()
THRESHOLD = CompactRules(by_gain=False)


def with_rules(compact: CompactRules) -> Rules:
    return Rules(base=replace(BASE, disabled=True), compact=compact)


def guest_with(small_mb: int, compact: CompactRules = GAIN) -> SimulatedGuest:
    guest = SimulatedGuest(with_rules(compact), compacts=True)
    guest.zones = [Zone(small=small_mb * PAGES_PER_MB, headroom=200)]
    return guest


def foresee(guest: SimulatedGuest, compact: CompactRules) -> DryCompaction:
    state, rules = guest.watched.state, with_rules(compact)
    now = Instant(guest.now)
    asked = order_asked(state, rules, now)
    seen = None if asked is None else guest._in_pieces(asked.order, with_movable=True)
    return dry_compaction(state, rules, seen, now)


def test_what_is_expected_is_what_the_compaction_then_expects() -> None:
    guest = guest_with(400)
    dry = foresee(guest, GAIN)
    assert (dry.because.code, dry.expected_bytes) == ("gain", 200 * MB)
    guest.run_for(PERIOD + SECOND)
    begun = next(each for _, each in guest.decisions if each.verdict == "compact")
    assert begun.because == dry.because


def test_too_little_is_no_compaction_and_says_so() -> None:
    dry = foresee(guest_with(2), GAIN)
    assert (dry.because.code, dry.expected_bytes) == ("too_little_to_gain", 0)


@pytest.mark.parametrize("small_mb", [2, 400])
def test_by_a_threshold_it_is_what_the_threshold_says(small_mb: int) -> None:
    guest = guest_with(small_mb, THRESHOLD)
    dry = foresee(guest, THRESHOLD)
    guest.run_for(PERIOD + SECOND)
    first = next(each for _, each in guest.decisions if each.verdict in {"compact", "skip"})
    assert first.because.code == dry.because.code
    assert bool(dry.expected_bytes) == bool(guest.zones[0].blocks)


def test_switched_off_nobody_looks() -> None:
    off = CompactRules(disabled=True)
    assert foresee(guest_with(400), off) == foresee(guest_with(400, off), off)
    assert foresee(guest_with(400), off).because.code == "disabled"


def test_a_guest_that_cannot_compact_is_told_apart_from_one_that_may_not() -> None:
    guest = SimulatedGuest(with_rules(GAIN))
    assert foresee(guest, GAIN).because.code == "not_possible"
    assert foresee(guest, CompactRules(disabled=True)).because.code == "disabled"


def test_nothing_is_done_and_the_state_stays_as_it_was() -> None:
    guest = guest_with(400)
    state = guest.watched.state
    foresee(guest, GAIN)
    assert guest.watched.state is state
    assert not any(isinstance(action, Compact) for _, action in guest.actions)
