from __future__ import annotations

import pytest

from lab.ledger_figures import Reading, difference_percent, still_held, table
from memreact_schemas.status import LedgerStatus, LedgerTally

MIB = 1 << 20


def reading(held_mib: int, evicted_mib: int = 0, zram_mib: int = 0, **mib: int) -> Reading:
    again, others = mib.pop("used_again", 0), mib.pop("freed_by_others", 0)
    reported = mib.pop("reported", 0)
    return Reading(
        held_mib * MIB,
        LedgerStatus(
            since_start=LedgerTally(
                evicted_file_bytes=evicted_mib * MIB, zram_taken_bytes=zram_mib * MIB
            ),
            reported_bytes=reported * MIB,
            free_held_bytes={cause: size * MIB for cause, size in mib.items()},
            used_again_estimate_bytes=again * MIB,
            freed_by_others_estimate_bytes=others * MIB,
        ),
    )


FIRST = reading(700, fragmented=20, reported=250)
LAST = reading(400, 350, 10, fragmented=30, not_told_yet=5, used_again=25, reported=550)


def test_what_was_evicted_is_back_or_still_held_for_a_reason() -> None:
    assert difference_percent(FIRST, LAST) == 0
    assert still_held(FIRST, LAST) == {
        "fragmented": 10 * MIB,
        "not_told_yet": 5 * MIB,
        "used_again": 25 * MIB,
    }


def test_what_others_freed_counts_against_it() -> None:
    last = reading(360, 350, 10, fragmented=30, reported=590, freed_by_others=10)
    assert difference_percent(FIRST, last) == 0


def test_what_the_host_holds_for_no_known_reason_is_the_difference() -> None:
    last = reading(430, 350, 10, fragmented=30, not_told_yet=5, used_again=25, reported=550)
    assert difference_percent(FIRST, last) == pytest.approx(100 * 30 / 270)


def test_the_table_has_each_cause_in_words_and_in_mib() -> None:
    rows = dict(line.rsplit(maxsplit=1) for line in table(FIRST, LAST).splitlines() if line)
    assert rows["still held: not told yet"] == "5.0"
    assert rows["= evicted, net"] == "340.0"
    assert rows["taken by zram for that"] == "-10.0"
    assert rows["difference"] == "0.0"
