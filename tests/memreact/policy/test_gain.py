"""What a compaction should bring, what it costs, and what its result teaches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memreact.events import Fragmentation, Instant, ZoneView
from memreact.policy.gain import (
    LEAST_GAIN_BYTES,
    fragment_pages,
    gained_pages,
    hopes,
    learnt,
    reportable_pages,
)
from memreact.policy.state import Compacting, ZoneLore
from memreact.value import replace
from tests.memreact.policy.readings import sample

PAGE = 4096
MB_PAGES = 256
PERIOD = 600_000_000
NOW = Instant(10**12)
KEY = (0, "Normal")


def zone(
    small: int = 0, blocks: int = 0, *, node: int = 0, name: str = "Normal", **keys: int
) -> ZoneView:
    free = {"free_pages": small + blocks * 512, "headroom_pages": 100} | keys
    return ZoneView(node, name, (small, *([0] * 8), blocks, 0), low_pages=10, **free)


def reading(*zones: ZoneView, order: int = 9, page_bytes: int = PAGE) -> Fragmentation:
    return Fragmentation(zones, order, 0, None, page_bytes, sample())


def expected_mb(seen: Fragmentation, known: Compacting | None = None, at: int = NOW) -> list[int]:
    found = hopes(seen, known or Compacting(), Instant(at))
    return [hope.expected_bytes >> 20 for hope in found]


def taught(
    before: Fragmentation, after: Fragmentation, known: Compacting, moved: int = 0, at: int = NOW
) -> Compacting:
    hoped = hopes(before, known, Instant(at))
    now = Instant(at)
    return learnt(known, hoped, before, after, {0: moved}, period_us=PERIOD, now=now)


def test_half_of_what_lies_in_pieces_is_expected_before_anything_was_learnt() -> None:
    assert expected_mb(reading(zone(100 * MB_PAGES, 50))) == [50]


def test_a_zone_below_the_watermark_of_reporting_promises_nothing() -> None:
    poor = zone(100 * MB_PAGES, headroom_pages=100 * MB_PAGES)
    rich = zone(100 * MB_PAGES, headroom_pages=100 * MB_PAGES - 1)
    assert expected_mb(reading(poor)) == [0]
    assert expected_mb(reading(rich)) == [50]


def test_blocks_of_the_order_are_not_in_pieces_whatever_the_order_is() -> None:
    seen = zone(7, 3)
    assert (fragment_pages(seen, 9), reportable_pages(seen, 9)) == (7, 3 * 512)
    assert (fragment_pages(seen, 10), reportable_pages(seen, 10)) == (7 + 3 * 512, 0)
    assert (fragment_pages(seen, 0), reportable_pages(seen, 0)) == (0, 7 + 3 * 512)


def test_an_order_that_no_block_can_have_promises_nothing() -> None:
    assert expected_mb(reading(zone(100 * MB_PAGES), order=11)) == [0]


def test_the_node_that_brings_most_comes_first() -> None:
    seen = reading(zone(10 * MB_PAGES), zone(90 * MB_PAGES, node=1), zone(20 * MB_PAGES, node=2))
    assert [hope.node for hope in hopes(seen, Compacting(), NOW)] == [1, 2, 0]


def test_it_pays_above_four_mib_and_an_eighth_of_what_moves() -> None:
    # Expected to move as much as it brings: it pays from 4 MiB * 8/7 on.
    def pays(kib: int) -> bool:
        (hope,) = hopes(reading(zone(2 * kib // 4)), Compacting(), NOW)
        return hope.pays

    assert not pays(4_680)
    assert pays(4_684)


def test_pages_of_64_kib_make_blocks_of_which_one_is_the_least_that_pays() -> None:
    seen = reading(zone(4096), order=9, page_bytes=65_536)
    (hope,) = hopes(seen, Compacting(), NOW)
    assert hope.cost_bytes >= 65_536 << 9 > LEAST_GAIN_BYTES


def test_what_was_gained_is_what_lies_in_blocks_more_than_before() -> None:
    before = reading(zone(1000, 3), zone(5, 5, name="DMA32"), zone(0, 9, node=1))
    after = reading(zone(488, 4), zone(5, 4, name="DMA32"), zone(0, 9, node=2))
    assert gained_pages(before, after) == {KEY: 512, (0, "DMA32"): 0}


def test_a_compaction_that_brings_all_teaches_to_expect_more_and_its_rest_is_left_alone() -> None:
    before, after = reading(zone(102_400)), reading(zone(2_048, 196))
    known = taught(before, after, Compacting())
    lore = known.zones[KEY]
    assert lore.misses == 0
    assert lore.left_pages == 2_048
    assert lore.yield_ppm > 700_000
    assert expected_mb(reading(zone(2_048, 196)), known) == [0]
    assert expected_mb(reading(zone(102_400, 196)), known, NOW + 1)[0] > 280


def test_one_that_brings_nothing_is_backed_off_from_longer_each_time() -> None:
    seen = reading(zone(102_400))
    known, at, waits = Compacting(), int(NOW), []
    for _ in range(8):
        known = taught(seen, seen, known, at=at)
        lore = known.zones[KEY]
        waits.append((lore.left_until - at) // PERIOD)
        assert expected_mb(seen, known, lore.left_until - 1) == [0]
        assert expected_mb(seen, known, lore.left_until) != [0]
        at = lore.left_until
    assert waits == [4, 8, 16, 32, 64, 64, 64, 64]


def test_new_pieces_count_at_once_though_the_old_ones_are_backed_off_from() -> None:
    known = Compacting(zones={KEY: ZoneLore(500_000, 102_400, Instant(NOW + 1), 3)})
    assert expected_mb(reading(zone(102_400)), known) == [0]
    assert expected_mb(reading(zone(102_400 + 100 * MB_PAGES)), known) == [50]


def test_zones_are_judged_apart() -> None:
    before = reading(zone(102_400), zone(102_400, name="DMA32"))
    after = reading(zone(0, 200), zone(102_400, name="DMA32"))
    known = taught(before, after, Compacting())
    assert known.zones[KEY].misses == 0
    assert known.zones[0, "DMA32"].misses == 1


def test_a_zone_that_promised_nothing_learns_nothing() -> None:
    before = reading(zone(102_400, headroom_pages=10**6))
    assert taught(before, before, Compacting()).zones == {KEY: ZoneLore()}


def test_what_moves_is_learnt_and_a_dear_compaction_has_to_bring_more() -> None:
    before, after = reading(zone(102_400)), reading(zone(0, 200))
    cheap, dear = (taught(before, after, Compacting(), moved) for moved in (10_000, 10**7))
    seen = reading(zone(40 * MB_PAGES))
    costs = [hopes(seen, known, NOW)[0].cost_bytes for known in (cheap, dear)]
    assert costs[0] < costs[1]
    assert hopes(reading(zone(100 * MB_PAGES)), dear, NOW)[0].pays, "it is tried once more"


@given(
    small=st.integers(0, 2**24),
    blocks=st.integers(0, 2**12),
    small_after=st.integers(0, 2**24),
    blocks_after=st.integers(0, 2**12),
    moved=st.integers(0, 2**40),
    misses=st.integers(0, 80),
)
def test_whatever_came_of_it_enough_new_free_memory_is_tried_again(  # noqa: PLR0913  # readings
    *, small: int, blocks: int, small_after: int, blocks_after: int, moved: int, misses: int
) -> None:
    known = Compacting(zones={KEY: ZoneLore(misses=misses)}, moved_permille={0: 7_000})
    before, after = reading(zone(small, blocks)), reading(zone(small_after, blocks_after))
    fresh = taught(before, after, known, moved)
    lore = fresh.zones[KEY]
    assert 0 < lore.yield_ppm <= 1_000_000
    assert lore.left_until <= NOW + 64 * PERIOD
    much = reading(zone(lore.left_pages + (4 << 30) // PAGE))
    (hope,) = hopes(much, fresh, NOW)
    assert hope.pays
    forgotten = replace(lore, left_until=Instant(0))
    (whole,) = hopes(much, replace(fresh, zones={KEY: forgotten}), NOW)
    assert whole.expected_bytes >= hope.expected_bytes
