"""What goes on is told in values that Varlink has, and reads back as it was."""

from __future__ import annotations

import msgspec

from memreact_schemas.status import Counters, DecisionRow, NextEviction, Status

ROW = DecisionRow(
    number=7,
    at_us=5,
    verdict="leave",
    because="anon_stays",
    path="/shop",
    node=0,
    figures={"cold_pages": 9},
    words={"anon": "swap_exhausted"},
)


def test_a_status_reads_back_as_it_was() -> None:
    status = Status(
        version="1",
        revision=3,
        now_us=9,
        started_at_us=1,
        doing="resting",
        next_eviction=NextEviction(waits_for="first_survey", text="soon"),
        counters=Counters(because={"cold_gone": 2}),
    )
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status


def test_a_decision_keeps_its_numbers_and_its_words_apart() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ROW), type=DecisionRow) == ROW
