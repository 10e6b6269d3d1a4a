from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.in_guest.probe import flat, kind_of, some_us, steal_us, switches
from tests.goldens import golden_files, golden_text

NAMES = st.text(alphabet="abcdefghij_", min_size=1)


@given(st.dictionaries(NAMES, st.integers(min_value=0)))
def test_names_and_numbers_are_read_with_or_without_colon_and_unit(values: dict[str, int]) -> None:
    assert flat("".join(f"{name} {number}\n" for name, number in values.items())) == values
    assert flat("".join(f"{name}:   {number} kB\n" for name, number in values.items())) == values


def test_what_is_no_number_is_left_out() -> None:
    assert flat("Name: python3\n\nUmask\nThreads:\t3\n55d0-7f00 ---p 0 [rollup]\n") == {
        "Threads": 3
    }


@pytest.mark.parametrize("path", golden_files("proc/vmstat"))
def test_refaults_and_major_faults_are_in_what_real_kernels_print(path: str) -> None:
    found = flat(golden_text(path).decode())
    assert "pgmajfault" in found
    assert {"workingset_refault_anon", "workingset_refault_file"} <= found.keys()


@pytest.mark.parametrize(
    ("comm", "kind"),
    [("kdamond.0\n", "kdamond"), ("kswapd0\n", "kswapd"), ("psimon\n", "psimon"), ("sh\n", "")],
)
def test_threads_of_the_kernel_count_by_their_kind(comm: str, kind: str) -> None:
    assert kind_of(comm) == kind


def test_both_kinds_of_switches_count() -> None:
    assert switches("Name:\tx\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t7\n") == 12


def test_the_total_of_some_counts() -> None:
    text = "some avg10=0.15 avg60=0.22 avg300=0.28 total=3830739\nfull avg10=0.00 total=1\n"
    assert some_us(text) == 3_830_739


def test_stolen_time_is_the_eighth_column() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert steal_us(f"cpu  1 2 3 4 5 6 7 {2 * ticks} 0 0\ncpu0 1\n") == 2_000_000
