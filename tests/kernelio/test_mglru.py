from __future__ import annotations

import errno
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import Interrupted, MalformedReading, Refused, Unsupported
from kernelio.interruptible import install_kick_handler
from kernelio.mglru import (
    Generation,
    LruGen,
    MemcgGenerations,
    NodeGenerations,
    age_command,
    evict_command,
    parse_enabled,
    parse_lru_gen,
    read_enabled,
    read_lru_gen,
    write_enabled,
)
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text
from tests.stuck import full_pipe, kicked_until_done

LRU_GEN = "/sys/kernel/debug/lru_gen"
ENABLED = "/sys/kernel/mm/lru_gen/enabled"

# Indented heads, an empty line first, a memcg without id, blank lines last.
SAMPLE = rb"""
       memcg     1 /
 node     0
          0     589359          0           -0
          1     589359         12           0
          2     589359          0           0
          3     589359       1265        2471
      memcg    30 /aabbc/tea-loglogl
 node     0
          0     385000         20          23
          1     385000          9          23
          2     385000         20          19
          3     380000          3           8
       memcg    22 /aabbc/staraabbc
 node     1
          2     589359          0       86201
          3     589359        253           0
          4     589359          0           0
          5     589359       2976       41252
       memcg    21 /aabbc/TEAE-iaabbc
 node     0
          0     589359          0           1
          1     589359          2           3
          2     589359          6           7
          3     589359          8           9
 node     1
          3     589359         10          11
          4     589359         12          16
          5     589359         17          18
          6     589359         19          20
        memcg     0 /justto.slice/cpupower.service
 node     0
          0     589359          0          33
          1     589359          0           0
          2     589359          0           0
          3     589359          0         115
      memcg    16 /justto.slice/boot.mount
 node     0
          0     589359          0          26
          1     589359          0           0
          2     589359          0           0
          3     589359          0           0
      memcg    49 /x/justto-serial\x2dgetty.slice
 node     0
          0     589359          4           5


"""


def parsed(text: bytes) -> list[MemcgGenerations]:
    return list(parse_lru_gen(text.split(b"\n"), "lru_gen"))


def printed(memcgs: list[MemcgGenerations]) -> bytes:
    """Print memcgs as lru_gen_seq_show() does."""
    lines = []
    for memcg in memcgs:
        lines.append(b"memcg %5d %s" % (memcg.memcg_id, os.fsencode(memcg.path)))
        for node in memcg.nodes:
            lines.append(b" node %5d" % node.node)
            lines.extend(b" %10d %10d %10d  %10d  " % each for each in node.generations)
    return b"".join(line + b"\n" for line in lines)


def counts(node: NodeGenerations) -> dict[int, tuple[int, int]]:
    return {each.seq: (each.anon_pages, each.file_pages) for each in node.generations}


def found(path: str) -> MemcgGenerations:
    [memcg] = [memcg for memcg in parsed(SAMPLE) if memcg.path == path]
    return memcg


# --- readings


@pytest.mark.parametrize("path", golden_files("sys/kernel/debug/lru_gen"))
def test_reads_back_what_real_kernels_print(path: str) -> None:
    text = golden_text(path)
    memcgs = parsed(text)
    assert printed(memcgs).split() == text.split()
    assert memcgs[0].path == "/"


@pytest.mark.parametrize("path", golden_files("sys/kernel/debug/lru_gen"))
def test_names_with_blanks_tabs_and_beyond_ascii_are_read_whole(path: str) -> None:
    assert {"/a b", "/tab\there-ä"} <= {memcg.path for memcg in parsed(golden_text(path))}


def test_a_memcg_with_one_node() -> None:
    memcg = found("/aabbc/tea-loglogl")
    assert memcg.memcg_id == 30
    [node] = memcg.nodes
    assert counts(node) == {0: (20, 23), 1: (9, 23), 2: (20, 19), 3: (3, 8)}
    assert (node.node, node.min_seq, node.max_seq) == (0, 0, 3)
    assert node.generations[-1].age_ms == 380_000


def test_a_memcg_on_the_second_node_only() -> None:
    [node] = found("/aabbc/staraabbc").nodes
    assert counts(node) == {2: (0, 86201), 3: (253, 0), 4: (0, 0), 5: (2976, 41252)}
    assert (node.node, node.min_seq, node.max_seq) == (1, 2, 5)


def test_a_memcg_on_two_nodes_has_generations_of_its_own_on_each() -> None:
    first, second = found("/aabbc/TEAE-iaabbc").nodes
    assert counts(first) == {0: (0, 1), 1: (2, 3), 2: (6, 7), 3: (8, 9)}
    assert counts(second) == {3: (10, 11), 4: (12, 16), 5: (17, 18), 6: (19, 20)}
    assert (first.min_seq, first.max_seq, second.min_seq, second.max_seq) == (0, 3, 3, 6)


def test_a_memcg_with_id_zero_is_read_like_any_other() -> None:
    memcg = found("/justto.slice/cpupower.service")
    assert memcg.memcg_id == 0
    assert counts(memcg.nodes[0]) == {0: (0, 33), 1: (0, 0), 2: (0, 0), 3: (0, 115)}


def test_minus_zero_pages_are_none() -> None:
    memcg = found("/")
    assert memcg.memcg_id == 1
    assert counts(memcg.nodes[0]) == {0: (0, 0), 1: (12, 0), 2: (0, 0), 3: (1265, 2471)}


def test_negative_counts_are_none() -> None:
    [memcg] = parsed(b"memcg 7 /x\n node 0\n 0 5 -3 -12\n")
    assert memcg.nodes[0].generations == (Generation(0, 5, 0, 0),)


def test_a_backslash_in_a_name_is_the_names_own() -> None:
    assert found(r"/x/justto-serial\x2dgetty.slice").memcg_id == 49


def test_heads_may_be_indented_and_empty_lines_come_anywhere() -> None:
    assert [memcg.memcg_id for memcg in parsed(SAMPLE)] == [1, 30, 22, 21, 0, 16, 49]


def test_an_id_of_64_bits_is_kept_whole() -> None:
    text = b"memcg 70000 /a\n node 0\n 0 1 2 3\nmemcg 18446744073709551615 /b\n node 0\n 0 1 2 3\n"
    assert [memcg.memcg_id for memcg in parsed(text)] == [70000, 2**64 - 1]


def test_blanks_at_the_end_of_a_name_belong_to_it() -> None:
    [memcg] = parsed(b"memcg   512 /a  b \n node 0\n 0 1 2 3\n")
    assert memcg.path == "/a  b "


def test_a_name_that_looks_like_a_line_of_its_own_stays_a_name() -> None:
    [memcg] = parsed(b"memcg     5 /1 2 3 4\n node     0\n 0 1 2 3\n")
    assert (memcg.memcg_id, memcg.path) == (5, "/1 2 3 4")


def test_a_name_that_is_no_text_is_the_one_that_listdir_gives(guest: FakeGuest) -> None:
    os.mkdir(os.fsencode(guest.root) + b"/\xff\xe4")
    [memcg] = parsed(b"memcg 9 /\xff\xe4\n node 0\n 0 1 2 3\n")
    assert [memcg.path] == ["/" + name for name in os.listdir(guest.root)]


def test_without_a_memory_controller_the_one_entry_has_no_name() -> None:
    [memcg] = parsed(b"memcg     0 \n node     0\n 0 1 2 3\n")
    assert (memcg.memcg_id, memcg.path) == (0, "")


def test_a_path_that_comes_twice_is_given_twice() -> None:
    text = b"memcg 5 /a\n node 0\n 0 1 2 3\nmemcg 9 /a\n node 0\n 0 1 2 3\n"
    assert [(memcg.memcg_id, memcg.path) for memcg in parsed(text)] == [(5, "/a"), (9, "/a")]


def test_a_node_without_generations_is_left_out() -> None:
    [memcg] = parsed(b"memcg 5 /a\n node 0\n node 1\n 0 1 2 3\n")
    assert [node.node for node in memcg.nodes] == [1]


def test_an_empty_file_lists_nobody() -> None:
    assert parsed(b"") == []


@pytest.mark.parametrize(
    "line",
    [
        " node 0",
        " 0 1 2 3",
        "memcg",
        "memcg x /a",
        "memcg 5 /a\n 0 1 2 3",
        "memcg 5 /a\n node x",
        "memcg 5 /a\n node 0\n 0 1 2",
        "memcg 5 /a\n node 0\n 0 1 2 3 4",
        "memcg 5 /a\n node 0\n 0 1 2x 3",
        "memcg 5 /a\n node 0\n 0 1_0 2 3",
        "memcg 5 /a\n node 0\n 3 1 2 3\n 2 1 2 3",
        "memcg 5 /a\n node 0\n 3 1 2 3\n 3 1 2 3",
        "memcg 5 /a\nnonsense",
        "memcg " + "9" * 5000 + " /a",
    ],
)
def test_a_line_out_of_place_is_malformed_and_named(line: str) -> None:
    with pytest.raises(MalformedReading) as caught:
        parsed(line.encode())
    assert caught.value.line == line.rsplit("\n", maxsplit=1)[-1]
    assert caught.value.path == "lru_gen"


def test_memcgs_before_a_malformed_line_are_given_first() -> None:
    reading = parse_lru_gen([b"memcg 5 /a", b"memcg 6 /b", b"nonsense"], "lru_gen")
    assert next(reading).memcg_id == 5
    with pytest.raises(MalformedReading):
        next(reading)


SEQS = st.integers(0, 2**63)
PAGES = st.integers(0, 2**40)
NAMES = st.binary(max_size=30).map(lambda name: os.fsdecode(b"/" + name.replace(b"\n", b"n")))


@st.composite
def nodes(draw: st.DrawFn) -> tuple[NodeGenerations, ...]:
    """Draw what one memcg may have, on one or more nodes."""
    made = []
    for node in draw(st.lists(st.integers(0, 1023), unique=True, max_size=3)):
        first = draw(SEQS)
        amounts = draw(
            st.lists(st.tuples(st.integers(0, 2**32 - 1), PAGES, PAGES), min_size=1, max_size=4)
        )
        generations = tuple(Generation(first + at, *each) for at, each in enumerate(amounts))
        made.append(NodeGenerations(node, generations))
    return tuple(made)


MEMCGS = st.lists(
    st.builds(MemcgGenerations, st.integers(0, 2**64 - 1), NAMES, nodes()), max_size=4
)


@given(MEMCGS)
def test_reads_back_every_value_the_kernel_can_print(memcgs: list[MemcgGenerations]) -> None:
    assert parsed(printed(memcgs)) == memcgs


@given(st.binary() | st.lists(st.sampled_from(SAMPLE.split(b"\n"))).map(b"\n".join))
def test_any_bytes_parse_or_are_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        for memcg in parsed(text):
            for node in memcg.nodes:
                assert node.min_seq <= node.max_seq


# --- the file


def test_a_file_of_many_blocks_reads_as_a_whole(guest: FakeGuest) -> None:
    memcgs = [
        MemcgGenerations(
            number,
            f"/shop.slice/shop-{number}.service",
            (NodeGenerations(0, tuple(Generation(seq, 10, seq, number) for seq in range(4))),),
        )
        for number in range(3000)
    ]
    path = guest.shows(LRU_GEN, printed(memcgs))
    assert os.stat(path).st_size > 5 * 65536
    assert list(read_lru_gen(path)) == memcgs


def test_a_reading_that_is_given_up_leaves_no_fd_behind(guest: FakeGuest) -> None:
    reading = read_lru_gen(guest.shows(LRU_GEN, SAMPLE))
    before = len(os.listdir("/proc/self/fd"))
    next(reading)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del reading
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_line_without_end_is_malformed_before_it_fills_the_memory(guest: FakeGuest) -> None:
    path = guest.shows(LRU_GEN, "memcg 5 /" + "x" * 300_000)
    with pytest.raises(MalformedReading) as caught:
        list(read_lru_gen(path))
    assert len(caught.value.line) <= 65536


def test_without_debugfs_it_is_unsupported(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        list(read_lru_gen(guest.layout.lru_gen))
    with pytest.raises(Unsupported):
        LruGen.open(guest.layout.lru_gen)


# --- the switches


@pytest.mark.parametrize("path", golden_files("sys/kernel/mm/lru_gen/enabled"))
def test_real_kernels_print_a_mask_of_three_bits(path: str) -> None:
    mask = parse_enabled(golden_text(path), path)
    assert golden_text(path) == b"0x%04x\n" % mask
    assert 0 <= mask <= 7


@given(st.integers(0, 2**32 - 1))
def test_reads_back_every_mask(mask: int) -> None:
    assert parse_enabled(b"0x%04x\n" % mask, "enabled") == mask
    assert parse_enabled(b"%d\n" % mask, "enabled") == mask


@given(st.binary())
def test_any_mask_parses_or_is_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        assert parse_enabled(text, "enabled") >= 0


def test_the_switches_are_set_by_mask_or_all_at_once(guest: FakeGuest) -> None:
    path = guest.shows(ENABLED, "0x0000\n")
    assert read_enabled(path) == 0
    guest.shows(ENABLED, "")
    write_enabled(path, 7)
    assert read_enabled(path) == 7
    guest.shows(ENABLED, "")
    write_enabled(path, "y")
    assert guest.received(ENABLED) == b"y"


def test_a_kernel_without_the_switches_is_unsupported(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        read_enabled(guest.layout.lru_gen_enabled)
    with pytest.raises(Unsupported):
        write_enabled(guest.layout.lru_gen_enabled, "y")


# --- commands


def test_an_eviction_is_spelled_as_the_kernel_reads_it() -> None:
    assert evict_command(70000, 1, 3, swappiness=50, pages=4096) == b"- 70000 1 3 50 4096"
    assert evict_command(70000, 1, 3, swappiness="max", pages=64) == b"- 70000 1 3 max 64"


def test_an_aging_is_spelled_as_the_kernel_reads_it() -> None:
    assert age_command(30, 0, 3, can_swap=True) == b"+ 30 0 3 1 1"
    assert age_command(2**64 - 1, 0, 3, can_swap=False, force_scan=False) == (
        b"+ 18446744073709551615 0 3 0 0"
    )


def test_an_open_lru_gen_is_given_one_command_a_write(guest: FakeGuest) -> None:
    lru_gen = LruGen.open(guest.shows(LRU_GEN, ""))
    lru_gen.age(30, 0, 3, can_swap=False)
    assert guest.received(LRU_GEN) == b"+ 30 0 3 0 1"
    lru_gen.evict(30, 0, 1, swappiness=200, pages=64)
    assert guest.received(LRU_GEN) == b"+ 30 0 3 0 1" + b"- 30 0 1 200 64"
    lru_gen.close()


def test_what_the_kernel_finds_invalid_is_refused_with_the_words() -> None:
    # oom_score_adj answers words that are no number with EINVAL, as lru_gen does a bad command.
    lru_gen = LruGen.open("/proc/self/oom_score_adj")
    with pytest.raises(Refused) as caught:
        lru_gen.evict(30, 0, 1, swappiness=50, pages=64)
    assert caught.value.errno == errno.EINVAL
    assert "`- 30 0 1 50 64`" in str(caught.value)
    lru_gen.close()


def test_a_kicked_eviction_is_interrupted() -> None:
    install_kick_handler()
    with full_pipe() as pipe:
        lru_gen = LruGen(os.dup(pipe.write), LRU_GEN)
        ended = kicked_until_done(lambda: lru_gen.evict(30, 0, 1, swappiness=0, pages=4096))
        assert str(ended) == f"{LRU_GEN}: broken off by a kick"
        assert isinstance(ended, Interrupted)
        lru_gen.close()
