from __future__ import annotations

import re
from itertools import islice

from lab.latency_figures import percentile
from lab.storm import run
from lab.storm_calls import KINDS, valid_kata_calls, valid_varlink_calls
from lab.storm_daemon import Heard
from lab.storm_figures import Figures, Stream, Usage, table, verdicts

MIB = 1 << 20


def figures(**other: object) -> Figures:
    """A storm of 60 s in which all went well, but for what is given."""
    stream = Stream(30_000, 0, (), tuple(range(1, 101)))
    all_well = Figures(
        seconds=60,
        streams=dict.fromkeys(KINDS, stream),
        usage=tuple(Usage(float(second), 30 * MIB, 16 * MIB, second / 2) for second in range(62)),
        changes=60_000,
        evictions=7,
        not_in_force={},
        audited=60_000,
        heard=Heard(steady=12, policy=3),
        listened={"memory": 2, "io": 10},
        stalled_us={"memory": 0, "io": 9_000_000},
        trouble=(),
    )
    return all_well._replace(**other)  # type: ignore[arg-type]


def test_a_storm_in_which_all_went_well_misses_nothing() -> None:
    assert verdicts(figures(), 1000) == []


def test_a_lost_pressure_event_is_told() -> None:
    (line,) = verdicts(figures(heard=Heard(steady=11)), 1000)
    assert line == "the daemon heard 11 pressure events, the listener 12"


def test_a_storm_without_pressure_proves_nothing() -> None:
    quiet = figures(heard=Heard(), listened={"memory": 0, "io": 0})
    assert verdicts(quiet, 1000) == ["there was no pressure event"]
    assert verdicts(quiet._replace(seconds=20.0), 1000) == []


def test_a_change_that_is_lost_told_twice_or_not_in_force_is_told() -> None:
    lines = verdicts(
        figures(changes=59_999, audited=60_001, not_in_force={"memcg.swap": "1, not 2"}), 1000
    )
    assert lines == [
        "59,999 changes of 60,000 valid calls",
        "60,001 audit lines of 60,000 valid calls",
        "memcg.swap is 1, not 2",
    ]


def test_a_wrong_answer_is_told_with_its_call() -> None:
    streams = {**figures().streams, "invalid, ttRPC": Stream(30_000, 2, ("a", "b"), (1,))}
    assert verdicts(figures(streams=streams), 1000) == [
        "invalid, ttRPC: 2 answers are not right: a; b"
    ]


def test_calls_that_were_not_made_in_time_are_told() -> None:
    slow = {**figures().streams, "valid, ttRPC": Stream(20_000, 0, (), (1,))}
    lines = verdicts(figures(streams=slow, changes=50_000, audited=50_000), 1000)
    assert lines == ["50,000 of 60,000 valid calls were answered in time"]


def test_memory_that_grows_is_told_and_what_is_used_first_is_no_growth() -> None:
    first = Usage(0.0, 20 * MIB, 6 * MIB, 0.0)
    assert verdicts(figures(usage=(first, *figures().usage[1:])), 1000) == []
    last = Usage(62.0, 40 * MIB, 26 * MIB, 31.0)
    (line,) = verdicts(figures(usage=(*figures().usage, last)), 1000)
    assert line == "anonymous memory grew by 10,240 KiB since it was warm"


def test_the_table_shows_calls_events_memory_and_cpu() -> None:
    shown = table(figures())
    assert re.search(r"valid, ttRPC +30,000 +500\.0 +0 +50 +99 +100", shown)
    assert "the daemon heard 12, the listener memory 2, io 10" in shown
    assert "CPU of the daemon: 50 % of one core" in shown


def test_each_valid_call_is_a_change() -> None:
    for calls in (valid_varlink_calls, valid_kata_calls):
        in_force: dict[str, int] = {}
        for call in islice(calls(), 5000):
            assert call.says is not None
            key, value = call.says
            assert in_force.get(key) != value
            in_force[key] = value


def test_the_streams_share_no_key() -> None:
    keys = [
        {call.says[0] for call in islice(calls(), 100) if call.says}
        for calls in (valid_varlink_calls, valid_kata_calls)
    ]
    assert not keys[0] & keys[1]


def test_a_short_storm_at_the_real_daemon_gets_every_answer_right() -> None:
    seen = run(1.0, 100, None)
    assert {name: (each.wrong_total, each.wrong) for name, each in seen.streams.items()} == (
        dict.fromkeys(KINDS, (0, ()))
    )
    assert all(each.answered >= 10 for each in seen.streams.values())
    assert seen.changes == seen.audited == seen.valid
    assert seen.not_in_force == {}
    assert seen.trouble == ()
    assert percentile(seen.streams["valid, ttRPC"].waited_us, 50) > 0
