"""Evictions from end to end, against kernels that differ."""

from __future__ import annotations

import pytest

from memreact.events import AnonAlone
from memreact.rules import Rules
from memreact.value import replace
from tests.memreact.policy.simulated_guest import (
    BASE,
    PAGES_PER_MB,
    SECOND,
    Memcg,
    SimulatedGuest,
)

SWAP = Rules(base=replace(BASE, swap=True, swappiness_max=200))
COLD_US = 1_800 * SECOND


@pytest.mark.parametrize(
    ("anon_alone", "swaps"), [("200", True), ("max", True), ("after_file", False)]
)
@pytest.mark.parametrize("file_mb", [20, 400])
def test_no_younger_anonymous_page_goes_whatever_file_pages_stand_beside_it(
    anon_alone: AnonAlone, file_mb: int, *, swaps: bool
) -> None:
    guest = SimulatedGuest(SWAP, anon_alone=anon_alone)
    guest.swap_free = 1 << 40
    shop = guest.add("/shop")
    guest.fill(shop, "file", file_mb, dirty=True)
    filled = []
    for period in range(20):
        filled.append((guest.now, guest.fill(shop, "anon", 40)))
        for _, pages in filled[::2] if period % 5 == 4 else ():
            pages.accessed = (
                True  # old ones that do not go: what is asked for is there, but younger
            )
        guest.run_for(600 * SECOND)
        for at, pages in filled:
            assert pages.pages == 40 * PAGES_PER_MB or guest.now - at > COLD_US
    assert (shop.evicted > 0) == swaps


def inner(*below: str) -> tuple[SimulatedGuest, Memcg]:
    """A memcg with 100 MiB of cold file pages for each turn, whose counter tells of refaults."""
    guest = SimulatedGuest()
    shop = guest.add("/shop")
    for path in below:
        guest.add(path)
    for _ in range(9):
        guest.fill(shop, "file", 100)
        shop.refaults += 20 * PAGES_PER_MB
        guest.run_for(600 * SECOND)
    return guest, shop


def test_refaults_of_its_own_make_a_memcg_be_evicted_less() -> None:
    guest, shop = inner()
    assert "refaults" in guest.codes("/shop", "end")
    assert shop.total("file") > 300 * PAGES_PER_MB


def test_refaults_of_its_children_are_not_held_against_a_memcg() -> None:
    guest, shop = inner("/shop/child")
    assert "refaults" not in guest.codes("/shop", "end")
    assert shop.total("file") == 300 * PAGES_PER_MB
