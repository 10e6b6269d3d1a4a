from __future__ import annotations

from typing import Any

import pytest

from kernelio.mglru import parse_lru_gen
from lab.latency_figures import Row, percentile, rows_of, table, verdicts, voids
from lab.workload import Line
from lab.workloads.ftrace import Kick, kick_in, parse_trace, reclaimed_pages
from lab.workloads.interrupt import Stop, Void, figures, first_stop
from lab.workloads.kick import generations_of

# As a 6.12 kernel prints it, with trace_clock mono.
TRACE = """\
# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
 memreact-worker-812     [001] .....   100.000100: mm_vmscan_lru_shrink_inactive: nid=0 \
nr_scanned=64 nr_reclaimed=60 nr_dirty=0 flags=RECLAIM_WB_FILE
          psimon-77      [000] d..4.   100.010000: sched_waking: comm=memreact-waiter pid=813 \
prio=120 target_cpu=000
        memreact-801     [000] d..4.   100.010200: sched_waking: comm=memreact-waiter pid=813 \
prio=120 target_cpu=000
 memreact-waiter-813     [000] d..2.   100.010300: signal_generate: sig=37 errno=0 code=-6 \
comm=memreact-worker pid=812 grp=0 res=0
 memreact-worker-812     [001] .....   100.010400: mm_vmscan_lru_shrink_inactive: nid=0 \
nr_scanned=64 nr_reclaimed=64 nr_dirty=0 flags=RECLAIM_WB_FILE
         kswapd0-40      [001] .....   100.010450: mm_vmscan_lru_shrink_inactive: nid=0 \
nr_scanned=64 nr_reclaimed=7 nr_dirty=0 flags=RECLAIM_WB_FILE
"""
SEEN = parse_trace(TRACE.splitlines(keepends=True))
STAMP, END = 100_005_000, 100_011_000


def ended(at_us: int, outcome: str) -> dict[str, Any]:
    event = {"type": "BatchEnded", "ended_at": at_us, "outcome": outcome}
    return {"at": at_us + 100, "event": event, "actions": []}


def test_a_kick_counts_from_the_wake_by_the_pressure_thread() -> None:
    assert kick_in(SEEN, STAMP, END) == Kick(100_010_300, 100_010_000)


def test_a_wake_before_the_stamp_did_not_lead_to_the_kick() -> None:
    assert kick_in(SEEN, 100_010_100, END) == Kick(100_010_300, None)
    assert kick_in(SEEN, 100_010_301, END) is None


def test_only_the_workers_pages_count_and_only_those_after_the_kick() -> None:
    assert reclaimed_pages(SEEN, 100_010_300, END) == 64
    assert reclaimed_pages(SEEN, 0, END) == 124


def test_a_stop_is_the_first_write_broken_off_since_the_stamp() -> None:
    entries = [ended(STAMP - 1, "broken_off"), ended(STAMP, "done"), ended(END, "held_back")]
    assert first_stop(entries, STAMP) == Stop(END, broken_off=False)


def test_a_write_that_ended_by_itself_counts_only_if_a_pause_kept_the_next_away() -> None:
    pause = {"verdict": "pause", "because": {"code": "guest_stall_over_limit"}}
    paused = {"at": END, "event": {"type": "StallSeen"}, "actions": [], "decisions": [pause]}
    assert first_stop([ended(STAMP + 5, "done"), paused], STAMP) == Stop(
        STAMP + 5, broken_off=False
    )
    assert first_stop([ended(STAMP + 5, "done")], STAMP) is None
    went_on = ended(STAMP + 5, "done") | {"actions": [{"type": "Evict"}]}
    assert first_stop([went_on, paused], STAMP) is None


def test_an_interruption_is_told_with_its_kick() -> None:
    told = figures([ended(END, "broken_off")], SEEN, STAMP)
    assert told == {
        "latency_us": 6000,
        "broken_off": 1,
        "resumed": 0,
        "pages": 64,
        "kicked_us": 5300,
        "pages_after_kick": 64,
        "wake_to_kick_us": 300,
    }


def test_an_eviction_that_nothing_stops_is_told_as_such() -> None:
    assert figures([ended(END, "done")], SEEN, STAMP) == {"went_on_us": 6000}


def test_an_eviction_that_was_over_before_the_stall_is_void() -> None:
    with pytest.raises(Void, match="over_before"):
        figures([ended(STAMP - 1, "done")], SEEN, STAMP)


def test_an_eviction_that_something_else_stopped_first_is_void() -> None:
    entries = [ended(STAMP - 1, "broken_off"), ended(END, "broken_off")]
    with pytest.raises(Void, match="stopped_by_another"):
        figures(entries, SEEN, STAMP)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile(range(1, 101), 50) == 50
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7], 99) == 7


def test_the_table_shows_each_figure_that_came() -> None:
    lines = [Line("same", 1, {"latency_us": n * 1000}) for n in range(1, 51)]
    (row,) = rows_of(lines)
    assert row.name == "stall in the same cgroup: until the write returned"
    assert table([row]).splitlines()[1].split()[-4:] == ["50", "25,000", "50,000", "50,000"]


def test_what_missed_its_aim_or_never_stopped_is_said() -> None:
    rows = rows_of([Line("same", 1, {"latency_us": 30_000}), Line("same", 2, {"went_on_us": 5})])
    assert verdicts(rows, {"same": 1, "sibling": 1, "call": 1}, "tcg") == [
        "stall in the same cgroup: until the write returned: p50 is 30,000 us, aim 25,000",
        "stall in the same cgroup: went on to its own end: 1 times",
        "stall in a sibling: 0 of 1 evictions were interrupted",
        "call over vsock: 0 of 1 evictions were interrupted",
    ]
    assert verdicts([Row("wake to kick, idle", (200,))], {}, "native") == []


def test_the_busy_loop_parses_as_many_cgroups_as_it_says() -> None:
    assert sum(1 for _ in parse_lru_gen(generations_of(50), "lru_gen")) == 50


def test_repeated_rounds_are_counted_by_reason() -> None:
    lines = [Line("void", n, {"same_no_stall": 1}) for n in range(2)]
    assert voids(lines) == "rounds that were repeated: 2 same_no_stall"
    assert voids([]) == "rounds that were repeated: none"
