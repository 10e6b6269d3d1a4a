"""What other settings would have changed, and where a recording cannot know more."""

from __future__ import annotations

import io

from memreact.actions import Age, Decision, Evict, Survey
from memreact.replay.command import patch_of
from memreact.replay.moments import moments
from memreact.replay.otherwise import Foreseen, foresee
from memreact_schemas.recording import read_lines
from tests.memreact.policy.simulated_guest import SECOND
from tests.memreact.replay.simulated import MINUTE, RecordedGuest
from tests.memreact.replay.test_verify import PERIOD, busy


def with_set(data: bytes, *pairs: str) -> Foreseen:
    return foresee(moments(read_lines(io.BytesIO(data)), patch_of(pairs)))


def test_settings_that_change_nothing_are_the_same_to_the_end() -> None:
    found = with_set(busy(RecordedGuest(PERIOD)).recording(), "log.level=debug")
    assert found.ended == ""
    assert [each.kind for each in found.deviations] == ["says"]  # that rules changed
    assert found.same > 40


def test_a_shorter_period_would_have_begun_a_turn_of_which_there_is_no_reading() -> None:
    guest = RecordedGuest("[memcg]\nperiod_secs = 600\n")
    guest.fill(guest.add("/shop"), "file", 300)
    guest.run_for(30 * MINUTE)
    found = with_set(guest.recording(), "memcg.period_secs=60")
    last = found.deviations[-1]
    assert last.kind == "parts"
    assert last.otherwise == (Survey(),)
    assert last.recorded == ()
    assert found.set_at is not None
    assert last.at - found.set_at <= 61 * SECOND
    assert "no readings" in found.ended


def test_a_longer_period_would_not_have_begun_the_turn_that_was_recorded() -> None:
    found = with_set(busy(RecordedGuest(PERIOD)).recording(), "memcg.period_secs=6000")
    last = found.deviations[-1]
    assert (last.kind, last.recorded, last.otherwise) == ("parts", (Survey(),), ())


def test_what_is_cold_sooner_would_have_been_evicted_in_the_turn_that_was_recorded() -> None:
    guest = RecordedGuest(PERIOD)
    guest.fill(guest.add("/shop"), "file", 300)
    guest.run_for(10 * MINUTE)
    found = with_set(guest.recording(), "memcg.eviction_run_aging_count_min=1")
    assert found.deviations[-1].kind == "parts"
    assert found.same > 5


def test_other_limits_arm_other_triggers_and_that_is_told_without_an_end() -> None:
    guest = RecordedGuest(PERIOD)
    guest.fill(guest.add("/shop"), "file", 300)
    guest.run_for(10 * MINUTE)
    found = with_set(guest.recording(), "pressure.system_psi_percent_limit=20")
    assert {each.kind for each in found.deviations} == {"says", "triggers"}
    assert found.ended == ""


def test_switched_off_it_would_have_done_nothing_that_was_done() -> None:
    found = with_set(busy(RecordedGuest(PERIOD)).recording(), "memcg.disabled=true")
    assert found.deviations[-1].kind == "parts"
    assert not any(isinstance(each, Evict | Age) for each in found.deviations[-1].otherwise)
    assert any(isinstance(each, Decision) for each in found.deviations[0].otherwise)


def test_where_lines_are_missing_nothing_more_is_known() -> None:
    guest = RecordedGuest(PERIOD)
    guest.add("/shop")
    data = guest.follower.take(1 << 40) + guest.recorder.gap(3) + guest.recording()
    assert "missing" in with_set(data, "log.level=debug").ended
