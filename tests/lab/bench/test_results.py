from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.results import (
    Costs,
    Harm,
    Held,
    Machine,
    Micro,
    Result,
    Run,
    line_of,
    missing,
    read_results,
)

HERE = Machine(2, 4096, "6.12", 0.5)
MICRO = Micro("parse", (1.5, 2.0), "abc", HERE)
TIMES = st.floats(0, 1e6)
COUNTS = st.integers(min_value=0, max_value=2**63 - 1)


def run_of(workload: str, rival: str, number: int) -> Run:
    return Run(
        workload=workload,
        rival=rival,
        number=number,
        seconds=120,
        held=(Held(0, 700), Held(120, 400)),
        free_held_bytes=0,
        zram_bytes=0,
        costs=Costs(),
        harm=Harm(major_faults=0, refaults=0, stalled_us=0),
        steal_us=0,
        commit="abc",
        machine=HERE,
    )


@given(
    st.builds(Micro, values_us=st.lists(TIMES).map(tuple), machine=st.just(HERE))
    | st.builds(
        Run,
        held=st.lists(st.builds(Held, TIMES, COUNTS), max_size=3).map(tuple),
        harm=st.builds(Harm, COUNTS, COUNTS, COUNTS),
        costs=st.builds(Costs, COUNTS),
        machine=st.just(HERE),
        seconds=TIMES,
    )
)
def test_what_is_written_is_read_again(result: Result) -> None:
    (back,) = read_results(line_of(result))
    assert line_of(back) == line_of(result)


@given(st.binary())
def test_any_file_is_read_or_is_told_to_be_wrong(data: bytes) -> None:
    told = ""
    try:
        read_results(data)
    except ValueError as error:
        told = str(error)
    assert told == "" or "is no result" in told


def test_a_line_that_is_half_written_is_left_out() -> None:
    lines = line_of(MICRO) + line_of(run_of("mixed", "nothing", 1))
    assert read_results(lines[:-5]) == [MICRO]


def test_a_line_that_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="line 2 is no result"):
        read_results(line_of(MICRO) + b'{"type":"run"}\n')


def test_every_other_round_goes_the_other_way() -> None:
    assert missing([], ["mixed"], ["a", "b", "c"], 2) == [
        ("mixed", "a", 1),
        ("mixed", "b", 1),
        ("mixed", "c", 1),
        ("mixed", "c", 2),
        ("mixed", "b", 2),
        ("mixed", "a", 2),
    ]


def test_what_is_there_is_not_run_again() -> None:
    there: list[Result] = [MICRO, run_of("mixed", "b", 1)]
    assert missing(there, ["mixed"], ["a", "b"], 1) == [("mixed", "a", 1)]
