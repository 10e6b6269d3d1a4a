"""The bounded log of decisions."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from memreact.actions import Because, Decision
from memreact.events import Instant
from memreact.telemetry.decisions import DecisionLog, as_text, row_of


def filled(kept: int, made: int) -> DecisionLog:
    log = DecisionLog(kept)
    for number in range(made):
        log.add(Instant(number), Decision("skip", Because(f"b{number}")))
    return log


def moments(log: DecisionLog) -> list[int]:
    return [at for at, _ in log]


def test_keeps_the_newest_and_counts_them_all() -> None:
    log = filled(3, 10)
    assert moments(log) == [7, 8, 9]
    assert len(log) == 3
    assert log.made == 10


def test_a_smaller_log_keeps_the_newest_of_what_is_there() -> None:
    log = filled(10, 10)
    log.keep(2)
    assert moments(log) == [8, 9]
    log.add(Instant(10), Decision("skip", Because("b")))
    assert moments(log) == [9, 10]


def test_a_larger_log_loses_nothing() -> None:
    log = filled(3, 3)
    log.keep(5)
    log.keep(5)
    log.add(Instant(3), Decision("skip", Because("b")))
    assert moments(log) == [0, 1, 2, 3]


def test_a_log_of_nothing_still_counts() -> None:
    log = filled(0, 4)
    assert len(log) == 0
    assert log.made == 4


def test_rows_are_numbered_from_the_start_and_asked_for_by_the_last_one_known() -> None:
    log = filled(3, 10)
    assert [row.number for row in log.rows()] == [8, 9, 10]
    assert [row.at_us for row in log.rows()] == [7, 8, 9]
    assert [row.number for row in log.rows(since=9)] == [10]
    assert list(log.rows(since=10)) == []
    assert [row.number for row in log.rows(since=2)] == [8, 9, 10]


def test_a_decision_that_is_made_while_rows_are_read_harms_nothing() -> None:
    log = filled(3, 3)
    rows = log.rows()
    first = next(rows)
    log.add(Instant(99), Decision("skip", Because("later")))
    assert [first.number, *(row.number for row in rows)] == [1, 2, 3]


def test_rows_are_those_of_the_moment_in_which_they_were_asked_for() -> None:
    log = filled(3, 3)
    rows = log.rows()
    log.add(Instant(99), Decision("skip", Because("later")))
    assert [row.number for row in rows] == [1, 2, 3]


def test_a_row_keeps_numbers_and_words_apart_and_within_64_bits() -> None:
    because = Because("protected", {"guard": "/a", "protected_bytes": 2**64, "spare": 1})
    row = row_of(4, Instant(5), Decision("end", because, "/a\udcff", 1))
    assert row.figures == {"protected_bytes": 2**63 - 1, "spare": 1}
    assert row.words == {"guard": "/a"}
    assert (row.number, row.at_us, row.path, row.node) == (4, 5, "/a\\udcff", 1)


@given(st.text(st.characters(codec=None)))
def test_any_name_can_be_told(name: str) -> None:
    msgspec.json.encode(as_text(name))


def test_what_concerns_a_memcg_is_what_was_decided_on_it_and_on_the_guest() -> None:
    log = DecisionLog(100)
    for path, verdict in (
        ("/shop", "leave"),
        ("/other", "leave"),
        ("", "turn"),
        ("", "compacted"),
        ("/shop", "end"),
    ):
        log.add(Instant(5), Decision(verdict, Because("x"), path))
    told = log.rows_on("/shop", 10)
    assert [(row.number, row.verdict) for row in told] == [(1, "leave"), (3, "turn"), (5, "end")]
    assert [row.number for row in log.rows_on("/shop", 2)] == [3, 5]


def test_what_has_left_the_log_concerns_nobody() -> None:
    log = DecisionLog(2)
    for number in range(5):
        log.add(Instant(number), Decision("leave", Because("x"), "/shop"))
    assert [row.number for row in log.rows_on("/shop", 10)] == [4, 5]
