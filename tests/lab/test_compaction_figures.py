from __future__ import annotations

import pytest

from lab.compaction_figures import Figures, read_rows, table, verdicts, written

MIB = 1 << 20


def row(name: str, held_mib: int = 400, moved: int = 10_000, free_held_mib: float = 8) -> Figures:
    free_held = int(free_held_mib * MIB)
    figures = Figures(name, "6.12", 120.0, held_mib * MIB, 500 * MIB, free_held, moved)
    figures.worked_us, figures.compactions, figures.because = 12_300_000, 3, {"done": 3}
    return figures


def rows(*each: Figures) -> dict[str, Figures]:
    return {one.name: one for one in each}


def test_rows_are_read_back_as_they_were_written() -> None:
    made = rows(row("none"), row("gain", moved=7))
    assert read_rows(written(made)) == made
    assert read_rows(b"") == {}


def test_the_table_has_the_rows_in_the_order_of_what_is_at_work() -> None:
    lines = table(rows(row("gain-5"), row("none"), row("gain"))).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "reporting alone",
        '+ compaction, "gain"',
        "the same, reporting order 5",
    ]
    assert lines[1].split()[2:] == [
        *("400", "500", "8.0", "0.0", "0.0", "-"),
        *("10.0", "-", "3", "12.3", "-"),
    ]


def test_a_gain_that_moves_half_and_leaves_no_more_reaches_its_aim() -> None:
    assert verdicts(rows(row("threshold", moved=20_000), row("gain"))) == []


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (row("gain", held_mib=401), "leaves 401 MiB with the host"),
        (row("gain", moved=10_001), "more than half"),
    ],
)
def test_a_gain_that_leaves_more_or_moves_too_much_is_told(gain: Figures, says: str) -> None:
    (missed,) = verdicts(rows(row("threshold", moved=20_000), gain))
    assert says in missed


def test_pages_that_move_are_compared_at_the_same_give_back() -> None:
    evict, threshold = row("evict", held_mib=600, moved=0), row("threshold", held_mib=500)
    twice = row("gain", held_mib=400, moved=10_000)
    assert verdicts(rows(evict, threshold, twice)) == []
    (missed,) = verdicts(rows(evict, threshold, row("gain", held_mib=400, moved=10_100)))
    assert "0.51 as many" in missed
    (line,) = [each for each in table(rows(evict, twice)).splitlines() if '"gain"' in each]
    assert line.split()[-4] == "50"


def test_free_memory_that_stays_with_the_host_is_told_from_12_mib_on() -> None:
    assert verdicts(rows(row("mixed-gain", free_held_mib=11.9))) == []
    (missed,) = verdicts(rows(row("mixed-gain", free_held_mib=12)))
    assert missed.startswith("12.0 MiB")


def test_what_was_not_measured_is_not_judged() -> None:
    assert verdicts(rows(row("gain", held_mib=900))) == []
