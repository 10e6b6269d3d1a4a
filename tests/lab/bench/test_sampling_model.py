"""The model does what is written of the agent that it stands for, its quirks included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.in_guest.sampling_model import (
    Evicting,
    Generation,
    Meter,
    Node,
    free_small,
    parse,
    swappiness,
)
from tests.goldens import golden_files, golden_text

SECOND = 1_000_000
ROW = "Node    0, zone   Normal, type      Movable     10      5      3      2      1      0"
ROW += "      1      0      0      7      9"


def node(*generations: tuple[int, int, int]) -> Node:
    return Node([Generation(*each) for each in generations])


def four(anon: int, file: int) -> Node:
    return node((0, anon, file), (1, 0, 0), (2, 0, 0), (3, 0, 0))


@pytest.mark.parametrize(
    ("anon", "file", "most", "expected"),
    [
        (100, 50, 200, 133),
        (100, 50, 50, 50),
        (1, 1, 200, 100),
        (1, 399, 50, 1),
        (1, 400, 50, 0),
        (110, 210, 200, 69),
        (46, 146, 50, 48),
        (1, 7, 50, 25),
        (0, 0, 50, 0),
    ],
)
def test_the_share_of_anonymous_memory_is_rounded_half_up(
    anon: int, file: int, most: int, expected: int
) -> None:
    assert swappiness(anon, file, most) == expected


@pytest.mark.parametrize(
    ("before_us", "now_us", "elapsed_us", "percent"),
    [
        (10, 10 + 7 * SECOND, 600 * SECOND, 1),
        (10, 10 + 12 * SECOND, 600 * SECOND, 2),
        (0, 50 * SECOND, 600 * SECOND, 0),
        (10, 50, 1_900, 4),
        (10, 500, 900, 0),
        (10, 10, 600 * SECOND, 0),
    ],
)
def test_a_percentage_is_whole_and_the_first_look_is_none(
    before_us: int, now_us: int, elapsed_us: int, percent: int
) -> None:
    meter = Meter()
    assert meter.percent(before_us, SECOND) == 0
    assert meter.percent(now_us, SECOND + elapsed_us) == percent


@pytest.mark.parametrize(("order", "expected"), [(9, 128), (3, 32), (0, 0), (11, 12_928)])
def test_small_free_blocks_are_those_of_movable_rows_below_an_order(
    order: int, expected: int
) -> None:
    unmovable = ROW.replace("Movable", "Unmovable")
    assert free_small(f"{ROW}\n{unmovable}\nNode 0, zone Movable 1 2 3\n", order) == expected


def test_heads_with_nodes_and_generations_are_read() -> None:
    text = """
     memcg    22 /aabbc/staraabbc
 node     1
          2     300000          0      86201
          3     200000        253          0
          4     100000          0         -0
          5       1000       2976      41252
     memcg    16 /justto.slice/boot.mount
     memcg    17 /a b
 node     0
          0     300000          1          1
"""
    found = list(parse(text.splitlines()))
    assert [(number, path) for number, path, _ in found] == [
        (22, "/aabbc/staraabbc"),
        (16, "/justto.slice/boot.mount"),
    ]
    nodes = found[0][2]
    assert (nodes[1].oldest, nodes[1].max_seq) == (Generation(2, 0, 86_201), 5)
    assert nodes[1].generations[2].file == 0


@pytest.mark.parametrize("path", golden_files("kernel/debug/lru_gen"))
def test_what_real_kernels_print_is_read(path: str) -> None:
    lines = golden_text(path).decode().splitlines()
    found = list(parse(lines))
    heads = [words for words in map(str.split, lines) if words[:1] == ["memcg"]]
    assert len(found) == sum(len(words) == 3 for words in heads)  # names with blanks are skipped
    assert any(nodes for _, _, nodes in found)


@given(st.text(alphabet="memcg node 0123456789/-\n"))
def test_of_a_node_without_generations_nothing_is_told(text: str) -> None:
    try:
        found = list(parse(text.splitlines()))
    except ValueError:
        return
    assert all(node.generations for _, _, nodes in found for node in nodes.values())


def test_an_empty_oldest_generation_is_not_evicted() -> None:
    assert Evicting().first(four(5, 0), usable=False) == "no_min_lru_file"
    assert Evicting().first(four(0, 0), usable=True) == "no_min_lru_file"
    assert Evicting().first(four(0, 1), usable=False) == ""


def test_anonymous_memory_alone_goes_where_swap_is_usable() -> None:
    now = Evicting()
    assert now.first(four(5, 0), usable=True) == ""
    assert now.only_swap


def test_it_ends_when_a_write_took_nothing() -> None:
    now = Evicting(last=Generation(0, 0, 8))
    assert now.later(four(0, 7)) == ""
    assert now.later(four(0, 8)) == "min_lru_inc"
    assert now.later(four(0, 0)) == "no_min_lru_file"


def test_that_the_oldest_generation_has_gone_counts_as_another_error() -> None:
    assert Evicting(last=Generation(0, 0, 8)).later(node((1, 0, 1), (2, 0, 0))) == "other_error"
