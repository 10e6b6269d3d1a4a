"""What is told of a squeeze: progress when there is some, once an end, and the figures of both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memreact.account import Account, ZoneAccount
from memreact.actions import Because, Decision
from memreact.events import CapabilitiesRead, Instant
from memreact.policy.state import Squeeze, State, Step, Turn
from memreact.telemetry.ledger import Ledger, Tally, reportable_bytes
from memreact.telemetry.squeezes import Ended, Progress, SqueezeFeed, squeeze_end, wanted_bytes
from memreact.value import replace

PAGE = 4096
GUEST = CapabilitiesRead(PAGE, "mglru", True, "/own", 0.5)  # noqa: FBT003  # positional
SQUEEZE = Squeeze("host", "/", Instant(0), Instant(9_000_000), 100)
RUNS = State(guest=GUEST, squeeze=SQUEEZE)
OVER = Decision("squeezed", Because("target", {"took_us": 5, "overrun_us": 2}))


def leave(path: str, code: str) -> Decision:
    return Decision("leave", Because(code), path, 0)


def followed(*steps: Step) -> list[Progress | Ended]:
    feed, told = SqueezeFeed(), list[Progress | Ended]()
    feed.follow(told.append)
    for step in steps:
        feed.observe(step)
    return told


def account(reportable: int, reported: int | None) -> Account:
    zone = ZoneAccount((0, reportable), reported, enough_free=True)
    return Account(Instant(1), 1000, True, 1, 1, (zone,))  # noqa: FBT003  # positional


def test_progress_is_told_when_there_is_some() -> None:
    turn = Turn(Instant(0), frozenset(), squeezes=True, evicted_pages=3)
    more = replace(RUNS, turn=turn, squeeze=replace(SQUEEZE, base_pages=5, reportable_pages=7))
    told = followed(Step(RUNS), Step(RUNS), Step(State()), Step(more))
    assert told == [
        Progress("look", 0, None, Instant(9_000_000)),
        Progress("look", 3 * PAGE, 2 * PAGE, Instant(9_000_000)),
    ]
    assert told[1].told(Instant(8_000_000)).left_us == 1_000_000  # type: ignore[union-attr]
    assert told[1].told(Instant(10_000_000)).left_us == 0  # type: ignore[union-attr]


def test_the_end_counts_who_was_left_by_the_last_reason_for_each() -> None:
    made = Step(
        RUNS, (), (leave("/a", "frozen"), leave("/b", "refaults"), leave("/b", "protected"))
    )
    again = Step(RUNS, (), (leave("/c", "protected"), Decision("pause", Because("x"))))
    told = followed(made, again, Step(State(), (), (OVER,)), Step(RUNS))
    assert told[-1] == Ended(OVER.because, {"frozen": 1, "protected": 2})
    assert sum(isinstance(each, Ended) for each in told) == 1


def test_one_that_was_refused_is_over_and_a_later_refusal_is_somebody_elses() -> None:
    refusal = Decision("refuse", Because("too_late"))
    assert followed(Step(State(guest=GUEST), (), (refusal,))) == [Ended(refusal.because)]
    told = followed(Step(RUNS), Step(RUNS, (), (refusal,)))
    assert not any(isinstance(each, Ended) for each in told)


def test_nobody_is_told_after_they_left_or_the_daemon_ended() -> None:
    feed, told = SqueezeFeed(), list[Progress | Ended]()
    feed.follow(told.append)
    feed.leave()
    feed.observe(Step(RUNS))
    feed.follow(told.append)
    feed.close()
    feed.observe(Step(RUNS))
    assert told == []
    assert feed.closed


@given(reportable=st.integers(0, 1000), percent=st.integers(0, 100))
def test_what_is_wanted_brings_the_host_to_its_share_and_no_further(
    reportable: int, percent: int
) -> None:
    now = account(reportable, None)
    wanted = wanted_bytes(now, percent)
    held = now.total_bytes - reportable_bytes(now) - wanted
    assert held <= now.total_bytes * percent // 100
    assert wanted == 0 or held == now.total_bytes * percent // 100


def test_an_end_is_the_difference_of_two_readings() -> None:
    before = Ledger(since_start=Tally(10, 5, 1, 2), last=account(100, 90))
    after = Ledger(since_start=Tally(40, 6, 1, 9), last=account(300, 250))
    end = squeeze_end(
        Ended(OVER.because, {"frozen": 1}), before, after, wanted=7, settled=False, swap=True
    )
    assert (end.because, end.took_us, end.overrun_us) == ("target", 5, 2)
    assert (end.tally.evicted_file_bytes, end.tally.migrated_bytes) == (30, 7)
    assert (end.reportable_grew_bytes, end.reported_grew_bytes) == (200, 160)
    assert end.free_held_bytes == {"not_told_yet": 50}
    assert end.returned_bytes is None


def test_what_cannot_be_read_is_said_to_be_unknown() -> None:
    end = squeeze_end(
        Ended(Because("held", {"held_by": "uid 0"})),
        Ledger(last=account(1, None)),
        Ledger(last=account(3, None), problem="no"),
        wanted=None,
        settled=True,
        swap=False,
    )
    assert (end.reportable_grew_bytes, end.reported_grew_bytes) == (2, None)
    assert (end.detail, end.problem) == ("uid 0", "no")
    nothing = squeeze_end(
        Ended(Because("x")), Ledger(), Ledger(), wanted=None, settled=True, swap=False
    )
    assert (nothing.reportable_bytes, nothing.used_estimates_bytes) == (None, {})
