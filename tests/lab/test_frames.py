from __future__ import annotations

import array

from lab.workloads.frames import blocks_told

BUDDY, UPTODATE = 1 << 10, 1 << 3
BLOCK = 512


def flags(*heads: int) -> array.array[int]:
    """Page flags of a memory of as many blocks; each has its head's flags, and none behind it."""
    entries = array.array("Q", [0] * BLOCK * len(heads))
    for number, head in enumerate(heads):
        entries[number * BLOCK] = head
    return entries


def test_a_free_block_counts_only_when_it_was_reported() -> None:
    assert blocks_told(flags(BUDDY, BUDDY | UPTODATE, UPTODATE, 0)) == {1}


def test_a_block_of_order_10_is_marked_once() -> None:
    assert blocks_told(flags(BUDDY | UPTODATE, BUDDY, 0, 0)) == {0, 1}


def test_a_free_block_behind_the_second_half_of_a_pair_is_another_block() -> None:
    assert blocks_told(flags(0, BUDDY | UPTODATE, BUDDY, 0)) == {1}


def test_the_end_of_memory_may_cut_a_pair() -> None:
    assert blocks_told(flags(BUDDY | UPTODATE)) == {0}
