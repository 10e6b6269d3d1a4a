"""Guests that run: what is asked of them, and what happens when they go away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memreact_tools.address import parse_address
from memreact_tools.top.live import Intervals, Live
from memreact_tools.top.model import Model
from memreact_tools.top.source import Decided, Lost, Met, Read, Told, TreeSeen, Warned
from tests.tools.servers import monitor, serving
from tests.tools.top.guests import BEGAN, FakeDaemon, cgroup, decision

QUICK = Intervals(read=0.01, tree=0.01, tree_at_least=0.02, stock=0.05, patience=5.0)
PATIENCE_S = 20.0


@pytest.fixture
def opened() -> Iterator[Callable[..., Live]]:
    """Begin to ask a guest, until the test is over."""
    held: list[Live] = []

    def begin(*addresses: str, every: Intervals = QUICK) -> Live:
        held.append(Live([parse_address(each) for each in addresses], every))
        held[-1].start()
        return held[-1]

    yield begin
    for live in held:
        live.close()


def until(live: Live, met: Callable[[list[Told]], bool]) -> list[Told]:
    """Take until the test is met by all that came so far."""
    came: list[Told] = []
    deadline = time.monotonic() + PATIENCE_S
    while not met(came):
        assert time.monotonic() < deadline, came[-3:]
        live.wait(0.1)
        came += live.take()
    return came


def has(*kinds: type) -> Callable[[list[Told]], bool]:
    return lambda came: set(kinds) <= {type(each.update) for each in came}


def numbers(came: list[Told]) -> list[int]:
    return [each.update.row.number for each in came if isinstance(each.update, Decided)]


def test_everything_is_told_of_a_guest(tmp_path: Path, opened: Callable[..., Live]) -> None:
    daemon = FakeDaemon([cgroup("/a")])
    daemon.decide(decision(1))
    with serving(tmp_path / "s", daemon.serve):
        live = opened(f"unix:{tmp_path}/s")
        came = until(live, lambda came: has(Met, TreeSeen, Read)(came) and numbers(came) == [1])
        live.close()
        daemon.hang_up()
    assert {each.guest for each in came} == {f"unix:{tmp_path}/s"}
    assert daemon.since == [0]


def test_a_guest_is_reached_behind_its_monitor(tmp_path: Path, opened: Callable[..., Live]) -> None:
    daemon = FakeDaemon([cgroup("/a")])
    with serving(tmp_path / "s", monitor(daemon.serve, 1050)):
        live = opened(f"hvsock:{tmp_path}/s:1050")
        until(live, has(Met, TreeSeen, Read))
        live.close()
        daemon.hang_up()


def test_what_is_seen_and_some_others_in_turn_are_read(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    daemon = FakeDaemon([cgroup(f"/{n:03}") for n in range(80)])
    with serving(tmp_path / "s", daemon.serve):
        live = opened(f"unix:{tmp_path}/s")
        live.look_at(live.guests[0], ["/seen"])
        until(live, lambda _: len({path for paths in daemon.looked for path in paths}) == 81)
        live.close()
        daemon.hang_up()
    assert max(len(paths) for paths in daemon.looked) == 2, "32 a second"


def test_a_daemon_that_was_started_again_is_found_and_none_of_its_decisions_is_missed(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    first, second = FakeDaemon([cgroup("/a")]), FakeDaemon([cgroup("/b")], BEGAN + 1)
    for number in range(1, 6):
        first.decide(decision(number))
    second.decide(decision(1))
    path = tmp_path / "s"
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(path, first.serve))
        live = opened(f"unix:{path}")
        model = Model(live.guests)
        came = until(live, lambda came: len(numbers(came)) == 5 and has(TreeSeen, Read)(came))
        model.take(came)
        first.hang_up()
        stack.close()
        path.unlink()
        came = until(live, has(Lost))
        stack.enter_context(serving(path, second.serve))
        came += until(live, lambda more: numbers(more) == [1] and has(Met, TreeSeen)(more))
        model.take(came)
        live.close()
        second.hang_up()
    guest = model.guests[live.guests[0]]
    assert list(guest.cgroups) == ["/b"]
    assert (guest.state, guest.restarts) == ("live", 1)
    assert second.since == [0]


def test_a_stream_that_broke_goes_on_where_it_was(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    daemon = FakeDaemon([cgroup("/a")])
    daemon.decide(decision(1))
    with serving(tmp_path / "s", daemon.serve):
        live = opened(f"unix:{tmp_path}/s")
        until(live, lambda came: numbers(came) == [1])
        daemon.hang_up_once()
        daemon.decide(decision(2))
        came = until(live, lambda came: numbers(came) == [2])
        live.close()
        daemon.hang_up()
    assert daemon.since == [0, 1]
    assert numbers(came) == [2]


def test_a_stream_whose_numbers_have_no_measure_goes_on_with_one_that_can_be_asked_for(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    daemon = FakeDaemon([cgroup("/a")])
    daemon.decide(decision(10**400))
    with serving(tmp_path / "s", daemon.serve):
        live = opened(f"unix:{tmp_path}/s")
        until(live, lambda came: numbers(came) == [10**400])
        daemon.hang_up_once()
        daemon.decide(decision(10**400 + 1))
        until(live, lambda came: numbers(came)[-1:] == [10**400 + 1])
        live.close()
        daemon.hang_up()
    assert daemon.since == [0, 2**63 - 1]


def test_a_guest_that_answers_no_more_is_lost_after_its_time(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    daemon = FakeDaemon([cgroup("/a")])
    with serving(tmp_path / "s", daemon.serve):
        live = opened(f"unix:{tmp_path}/s", every=Intervals(read=0.01, patience=0.1))
        until(live, has(TreeSeen))
        daemon.silent.set()
        came = until(live, has(Lost))
        live.close()
        daemon.hang_up()
    assert [each.update.why for each in came if isinstance(each.update, Lost)][:1] == [
        "no answer in time"
    ]


def test_where_nobody_listens_is_said(tmp_path: Path, opened: Callable[..., Live]) -> None:
    live = opened(f"unix:{tmp_path}/none")
    (first, *_) = until(live, has(Lost))
    assert isinstance(first.update, Lost)
    assert "no such socket" in first.update.why


def test_an_older_daemon_is_shown_without_readings(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    daemon = FakeDaemon([cgroup("/a")])
    daemon.refuses = frozenset({"Look"})
    with serving(tmp_path / "s", daemon.serve):
        live = opened(f"unix:{tmp_path}/s")
        until(live, has(Warned, TreeSeen))
        live.close()
        daemon.hang_up()
    assert daemon.asked.count("Look") == 1


def test_taking_stock_is_asked_for_so_seldom_that_it_costs_little(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    daemon = FakeDaemon([cgroup("/a")])
    with serving(tmp_path / "s", daemon.serve):
        live = opened(f"unix:{tmp_path}/s", every=Intervals(read=0.01, stock=3600.0))
        until(live, lambda _: len(daemon.looked) > 20)
        live.close()
        daemon.hang_up()
    assert daemon.stocks == 1


def test_a_bug_on_a_thread_is_raised_where_somebody_takes(
    tmp_path: Path, opened: Callable[..., Live]
) -> None:
    live = opened(f"unix:{tmp_path}/none")
    live.failed = ZeroDivisionError("planted")
    with pytest.raises(ZeroDivisionError):
        live.take()


def test_decisions_that_nobody_takes_are_dropped_the_oldest_first(tmp_path: Path) -> None:
    live = Live([parse_address(f"unix:{tmp_path}/none")], QUICK)
    for number in range(5000):
        live._inbox.put(Told("g", 0, Decided(decision(number))))
    came = live.take()
    assert (len(came), live.dropped) == (4096, 904)
    assert numbers(came)[-1] == 4999


def test_of_what_is_not_a_decision_the_newest_alone_waits(tmp_path: Path) -> None:
    live = Live([parse_address(f"unix:{tmp_path}/none")], QUICK)
    for update in (Met(), Lost("a"), Met(), Lost("b")):
        live._inbox.put(Told("g", 0, update))
    assert [each.update for each in live.take()] == [Lost("b")]
    assert live.take() == []
