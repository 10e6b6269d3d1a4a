from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lab.bench.figures import (
    cpu_us,
    duration,
    gib_minutes,
    given_back_bytes,
    micro_table,
    run_table,
    spread,
    summary,
    time_to_s,
)
from lab.bench.once import Probed, costs_of, harm_of
from lab.bench.results import Costs, Harm, Held, Machine, Micro, Run

MIB = 1 << 20
HERE = Machine(2, 4096, "6.12", 0.5)
FIRST = Probed(1, {"kcompactd": 5}, 10, 100, 7, 50, 3, 0)
LAST = Probed(9, {"kcompactd": 9, "kdamond": 4}, 16, 101, 9, 60, 4, 8, 1, 2, 30, 5, 4, 3)


def held(*mib: float) -> tuple[Held, ...]:
    """Ten seconds between two."""
    return tuple(Held(10.0 * at, int(each * MIB)) for at, each in enumerate(mib))


def run_of(rival: str, *mib: float, number: int = 1, **costs: int) -> Run:
    kernel_us = {"kcompactd": costs.pop("kernel_us", 0)}
    return Run(
        workload="mixed",
        rival=rival,
        number=number,
        seconds=60,
        held=held(*mib),
        free_held_bytes=5 * MIB,
        zram_bytes=0,
        costs=Costs(kernel_us=kernel_us, **costs),
        harm=Harm(major_faults=3, refaults=4, stalled_us=5000, long_passes=6),
        steal_us=0,
        commit="abc",
        machine=HERE,
    )


def test_a_gib_for_a_minute_is_one() -> None:
    assert gib_minutes((Held(0, 1 << 30), Held(30, 1 << 30), Held(60, 1 << 30))) == 1


def test_what_was_held_more_at_the_end_is_not_given_back() -> None:
    assert given_back_bytes(run_of("x", 700, 400)) == 300 * MIB
    assert given_back_bytes(run_of("x", 400, 700)) == 0


def test_half_of_it_and_most_of_it_have_their_moment() -> None:
    course = held(700, 700, 540, 410, 400)
    assert (time_to_s(course, 50), time_to_s(course, 90)) == (20, 30)
    assert time_to_s(held(400, 700), 50) is None
    assert time_to_s(held(400, 390), 50) is None


@given(st.lists(st.integers(0, 1000), min_size=2), st.integers(1, 99))
def test_what_was_given_back_has_a_moment_always(mib: list[int], percent: int) -> None:
    course = held(*mib)
    assert (time_to_s(course, percent) is None) == (mib[0] - mib[-1] < 16)


def test_kernel_threads_count_beyond_what_they_use_anyway() -> None:
    assert cpu_us(run_of("memreact", 1, 1, user_us=10, system_us=5, kernel_us=7), 4) == 18
    assert cpu_us(run_of("memreact", 1, 1, user_us=10, system_us=5, kernel_us=2), 4) == 15


def test_of_the_model_only_its_time_in_the_kernel_counts() -> None:
    assert cpu_us(run_of("model", 1, 1, user_us=10, system_us=5), 0) == 5


def test_a_spread_is_the_median_between_the_least_and_the_most() -> None:
    assert spread([3, 1, 2]) == "2 (1 to 3)"
    assert spread([1.25], 1) == "1.2"
    assert spread([]) == "-"


@pytest.mark.parametrize(
    ("value_us", "text"), [(0.9, "0.9 us"), (-226, "-226 us"), (1500, "1.5 ms"), (2e6, "2 s")]
)
def test_a_duration_has_three_digits_and_a_unit(value_us: float, text: str) -> None:
    assert duration(value_us) == text


def test_rivals_are_columns_and_what_none_tells_has_no_row() -> None:
    runs = [run_of("nothing", 700, 700), run_of("x", 700, 400), run_of("x", 700, 420, number=2)]
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in (line.split("|") for line in run_table(runs).splitlines())
    }
    assert rows[""] == ["nothing", "x"]
    assert rows["held, end (MiB)"] == ["700", "410 (400 to 420)"]
    assert rows["passes over 5 ms"] == ["6", "6"]
    assert "p99 (ms)" not in rows


def test_of_a_part_that_was_measured_twice_the_later_counts() -> None:
    table = micro_table([Micro("a", (1, 2), "x", HERE), Micro("a", (3000.0,), "x", HERE)])
    assert "| a | 3 ms | 3 ms | 3 ms | 1 |" in table


def test_a_summary_says_who_it_was() -> None:
    assert summary(run_of("x", 700, 400)).startswith("mixed, x 1: held 700 to 400 MiB")


def test_costs_are_what_was_used_between_two_looks() -> None:
    started = replace(FIRST, at_us=2, user_us=1, system_us=1, switches=10)
    kernel_us = {"kcompactd": 4, "kdamond": 4}
    assert costs_of(FIRST, started, LAST) == Costs(2, 0, 1, kernel_us, 26, 5, 4, 3)


def test_a_thread_of_the_kernel_that_was_started_anew_used_nothing_that_is_known() -> None:
    last = replace(LAST, kernel_us={"kcompactd": 1})
    assert costs_of(FIRST, FIRST, last).kernel_us == {"kcompactd": 0}


def test_harm_is_what_was_counted_between_two_looks_and_what_was_told() -> None:
    assert harm_of(FIRST, LAST, {"p99_us": 5}) == replace(Harm(1, 2, 10), p99_us=5)
