"""CPUs let go of free pages, and the limit is what it was before, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernelio.percpu_lists import SHORTEST
from memreact.actuator.percpu import let_go
from memreact.run_dir import PutBack, RunDir
from tests.fake_guest import FakeGuest

LIMIT = "/proc/sys/vm/percpu_pagelist_high_fraction"
REFRESH = "/proc/sys/vm/stat_refresh"
MANY, FEW = 1024, 1023  # of 4 KiB: 4 MiB


def in_lists(pages: int) -> str:
    return f"  pagesets\n    cpu: 0\n              count: {pages}\n"


class Recorded(RunDir):
    """A run directory that keeps what the limit was when it was put back."""

    def __init__(self, guest: FakeGuest) -> None:
        super().__init__(guest.path("/run/memreact"))
        self.was: list[bytes] = []
        self._guest = guest

    def put_back_one(self, path: str) -> PutBack:
        """Look first."""
        self.was.append(self._guest.received(LIMIT))
        return super().put_back_one(path)


@pytest.fixture
def run_dir(guest: FakeGuest) -> Iterator[Recorded]:
    guest.shows("/proc/zoneinfo", in_lists(MANY))
    guest.shows(LIMIT, "0" * len(SHORTEST))
    guest.shows(REFRESH, "")
    made = Recorded(guest)
    made.take_lock()
    yield made
    made.release()


def test_the_limit_is_the_shortest_meanwhile_and_what_it_was_afterwards(
    guest: FakeGuest, run_dir: Recorded
) -> None:
    let_go(guest.layout, run_dir, lambda: True)
    assert run_dir.was == [SHORTEST]
    assert guest.received(LIMIT) == b"0" * len(SHORTEST)
    assert run_dir.put_back(guest.layout) == ([], []), "nothing is left to be put back"


def test_little_that_is_in_the_lists_is_left_there(guest: FakeGuest, run_dir: Recorded) -> None:
    guest.shows("/proc/zoneinfo", in_lists(FEW))
    let_go(guest.layout, run_dir, lambda: True)
    assert run_dir.was == []


def test_a_kernel_that_refreshes_nothing_has_its_limit_back(
    guest: FakeGuest, run_dir: Recorded
) -> None:
    guest.loses(REFRESH)
    let_go(guest.layout, run_dir, lambda: True)
    assert run_dir.was == [SHORTEST]
    assert guest.received(LIMIT) == b"0" * len(SHORTEST)


def test_a_stop_meanwhile_is_heeded_and_the_limit_is_put_back(
    guest: FakeGuest, run_dir: Recorded
) -> None:
    answers = iter((True, True, False))
    let_go(guest.layout, run_dir, lambda: next(answers))
    assert next(answers, None) is None, "nobody asks after the stop"
    assert guest.received(LIMIT) == b"0" * len(SHORTEST)


@pytest.mark.parametrize("missing", [LIMIT, "/proc/zoneinfo"])
def test_a_kernel_without_such_lists_keeps_everything(
    guest: FakeGuest, run_dir: Recorded, missing: str
) -> None:
    guest.loses(missing)
    let_go(guest.layout, run_dir, lambda: True)
    assert run_dir.was == []


def test_a_limit_that_cannot_be_recorded_is_not_changed(
    guest: FakeGuest, run_dir: Recorded
) -> None:
    guest.loses("/run/memreact")
    let_go(guest.layout, run_dir, lambda: True)
    assert run_dir.was == []
    assert guest.received(LIMIT) == b"0" * len(SHORTEST)


def test_what_a_killed_memreact_left_is_what_the_next_one_puts_back(
    guest: FakeGuest, run_dir: Recorded
) -> None:
    before = "1" * len(SHORTEST)
    run_dir.remember_switch(guest.path(LIMIT), before)
    guest.shows(LIMIT, SHORTEST)  # and there it was killed
    let_go(guest.layout, RunDir(run_dir.path), lambda: True)
    assert guest.received(LIMIT) == before.encode()
