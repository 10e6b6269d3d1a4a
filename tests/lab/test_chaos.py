"""The plan of a chaos run, and the judge: each invariant can be broken, and says by what."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.chaos import defects_in, lost_in
from lab.chaos_judge import INVARIANTS, Run, Span, breaches, stops, table, writes
from lab.chaos_plan import KINDS, Fault, plan
from lab.workload import Line
from lab.workloads import chaos_faults
from lab.workloads.chaos import look
from lab.workloads.chaos_calls import is_whole, whole
from lab.workloads.ftrace import Seen, parse_trace

TRACE = """\
# entries-in-buffer/entries-written: 4/4   #P:2
 memreact-worker-812     [000] .....    10.000100: lru_gen_in: (lru_gen_seq_write+0x0/0x5a0)
 memreact-worker-812     [000] .....    10.000900: lru_gen_out: (full_proxy_write+0x53/0x80 <- \
lru_gen_seq_write)
 memreact-worker-812     [001] .....    90.000000: lru_gen_in: (lru_gen_seq_write+0x0/0x5a0)
 memreact-worker-812     [001] .....    90.000700: lru_gen_out: (full_proxy_write+0x53/0x80 <- \
lru_gen_seq_write)
"""
SECOND = 1_000_000
PID = 800


# ---- plan ----------------------------------------------------------------------------------------


@given(st.integers(), st.floats(min_value=60, max_value=900))
def test_a_plan_is_the_same_each_time_in_order_and_has_every_kind(
    seed: int, seconds: float
) -> None:
    faults = plan(seed, seconds)
    assert faults == plan(seed, seconds)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert all(0 <= fault.at_s <= seconds for fault in faults)


@given(st.integers())
def test_what_ends_the_daemon_leaves_the_last_third_to_one_and_the_guest_moves_once(
    seed: int,
) -> None:
    faults = plan(seed, 300)
    assert max(fault.at_s for fault in faults if KINDS[fault.kind].early) <= 200
    assert Counter(fault.kind for fault in faults)["restore"] == 1


def test_another_seed_makes_another_plan() -> None:
    assert plan(1, 100) != plan(2, 100)


# ---- judge ---------------------------------------------------------------------------------------


def line(what: str, at_s: float = 0, **figures: float) -> Line:
    return Line(what, int(at_s * SECOND), figures)


def sample(at_s: float, pid: int = PID, **figures: float) -> Line:
    return line(
        "sample", at_s, **{"pid": pid, "orphans": 0, "fds": 60, "anon_kib": 9000, **figures}
    )


SAMPLES = [sample(second) for second in range(100)]
REST = [
    line("storm", 50, answered=90, closed=1, hung=0, half=0, refused=0),
    line("hold", 60, began_us=20 * SECOND, from_us=20 * SECOND, until_us=30 * SECOND),
    line("end", 99, served=1, pid=PID),
    line("protected", 99, pgsteal=0, pswpout=0),
]
SEEN = parse_trace(TRACE.splitlines())


def run(
    *more: Line,
    samples: Sequence[Line] = SAMPLES,
    rest: Sequence[Line] = REST,
    seen: Sequence[Seen] = SEEN,
    wrong: int = 0,
    plan: Sequence[Fault] = (Fault(1, "storm", 2, 3), Fault(2, "hold", 2, 3)),
    **other: object,
) -> Run:
    """A run in which all went well, but for what is given."""
    kept = {"kept": [line("ready"), line("read", bytes=100, wrong=wrong)]}
    found = Run(plan, [*samples, *rest, *more], kept, seen)
    return found._replace(**other)  # type: ignore[arg-type]


def without(what: str) -> list[Line]:
    return [each for each in REST if each.what != what]


def writing(at_s: float, edge: str = "in", thread: int = 812, file: str = "lru_gen") -> Seen:
    return Seen("memreact-worker", int(at_s * SECOND), f"{file}_{edge}", "", thread)


def write(from_s: float, until_s: float, thread: int = 812) -> list[Seen]:
    return [writing(from_s, "in", thread), writing(until_s, "out", thread)]


def test_nothing_is_broken_where_all_went_well() -> None:
    assert not any(breaches(run()).values())


BREACHES: list[tuple[str, Run, str]] = [
    (
        "the daemon lives, or systemd brings it back",
        run(samples=[*SAMPLES[:30], *(sample(second, 0) for second in range(30, 99))]),
        "no daemon for",
    ),
    (
        "the daemon lives, or systemd brings it back",
        run(line("kill", 9, began_us=8, killed=7, back=0, away_us=60)),
        "not back after 60 us",
    ),
    ("the daemon lives, or systemd brings it back", run(rest=without("end")), "not get to its end"),
    (
        "the daemon lives, or systemd brings it back",
        run(rest=[*without("end"), line("end", 99, served=0)]),
        "nobody is served",
    ),
    (
        "no page of a protected cgroup is taken",
        run(rest=[*without("protected"), line("protected", pgsteal=3, pswpout=0)]),
        "pgsteal is 3",
    ),
    ("no page of a protected cgroup is taken", run(rest=without("protected")), "nobody looked"),
    (
        "nothing is written after a stop",
        run(seen=[*SEEN[:2], *write(20.5, 21), *SEEN[2:]]),
        "the first 500000 us after",
    ),
    ("nothing is written after a stop", run(seen=[]), "saw no write"),
    (
        "no two workers write at a time",
        run(seen=sorted([*write(40, 42), *write(41, 43, 999)], key=lambda each: each.at_us)),
        "thread 999 wrote at 41000000 us while 812 did",
    ),
    (
        "no child is left without a parent",
        run(samples=[*SAMPLES, sample(100, orphans=1), sample(101, orphans=1)]),
        "1 processes without a parent",
    ),
    (
        "memory and open files are flat",
        run(samples=[sample(second, anon_kib=9000 + 100 * second) for second in range(100)]),
        "anon_kib grew from",
    ),
    (
        "memory and open files are flat",
        run(samples=[sample(second, fds=60 + second) for second in range(100)]),
        "fds grew from",
    ),
    ("memory and open files are flat", run(samples=SAMPLES[:20]), "no daemon lived"),
    (
        "settings are one push or another, whole",
        run(line("storm", answered=1, half=1)),
        "1 were half",
    ),
    (
        "settings are one push or another, whole",
        run(rest=without("storm")),
        "no push was answered",
    ),
    (
        "every call is answered, or its connection closed",
        run(line("flood", hung=2)),
        "flood: 2 calls",
    ),
    ("every call is answered, or its connection closed", run(line("stuck", hold=1)), "stuck: hold"),
    ("the workloads' checksums are right", run(wrong=1), "kept: 1 readings were wrong"),
    ("the workloads' checksums are right", run(kept={"kept": []}), "never read"),
    ("the journal tells of no defect", run(defects=["Traceback …"]), "Traceback"),
    ("all faults of the plan were made, and seen", run(trace_lost=4), "lost 4 events"),
    (
        "all faults of the plan were made, and seen",
        run(line("failed hog", **{"OSError: no": 1})),
        "failed hog: OSError: no",
    ),
    (
        "all faults of the plan were made, and seen",
        run(plan=[Fault(1, "kill", 1, 1)]),
        "kill was made 0 times of 1",
    ),
]


@pytest.mark.parametrize(("invariant", "broken", "why"), BREACHES)
def test_what_breaks_an_invariant_is_told(invariant: str, broken: Run, why: str) -> None:
    found = breaches(broken)[invariant]
    assert any(why in words for words in found), found
    assert f"BROKEN  {invariant}" in table(broken) or f"BROKEN {invariant}" in table(broken)


def test_every_invariant_has_a_run_that_breaks_it() -> None:
    assert {invariant for invariant, _, _ in BREACHES} == set(INVARIANTS)


def test_a_short_time_without_the_daemon_and_one_orphan_on_its_way_out_break_nothing() -> None:
    samples = [*SAMPLES[:50], sample(50, 0), sample(51, 0, orphans=1), *SAMPLES[52:]]
    assert not any(breaches(run(samples=samples)).values())


def test_a_pause_lasts_to_the_first_resume_the_end_of_its_daemon_or_its_own() -> None:
    def paused(*more: Line, samples: Sequence[Line] = SAMPLES) -> Span:
        return min(stops(run(*more, samples=samples)))

    assert paused() == Span(20 * SECOND, 30 * SECOND)
    other = line("hold", 25, from_us=22 * SECOND, until_us=25 * SECOND)
    assert paused(other) == Span(20 * SECOND, 25 * SECOND)
    assert paused(line("kill", 27, began_us=26 * SECOND)) == Span(20 * SECOND, 26 * SECOND)
    anew = [sample(second, PID + (second > 23)) for second in range(100)]
    assert paused(samples=anew) == Span(20 * SECOND, 23 * SECOND)
    stopped = line("stop", 29, from_us=28 * SECOND, until_us=29 * SECOND)
    assert paused(stopped) == Span(20 * SECOND, 28 * SECOND)


def test_a_write_that_never_ended_lasts_to_the_end_of_what_was_seen() -> None:
    seen = [writing(1), *write(2, 3, 900)]
    assert writes(seen) == [Span(SECOND, 3 * SECOND, 812), Span(2 * SECOND, 3 * SECOND, 900)]


def test_a_trace_tells_how_much_it_lost() -> None:
    assert lost_in(TRACE) == 0
    assert lost_in(TRACE.replace("4/4", "4/9")) == 5


def test_a_journal_s_defects_are_shown_with_what_follows() -> None:
    assert defects_in("fine\nverdict=turn\n") == []
    (shown,) = defects_in("a\nTraceback (most recent call last):\n  File x\nKeyError\n")
    assert shown == "Traceback (most recent call last): |   File x | KeyError"


@given(st.integers(min_value=0, max_value=2**40), st.integers(min_value=0, max_value=2**40))
def test_halves_of_two_pushes_are_no_push(one: int, other: int) -> None:
    base = {"swappiness_max": 200, "period_secs": 4, "eviction_run_aging_count_min": 2}
    first, second = whole(one), whole(other)
    assert is_whole(first, base)
    assert is_whole(base, base)
    mixed = {**first, "swappiness_max": second["swappiness_max"]}
    assert is_whole(mixed, base) == (mixed in (first, second))


def test_a_table_has_each_kind_with_what_was_seen_of_it() -> None:
    told = table(run(line("churn", 3, began_us=1, made=400), line("churn", 5, made=100)))
    (row,) = [each for each in told.splitlines() if each.startswith("cgroups made")]
    assert row.split("  ")[-1] == "made 500"


# ---- looking on ----------------------------------------------------------------------------------


def test_a_daemon_that_just_ends_is_looked_at_without_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie, until it is waited for
        monkeypatch.setattr(chaos_faults, "processes", lambda: {ended.pid: 1})
        told = look()
    assert told["pid"] == ended.pid
    assert "anon_kib" not in told
