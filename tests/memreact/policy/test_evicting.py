"""Evictions from end to end, against kernels that differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memreact.events import AnonAlone
from memreact.rules import Rules
from tests.memreact.policy.simulated_guest import BASE, PAGES_PER_MB, SECOND, SimulatedGuest

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
