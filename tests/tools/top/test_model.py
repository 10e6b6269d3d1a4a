"""Updates become what is known of a guest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from memreact_schemas.status import OwnCost
from memreact_tools.top.model import GuestModel, PauseSpan
from memreact_tools.top.source import (
    Decided,
    Lost,
    Met,
    Read,
    StatusSeen,
    Told,
    TreeSeen,
    Update,
    Warned,
)
from tests.tools.top.guests import (
    BEGAN,
    NOW,
    SECOND,
    cgroup,
    decision,
    paused,
    reading,
    sample,
    status,
    use,
)

HERE = 77 * SECOND
"""When an update comes, on a clock that is not the guest's."""


def told(*updates: Update, at_us: int = HERE) -> GuestModel:
    """A guest of which this was told."""
    guest = GuestModel("g")
    for update in updates:
        guest.take(Told("g", at_us, update))
    return guest


def notes(guest: GuestModel) -> list[str]:
    return [entry.text for entry in guest.log if entry.row is None]


def test_moments_of_the_guest_are_put_on_our_clock() -> None:
    guest = told(StatusSeen(status()), Decided(decision(1, at_us=NOW - 5 * SECOND)))
    assert guest.log[0].at_us == HERE - 5 * SECOND
    assert guest.there(HERE + SECOND) == NOW + SECOND


def test_a_guest_whose_clock_stood_still_for_a_while_is_followed() -> None:
    guest = told(StatusSeen(status()))
    stood_us = 600 * SECOND
    guest.take(Told("g", HERE + stood_us + SECOND, Read(reading(NOW + SECOND))))
    late = decision(1, at_us=NOW + SECOND)
    guest.take(Told("g", HERE + stood_us + SECOND, Decided(late)))
    assert guest.log[0].at_us == HERE + stood_us + SECOND
    assert guest.there(HERE + stood_us + 2 * SECOND) == NOW + 2 * SECOND


def test_a_decision_that_is_told_twice_counts_once() -> None:
    guest = told(Decided(decision(1)), Decided(decision(2)), Decided(decision(2)))
    assert [entry.row.number for entry in guest.log if entry.row] == [1, 2]


def test_a_daemon_that_was_started_again_counts_anew_and_is_said() -> None:
    guest = told(Met(), StatusSeen(status()), Decided(decision(9)), Read(reading()))
    for update in (Lost("gone"), Met(), StatusSeen(status(started_at_us=BEGAN + 1))):
        guest.take(Told("g", HERE + SECOND, update))
    guest.take(Told("g", HERE + SECOND, Decided(decision(1, path="/b"))))
    assert notes(guest) == [
        "connection lost: gone",
        "connected again",
        "memreact was started again: its counters begin anew",
    ]
    assert list(guest.last) == ["/b"]
    assert (guest.restarts, guest.reading) == (1, None)


def test_a_connection_that_is_lost_again_and_again_is_said_once() -> None:
    guest = told(Met(), Lost("a"), Lost("b"), Lost("c"))
    assert notes(guest) == ["connection lost: a"]
    assert (guest.state, guest.why) == ("lost", "c")


def test_a_guest_that_never_answered_is_lost_without_a_remark() -> None:
    guest = told(Lost("nobody listens"))
    assert notes(guest) == []
    assert guest.state == "lost"


def test_a_live_guest_that_says_nothing_is_silent_after_a_while() -> None:
    guest = told(Met())
    assert guest.silent_us(HERE + 2 * SECOND) == 0
    assert guest.silent_us(HERE + 9 * SECOND) == 9 * SECOND
    assert told(Met(), Lost("x")).silent_us(HERE + 9 * SECOND) == 0


def test_two_readings_make_a_point() -> None:
    guest = told(
        Read(reading(NOW, memory_stall_us=100, io_stall_us=0)),
        Read(reading(NOW + SECOND, memory_stall_us=50_100, io_stall_us=1_000)),
    )
    (point,) = guest.points
    assert (point.memory_ppm, point.io_ppm, point.ppm) == (50_000, 1_000, 51_000)


def test_readings_of_one_moment_or_without_psi_make_no_share() -> None:
    same = told(Read(reading(NOW)), Read(reading(NOW)))
    assert not same.points
    without = {"memory_stall_us": None, "io_stall_us": None}
    guest = told(Read(reading(NOW, **without)), Read(reading(NOW + SECOND, **without)))
    assert [point.ppm for point in guest.points] == [0]


def test_own_cost_is_a_rate_over_the_last_readings() -> None:
    own = OwnCost(cpu_us=30_000, rss_bytes=9, anon_bytes=5, wake_ups=6)
    guest = told(Read(reading(NOW)), Read(reading(NOW + 3 * SECOND, own=own)))
    cost = guest.own()
    assert cost is not None
    assert (cost.cpu_ppm, cost.wake_ups_per_ks) == (10_000, 2_000)
    assert told(Read(reading(own=None))).own() is None
    first = told(Read(reading())).own()
    assert first is not None
    assert first.cpu_ppm is None


def test_a_pause_lasts_from_its_decision_to_the_one_that_ends_it() -> None:
    guest = told(
        StatusSeen(status()),
        Decided(decision(1, verdict="pause", at_us=NOW - 9 * SECOND, path="")),
        Decided(decision(2, verdict="resume", at_us=NOW - 2 * SECOND, path="")),
    )
    assert list(guest.pauses) == [PauseSpan(HERE - 9 * SECOND, HERE - 2 * SECOND)]


def test_a_pause_that_no_decision_told_of_is_known_by_the_status() -> None:
    guest = told(StatusSeen(status(pause=paused(NOW - 4 * SECOND))))
    assert list(guest.pauses) == [PauseSpan(HERE - 4 * SECOND, None)]
    guest.take(Told("g", HERE + SECOND, StatusSeen(status(now_us=NOW + SECOND))))
    assert list(guest.pauses) == [PauseSpan(HERE - 4 * SECOND, HERE + SECOND)]


def test_triggers_leave_marks() -> None:
    guest = told(
        StatusSeen(status()),
        Decided(decision(1, verdict="hold", because="stall_below_limit")),
        Decided(decision(2, verdict="end", because="cold_gone")),
        Decided(decision(3, verdict="end", because="stall_over_limit")),
    )
    assert len(guest.marks) == 2


def test_cgroups_that_are_gone_are_forgotten() -> None:
    guest = told(
        Read(reading(cgroups=(use("/a", 1), use("/b", 1)))),
        TreeSeen(status([cgroup("/a")])),
    )
    assert (list(guest.uses), list(guest.cgroups)) == (["/a"], ["/a"])


def test_a_stall_of_a_cgroup_is_the_share_since_it_was_read_before() -> None:
    guest = told(
        Read(reading(NOW, cgroups=(use("/a", 1),))),
        Read(reading(NOW + 2 * SECOND, cgroups=(replace(use("/a", 1), stall_us=500_000),))),
    )
    assert guest.stalls_ppm == {"/a": 250_000}


def test_a_warning_is_a_line_of_the_log() -> None:
    assert notes(told(Warned("no readings"))) == ["no readings"]


def test_what_was_not_told_in_time_is_counted() -> None:
    assert told(Decided(decision(9), dropped=8)).dropped == 8


SOME = sample()[:16] + sample()[-3:]


@given(st.permutations(range(len(SOME))))
def test_updates_in_any_order_harm_nothing(order: list[int]) -> None:
    guest = GuestModel("g")
    for at in order:
        guest.take(SOME[at])
    assert all(point.ppm >= 0 for point in guest.points)
    assert all(span.end_us is None or span.begin_us <= span.end_us for span in guest.pauses)
    told = [entry.row.number for entry in guest.log if entry.row is not None]
    assert told == sorted(set(told))
