from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.value import replace
from memreact_tools.host.swap.sizing import (
    GRAIN_BYTES,
    Decision,
    Grow,
    Need,
    Pace,
    Rest,
    Room,
    Shrink,
    SwapFile,
    SwapSettings,
    Wait,
    decide,
    need_of,
    next_name,
    pace_after_failure,
    pace_after_refusal,
    pace_at,
    target_bytes,
)

MIB = 1 << 20
GIB = 1 << 30
S = 1_000_000
SETTINGS = SwapSettings(
    enable_guest_swap=True,
    guest_swap_path="/srv/swap",
    guest_swap_size_percent=100,
    guest_swap_create_threshold_secs=60,
)
SWAP0 = SwapFile("swap0", 2 * GIB)
SWAP1 = SwapFile("swap1", GIB)


def later(memory: int, *files: SwapFile, settings: SwapSettings = SETTINGS) -> Decision:
    """What is decided once the threshold has passed."""
    return decide(settings, pace_at(None, settings, memory, 0), files, 60 * S)


def test_a_guest_of_2_gib_gets_swap0_of_its_memorys_size() -> None:
    assert later(2 * GIB) == Grow("swap0", 2 * GIB)


def test_a_gib_that_is_plugged_in_later_gets_a_swap1() -> None:
    assert later(3 * GIB, SWAP0) == Grow("swap1", GIB)


def test_a_gib_that_goes_again_makes_swap1_spare() -> None:
    assert later(2 * GIB, SWAP0, SWAP1) == Shrink(("swap1",))


def test_a_file_that_is_spare_in_part_alone_is_kept() -> None:
    assert isinstance(later(2 * GIB + MIB, SWAP0, SWAP1), Rest)


def test_a_third_of_2_gib_is_whole_mebibytes() -> None:
    third = replace(SETTINGS, guest_swap_size_percent=33)
    assert 2 * GIB * 33 // 100 == 708669603  # what is asked for, and ends within a sector
    assert target_bytes(third, 2 * GIB) == 675 * MIB
    assert later(2 * GIB, settings=third) == Grow("swap0", 675 * MIB)


def test_no_percent_is_no_swap_and_what_there_is_is_spare() -> None:
    none = replace(SETTINGS, guest_swap_size_percent=0)
    assert isinstance(later(2 * GIB, settings=none), Rest)
    assert later(2 * GIB, SWAP0, SWAP1, settings=none) == Shrink(("swap1", "swap0"))


def test_what_is_not_enabled_is_not_done() -> None:
    off = replace(SETTINGS, enable_guest_swap=False)
    assert later(2 * GIB, settings=off) == Rest("enable_guest_swap is false")


def test_nothing_is_done_before_the_size_has_held_for_the_threshold() -> None:
    pace = pace_at(None, SETTINGS, GIB, 5 * S)
    assert decide(SETTINGS, pace, (), 64 * S) == Wait(65 * S)
    assert pace_at(pace, SETTINGS, GIB, 30 * S) == pace
    grown = pace_at(pace, SETTINGS, 2 * GIB, 30 * S)
    assert decide(SETTINGS, grown, (), 65 * S) == Wait(90 * S)


def test_three_attempts_that_fail_at_once_are_at_60_240_and_420_seconds() -> None:
    pace, at = pace_at(None, SETTINGS, GIB, 0), []
    while pace.due_us is not None:
        assert isinstance(decide(SETTINGS, pace, (), pace.due_us), Grow)
        at.append(pace.due_us // S)
        pace = pace_after_failure(pace, SETTINGS, pace.due_us)
    assert at == [60, 240, 420]
    assert decide(SETTINGS, pace, (), 10**12) == Rest("it failed as often as it is tried")
    assert pace_at(pace, SETTINGS, 2 * GIB, 500 * S) == Pace(2 * GIB, 560 * S)


def test_2_gib_do_not_go_where_less_than_3_are_free() -> None:
    assert Room(29 * GIB // 10, 0).short_by(2 * GIB) == 3 * GIB - 29 * GIB // 10
    assert Room(3 * GIB, 0).short_by(2 * GIB) == 0


def test_what_other_files_may_still_take_is_not_free() -> None:
    assert Room(4 * GIB, GIB + 1).short_by(2 * GIB) == 1


@pytest.mark.parametrize(
    ("taken", "name"), [([], "swap0"), (["swap0", "swap2"], "swap1"), (["x", "swap0"], "swap1")]
)
def test_the_first_name_that_is_free_is_taken(taken: list[str], name: str) -> None:
    assert next_name(taken) == name


_SIZES = st.integers(1, 1 << 12).map(lambda mib: mib * MIB)


@given(memory=st.integers(0, 1 << 44), percent=st.integers(0, 1000))
def test_a_target_is_whole_mebibytes_and_less_than_one_short(memory: int, percent: int) -> None:
    target = target_bytes(replace(SETTINGS, guest_swap_size_percent=percent), memory)
    assert target % GRAIN_BYTES == 0
    assert 0 <= memory * percent // 100 - target < GRAIN_BYTES


@given(memory=st.integers(0, 1 << 34), sizes=st.lists(_SIZES, max_size=6))
def test_what_is_decided_leads_to_the_target_and_then_to_rest(
    memory: int, sizes: list[int]
) -> None:
    files = [SwapFile(f"swap{n}", size) for n, size in enumerate(sizes)]
    match later(memory, *files):
        case Grow(name, size):
            assert name == f"swap{len(files)}"
            files.append(SwapFile(name, size))
            assert sum(file.size_bytes for file in files) == target_bytes(SETTINGS, memory)
        case Shrink(names):
            files = [file for file in files if file.name not in names]
    assert isinstance(later(memory, *files), Rest)
    assert sum(file.size_bytes for file in files) >= target_bytes(SETTINGS, memory)


# What lies in swap


def needs(memory: int, used: int, most: int = 200) -> Need:
    return need_of(SETTINGS, memory, used, most)


def due(memory: int, used: int, *files: SwapFile) -> Decision:
    """What is decided of a guest that has swapped out so much for long."""
    return decide(SETTINGS, Pace(memory, 0, need=needs(memory, used)), files, 0)


@pytest.mark.parametrize(
    ("used", "need"),
    [
        (0, Need(0, 0)),
        (1, Need(512 * MIB, 512 * MIB)),
        (1536 * MIB, Need(2 * GIB, 3 * GIB)),
        (1537 * MIB, Need(2560 * MIB, 3584 * MIB)),
        (1 << 50, Need(4 * GIB, 4 * GIB)),
    ],
)
def test_a_need_leaves_a_quarter_free_and_goes_in_steps_to_the_most(used: int, need: Need) -> None:
    assert needs(2 * GIB, used) == need


def test_swap_that_fills_up_grows_and_what_is_half_empty_again_goes() -> None:
    assert isinstance(due(2 * GIB, 1536 * MIB, SWAP0), Rest)
    more = due(2 * GIB, 1537 * MIB, SWAP0)
    assert more == Grow("swap1", 512 * MIB)
    swap1 = SwapFile(*more)
    assert isinstance(due(2 * GIB, 1025 * MIB, SWAP0, swap1), Rest)
    assert due(2 * GIB, 1024 * MIB, SWAP0, swap1) == Shrink(("swap1",))


def test_no_need_makes_it_less_than_memory_is_worth() -> None:
    assert later(2 * GIB) == due(2 * GIB, 0) == due(2 * GIB, GIB) == Grow("swap0", 2 * GIB)


def test_a_guest_that_is_to_have_none_needs_none() -> None:
    none = replace(SETTINGS, guest_swap_size_percent=0)
    assert need_of(none, 2 * GIB, GIB, 200) == Need()


def test_a_need_has_to_hold_for_the_threshold_too() -> None:
    pace = pace_at(None, SETTINGS, 2 * GIB, 0)
    again = pace_at(pace, SETTINGS, 2 * GIB, 50 * S, needs(2 * GIB, 2 * GIB))
    assert again.due_us == 110 * S
    assert pace_at(again, SETTINGS, 2 * GIB, 100 * S, again.need) == again


def test_a_guest_that_gives_nothing_back_is_asked_again_and_again() -> None:
    pace = pace_at(None, SETTINGS, 2 * GIB, 0)
    for _ in range(9):
        pace = pace_after_refusal(pace, SETTINGS, 0)
        assert pace.due_us == 180 * S


@given(
    st.integers(0, 1 << 46), st.integers(0, 1 << 46), st.integers(0, 1 << 46), st.integers(0, 400)
)
def test_what_is_given_for_a_need_is_never_taken_back_at_once(
    memory: int, used: int, has: int, most: int
) -> None:
    pace = Pace(memory, 0, need=need_of(SETTINGS, memory, used, most))
    assert pace.need.grow_bytes <= pace.need.keep_bytes
    files = [SwapFile("swap0", has - has % GRAIN_BYTES)] if has >= GRAIN_BYTES else []
    more = decide(SETTINGS, pace, files, 0)
    if isinstance(more, Grow):
        assert isinstance(decide(SETTINGS, pace, [*files, SwapFile(*more)], 0), Rest)
