"""The bounded log of decisions."""

from __future__ import annotations

from memreact.actions import Because, Decision
from memreact.events import Instant
from memreact.telemetry.decisions import DecisionLog


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
