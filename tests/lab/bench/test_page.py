from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from lab.bench.page import beside, losses, page, picture
from lab.bench.results import Costs, Harm, Held, Machine, Micro, Run, Stops

MIB = 1 << 20
HERE = Machine(2, 4096, "6.12", 0.5, "1024 MiB, 2 processors (tcg), Linux 6.12")
MICRO = Micro("parse", (1.5, 2.0), "abc", replace(HERE, guest=""))


def run_of(rival: str, last_mib: int, *, lost_us: int = 5000, number: int = 1) -> Run:
    return Run(
        workload="mixed",
        rival=rival,
        number=number,
        seconds=60,
        held=(Held(0, 700 * MIB), Held(60, last_mib * MIB)),
        free_held_bytes=0,
        zram_bytes=0,
        costs=Costs(user_us=0 if rival == "nothing" else 1_000_000, rss_bytes=MIB),
        harm=Harm(major_faults=0, refaults=0, stalled_us=0, lost_us=lost_us),
        steal_us=0,
        commit="abc",
        machine=HERE,
        note="a model" if rival == "model" else "",
    )


def test_what_a_rival_is_better_at_is_said_with_both_figures() -> None:
    found = losses([run_of("memreact", 400), run_of("model", 300), run_of("x", 500)])
    assert "held, end (MiB): 400, beside model 300" in found
    assert not any(sentence.startswith("lost") for sentence in found)


def test_nothing_is_better_at_harm_alone() -> None:
    found = losses([run_of("memreact", 400, lost_us=9000), run_of("nothing", 700, lost_us=1000)])
    assert found == ["lost (ms): 9, beside nothing 1"]


def test_a_difference_of_less_than_a_twentieth_is_none() -> None:
    assert losses([run_of("memreact", 400), run_of("x", 390)]) == []


def test_the_main_figures_are_shares_of_each_rivals() -> None:
    held, cpu = beside([run_of("memreact", 100), run_of("nothing", 700), run_of("x", 300)])
    assert cpu.endswith("per GiB given back is 67 % of that of x.")
    assert held.endswith("GiB·min, is 57 % of that of nothing, 80 % of that of x.")


def test_the_page_has_the_machine_the_commit_and_how_to_repeat_each_table() -> None:
    text = page("# Head", [MICRO, run_of("memreact", 400), run_of("model", 300)])
    assert text.startswith("# Head")
    assert "make bench WORKLOADS=mixed" in text
    assert "make bench-native" in text
    assert "2 processors, 4096 MiB, Linux 6.12, in a guest of 1024 MiB" in text
    assert "- `model`: a model" in text
    assert re.search(r"^## mixed$", text, re.MULTILINE)


def test_each_rival_has_a_picture_of_its_run_in_the_middle() -> None:
    runs = [run_of("x", mib, number=n) for n, mib in enumerate((100, 300, 600))]
    svg = picture([run_of("nothing", 700), *runs])
    assert "nothing: MiB held" in svg
    assert svg.count("<polyline") == 2
    assert svg == picture([run_of("nothing", 700), runs[1]])


def test_a_page_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no result"):
        page("", [])


def test_who_stopped_sooner_is_named() -> None:
    both = [
        Stops("memreact", 1, {"same": (9000, 25_000)}, {"same": (0, MIB)}, {}, "abc", HERE),
        Stops("model", 1, {"same": (8000,)}, {"same": (MIB,)}, {}, "abc", HERE),
    ]
    text = page("", both)
    assert "- same: sooner than memreact: model" in text
    assert "| stall in the same cgroup: ms until it stopped | 17.0 (9.0 to 25.0) | 8.0 |" in text
    assert "nobody stopped sooner" in page("", both[:1])
