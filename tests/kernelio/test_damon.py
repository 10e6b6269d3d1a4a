from __future__ import annotations

from kernelio.damon import DamonUse, reclaimer
from tests.fake_guest import FakeGuest

_KDAMONDS = "/sys/kernel/mm/damon/admin/kdamonds"


def test_a_kernel_without_damon_has_nobody_at_work(guest: FakeGuest) -> None:
    assert reclaimer(guest.layout) == DamonUse(reclaim=False, kdamonds=())


def test_damon_that_is_built_in_but_off_is_not_at_work(guest: FakeGuest) -> None:
    guest.shows("/sys/module/damon_reclaim/parameters/enabled", "N\n")
    guest.shows(f"{_KDAMONDS}/nr_kdamonds", "1\n")
    guest.shows(f"{_KDAMONDS}/0/state", "off\n")
    assert reclaimer(guest.layout) == DamonUse(reclaim=False, kdamonds=())


def test_sees_damon_reclaim_switched_on(guest: FakeGuest) -> None:
    guest.shows("/sys/module/damon_reclaim/parameters/enabled", "Y\n")
    assert reclaimer(guest.layout).reclaim


def test_names_the_monitors_that_are_on(guest: FakeGuest) -> None:
    guest.shows(f"{_KDAMONDS}/nr_kdamonds", "3\n")
    for number, state in enumerate(("on", "off", "on")):
        guest.shows(f"{_KDAMONDS}/{number}/state", f"{state}\n")
    assert reclaimer(guest.layout).kdamonds == (0, 2)
