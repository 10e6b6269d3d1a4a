from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from kernelio.mglru import parse_lru_gen
from lab.bench.native import KICK_WORDS
from lab.latency_figures import (
    Kick,
    Row,
    kick_rows,
    kicks_of,
    percentile,
    rows_of,
    table,
    verdicts,
    voids,
    who_was_first,
)
from lab.workload import Line
from lab.workloads import ftrace
from lab.workloads.ftrace import Kicks, kick_in, kicks_in, parse_trace, reclaimed_pages
from lab.workloads.interrupt import Stop, Void, figures, first_stop
from lab.workloads.kick import generations_of, parser, print_round

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
    assert kick_in(SEEN, STAMP, END) == ftrace.Kick(100_010_300, 100_010_000)


def test_a_wake_before_the_stamp_did_not_lead_to_the_kick() -> None:
    assert kick_in(SEEN, 100_010_100, END) == ftrace.Kick(100_010_300, None)
    assert kick_in(SEEN, 100_010_301, END) is None


def test_the_kick_of_the_kernel_is_told_from_that_of_the_thread() -> None:
    trace = """\
          psimon-77      [000] d..4.   100.010000: sched_waking: comm=memreact-waiter pid=813 \
prio=120 target_cpu=000
     kworker/0:1-9       [000] d..2.   100.010040: signal_generate: sig=37 errno=0 code=1 \
comm=python3 pid=812 grp=0 res=0
 memreact-waiter-813     [000] d..2.   100.010300: signal_generate: sig=37 errno=0 code=-6 \
comm=python3 pid=812 grp=0 res=0
"""
    kicks = kicks_in(parse_trace(trace.splitlines()), waiter=813)
    assert kicks == Kicks(100_010_000, by_kernel_us=100_010_040, by_thread_us=100_010_300)
    assert kicks.first_us == 100_010_040
    assert kicks_in(SEEN, waiter=813) == Kicks(100_010_000, None, 100_010_300)


def test_a_kick_that_no_wake_led_to_is_not_measured() -> None:
    assert kicks_in([each for each in SEEN if each.event == "signal_generate"], waiter=813) is None


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


def test_a_kick_has_a_row_for_each_way_that_there_was() -> None:
    kicks = [Kick(40, 900, by_kernel_us=40, by_thread_us=300), Kick(90, 700, by_thread_us=90)]
    assert kick_rows("idle", kicks) == [
        Row("wake to kick, idle", (40, 90)),
        Row("wake to the kernel's own kick, idle", (40,)),
        Row("wake to the thread's kick, idle", (300, 90)),
        Row("wake to write returned, idle", (900, 700)),
    ]
    assert who_was_first(kicks) == "the kernel was first to kick 1 of 2 times"


def test_what_a_kick_prints_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    print_round(Kicks(1000, None, 1200), returned_us=1500)
    assert kicks_of(capsys.readouterr().out) == [Kick(200, 500, by_thread_us=200)]


def test_each_round_has_a_kick() -> None:
    words = [sys.executable, "-m", "lab.workloads.kick", "--rounds", "2", "--cgroups", "10"]
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=there)
    assert (done.returncode, done.stderr) == (0, "")
    assert [each.by_thread_us == each.wake_to_kick_us for each in kicks_of(done.stdout)] == [
        True
    ] * 2


def test_the_bench_kicks_by_words_that_are_known() -> None:
    assert parser().parse_args(KICK_WORDS).pressure


def test_the_busy_loop_parses_as_many_cgroups_as_it_says() -> None:
    assert sum(1 for _ in parse_lru_gen(generations_of(50), "lru_gen")) == 50


def test_repeated_rounds_are_counted_by_reason() -> None:
    lines = [Line("void", n, {"same_no_stall": 1}) for n in range(2)]
    assert voids(lines) == "rounds that were repeated: 2 same_no_stall"
    assert voids([]) == "rounds that were repeated: none"
