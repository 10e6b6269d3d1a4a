"""The callers of a chaos run against the real daemon, on unix sockets."""

from __future__ import annotations

import pytest

from lab.workloads.chaos_calls import Doors, flood, hold, in_force, leave, served, storm
from tests.fake_guest import FakeGuest
from tests.memreact.test_daemon_control import Start, guest, start

__all__ = ["guest", "start"]


@pytest.fixture
def doors(guest: FakeGuest, start: Start) -> Doors:  # as pytest names fixtures
    """Those of a daemon that runs."""
    start()
    varlink, agent, metrics = (
        guest.path(f"/run/memreact/{name}")
        for name in ("io.memreact", "agent.sock", "metrics.sock")
    )
    return Doors(varlink, agent, metrics, varlink)


def test_a_storm_of_pushes_is_answered_and_what_is_in_force_is_one_of_them(doors: Doors) -> None:
    told = storm(0.5, 7, in_force(doors), doors)
    assert told.pop("answered") > 0
    assert not any(told.values())


def test_clients_that_die_in_mid_call_leave_the_daemon_serving(doors: Doors) -> None:
    assert leave(0.2, 1, doors)["left"] > 0
    assert served(doors)


def test_of_a_flood_it_is_told_who_was_served_meanwhile(doors: Doors) -> None:
    told = flood(0.1, 1, 60, doors)
    assert told["connected"] == 60
    assert told["newcomers"] == told["root"] > 0
    assert (told["hung"], told["closed"]) == (0, 0)


def test_a_pause_is_told_from_its_answer_to_before_its_end(doors: Doors) -> None:
    told = hold(0.0, 0, doors)
    assert 0 < told["from_us"] <= told["until_us"]


def test_where_nobody_listens_calls_are_closed_and_not_hung(guest: FakeGuest) -> None:
    nowhere = guest.path("/run/nobody")
    doors = Doors(nowhere, nowhere, nowhere, nowhere)
    assert hold(0.0, 0, doors) == {"closed": 1}
    assert storm(0.0, 0, {}, doors)["hung"] == 0
    assert not served(doors)
