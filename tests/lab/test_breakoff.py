from __future__ import annotations

from typing import Any

import pytest

from lab.breakoff import missed, rows_of
from lab.workload import Line
from lab.workloads.breakoff import End, child_end, figures
from lab.workloads.ftrace import parse_trace
from lab.workloads.interrupt import Void

# As a 6.12 kernel prints it, with trace_clock mono.
TRACE = """\
          psimon-77      [000] d..4.   100.010000: sched_waking: comm=memreact-waiter pid=813 \
prio=120 target_cpu=000
        memreact-801     [000] d..4.   100.010100: sched_waking: comm=memreact-worker pid=812 \
prio=120 target_cpu=000
 memreact-waiter-813     [000] d..2.   100.010300: signal_generate: sig=9 errno=0 code=0 \
comm=sh pid=990 grp=1 res=0
          psimon-77      [000] d..4.   100.010350: sched_waking: comm=memreact-waiter pid=813 \
prio=120 target_cpu=000
              sh-990     [001] d..4.   100.012300: sched_waking: comm=memreact-worker pid=812 \
prio=120 target_cpu=000
"""
SEEN = parse_trace(TRACE.splitlines(keepends=True))
STAMP = 100_001_000


def ended(outcome: str) -> dict[str, Any]:
    event = {"type": "CompactionEnded", "outcome": outcome, "migrated_pages": 7, "took_us": 300}
    return {"at": STAMP, "event": event}


def test_an_end_counts_from_the_last_wake_before_the_kill_to_the_childs_last_word() -> None:
    assert child_end(SEEN) == End(100_010_000, 100_010_300, 100_012_300)


def test_a_child_that_nobody_killed_or_that_still_lives_has_no_end() -> None:
    assert child_end(SEEN[:2] + SEEN[3:]) is None
    assert child_end(SEEN[:-1]) is None


def test_a_round_comes_to_the_way_from_the_wake_to_the_end() -> None:
    told = figures([ended("broken_off")], SEEN, STAMP)
    assert told["wake_to_gone_us"] == 2_300
    assert told["wake_to_kill_us"] == 300
    assert told["kill_to_gone_us"] == 2_000
    assert told["stall_to_gone_us"] == 11_300
    assert told["moved_pages"] == 7


@pytest.mark.parametrize(
    ("entries", "stamp", "why"),
    [
        ([], STAMP, "no_end"),
        ([ended("done")], STAMP, "stopped_by_another"),
        ([ended("broken_off")], 100_010_301, "stopped_by_another"),
    ],
)
def test_what_was_over_or_killed_before_the_stall_says_nothing(
    entries: list[dict[str, Any]], stamp: int, why: str
) -> None:
    with pytest.raises(Void, match=why):
        figures(entries, SEEN, stamp)


def test_rows_hold_what_was_told_and_too_few_are_missed() -> None:
    lines = [
        Line("ready", 1, {}),
        Line("broken_off", 2, {"wake_to_gone_us": 900, "moved_pages": 5}),
        Line("void", 3, {"no_compaction": 1}),
        Line("broken_off", 4, {"wake_to_gone_us": 1100, "moved_pages": 6}),
    ]
    rows = rows_of(lines)
    assert [row.values for row in rows] == [(900, 1100), (5, 6)]
    assert not missed(rows, 2)
    assert missed(rows, 3) == "2 of 3 compactions were broken off"
