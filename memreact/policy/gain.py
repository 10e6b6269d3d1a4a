"""Whether a compaction pays: what it would make reportable, against what it costs.

What may become reportable in a zone is what is free in blocks below the order, where the kernel
reports anything of that zone at all. How much of it does is learnt from what was gained before, and
what a compaction has left in pieces is not hoped for again until a back-off has ended: it is among
pages that do not move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memreact.events import Fragmentation, Instant, ZoneView
from memreact.policy.state import Compacting, ZoneKey, ZoneLore
from memreact.value import Struct, replace

__all__ = [
    "LEAST_GAIN_BYTES",
    "MOVES_PER_GAIN",
    "NodeHope",
    "ZoneHope",
    "fragment_pages",
    "gained_pages",
    "hopes",
    "learnt",
    "reportable_pages",
]

LEAST_GAIN_BYTES = 4 << 20
"""A compaction looks at every page of a node: for less than this it is not begun."""

MOVES_PER_GAIN = 8
"""A page that moves costs this share of a page that becomes reportable: it is copied, and where a
snapshot or a migration counts dirty pages, it is one."""

_PPM = 1_000_000
_PERMILLE = 1_000
# Learnt shares stay within these, so that much new free memory is always tried once more.
_LEAST_YIELD_PPM = _PPM // 32
_MOST_MOVED_PERMILLE = 7 * _PERMILLE
# Of what was expected, less than half came: it did not pay.
_DID_NOT_PAY = 2
_LONGEST_BACK_OFF = 64


class ZoneHope(Struct, frozen=True):
    """What a compaction should bring in one zone.

    Args:
        key: The zone.
        fragments: Free pages in blocks below the order that may be gathered.
        pages: How many of them are expected to become reportable.
    """

    key: ZoneKey
    fragments: int
    pages: int


class NodeHope(Struct, frozen=True):
    """The same for a node, and what it costs.

    Args:
        node: Its number.
        zones: Those with something to gather.
        expected_bytes: What should become reportable.
        cost_bytes: What it must be more than.
    """

    node: int
    zones: tuple[ZoneHope, ...]
    expected_bytes: int
    cost_bytes: int

    @property
    def pays(self) -> bool:
        """Whether it is worth it."""
        return self.expected_bytes > self.cost_bytes


def fragment_pages(zone: ZoneView, order: int) -> int:
    """Free pages in blocks below the order."""
    return sum(blocks << at for at, blocks in enumerate(zone.free_by_order[:order]))


def reportable_pages(zone: ZoneView, order: int) -> int:
    """Free pages in blocks of the order and above, whatever the watermark."""
    return sum(blocks << at for at, blocks in enumerate(zone.free_by_order) if at >= order)


def hopes(seen: Fragmentation, known: Compacting, now: Instant) -> tuple[NodeHope, ...]:
    """What a compaction of each node should bring, the most first."""
    nodes: dict[int, list[ZoneHope]] = {}
    for zone in seen.zones:
        hope = _zone_hope(zone, seen.order, known.zones, now)
        nodes.setdefault(zone.node, []).append(hope)
    made = (_node_hope(node, zones, seen, known) for node, zones in nodes.items())
    return tuple(sorted(made, key=lambda hope: (-hope.expected_bytes, hope.node)))


def _zone_hope(
    zone: ZoneView, order: int, lore: Mapping[ZoneKey, ZoneLore], now: Instant
) -> ZoneHope:
    key = zone.node, zone.zone
    known = lore.get(key, ZoneLore())
    reports = zone.free_pages > zone.headroom_pages and order < len(zone.free_by_order)
    left = known.left_pages if now < known.left_until else 0
    fragments = max(0, fragment_pages(zone, order) - left) if reports else 0
    return ZoneHope(key, fragments, fragments * known.yield_ppm // _PPM)


def _node_hope(
    node: int, zones: list[ZoneHope], seen: Fragmentation, known: Compacting
) -> NodeHope:
    expected_bytes = sum(zone.pages for zone in zones) * seen.page_bytes
    moved_bytes = expected_bytes * known.moved_permille.get(node, _PERMILLE) // _PERMILLE
    least_bytes = max(LEAST_GAIN_BYTES, seen.page_bytes << seen.order)
    cost_bytes = least_bytes + moved_bytes // MOVES_PER_GAIN
    return NodeHope(node, tuple(zones), expected_bytes, cost_bytes)


def gained_pages(before: Fragmentation, after: Fragmentation) -> Mapping[ZoneKey, int]:
    """What became reportable in each zone from one reading to the next."""
    then = {(zone.node, zone.zone): reportable_pages(zone, before.order) for zone in before.zones}
    return {
        key: max(0, reportable_pages(zone, before.order) - then[key])
        for zone in after.zones
        if (key := (zone.node, zone.zone)) in then
    }


def learnt(  # noqa: PLR0913  # each is a reading of its own
    known: Compacting,
    hoped: tuple[NodeHope, ...],
    before: Fragmentation,
    after: Fragmentation,
    moved: Mapping[int, int],
    *,
    period_us: int,
    now: Instant,
) -> Compacting:
    """Compare what came with what was expected, zone by zone.

    Args:
        known: What was known.
        hoped: Of the nodes that were compacted.
        before: The reading that it was expected by.
        after: The reading after the last of them.
        moved: Pages that moved while each node was compacted.
        period_us: Between checks; a back-off is a multiple of it.
        now: The moment.
    """
    gained = gained_pages(before, after)
    zones = dict(known.zones)
    for zone, hope in _pairs(after, hoped):
        lore = zones.get(hope.key, ZoneLore())
        left = fragment_pages(zone, before.order)
        got = gained.get(hope.key, 0)
        zones[hope.key] = _zone_learnt(lore, hope, got, left, period_us=period_us, now=now)
    ratios = dict(known.moved_permille)
    for node in hoped:
        got = sum(gained.get(zone.key, 0) for zone in node.zones)
        if got:
            ratio = moved.get(node.node, 0) * _PERMILLE // got
            before_it = ratios.get(node.node, _PERMILLE)
            ratios[node.node] = min(_MOST_MOVED_PERMILLE, (before_it + ratio) // 2)
    return replace(known, zones=zones, moved_permille=ratios)


def _pairs(
    after: Fragmentation, hoped: tuple[NodeHope, ...]
) -> Iterator[tuple[ZoneView, ZoneHope]]:
    views = {(zone.node, zone.zone): zone for zone in after.zones}
    for node in hoped:
        for hope in node.zones:
            if hope.key in views:
                yield views[hope.key], hope


def _zone_learnt(  # noqa: PLR0913  # the same
    lore: ZoneLore, hope: ZoneHope, got: int, left: int, *, period_us: int, now: Instant
) -> ZoneLore:
    if not hope.fragments:
        return lore
    share = min(_PPM, got * _PPM // hope.fragments)
    misses = lore.misses + 1 if got * _DID_NOT_PAY < hope.pages else 0
    back_off = min(_LONGEST_BACK_OFF, 2 << misses)
    return ZoneLore(
        yield_ppm=max(_LEAST_YIELD_PPM, (lore.yield_ppm + share) // 2),
        left_pages=left,
        left_until=Instant(now + back_off * period_us),
        misses=misses,
    )
