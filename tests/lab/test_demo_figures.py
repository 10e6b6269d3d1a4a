from __future__ import annotations

import struct

import pytest

from lab.demo_figures import (
    Held,
    Latency,
    Moment,
    Returned,
    Stop,
    Story,
    Waited,
    decode_requests,
    decode_waited,
    failures,
    find_stop,
    gib_minutes_saved,
    latency,
    table,
)
from memreact.value import replace

MIB = 1 << 20
CALM = Latency(requests=800, p50_us=5_000, p99_us=20_000)
SLOW = Latency(requests=800, p50_us=5_000, p99_us=31_001)
BEFORE, AFTER = Moment(700 * MIB, 0, 0), Moment(430 * MIB, 130 * MIB, 40 * MIB)
BACK = Returned(BEFORE, AFTER, 300 * MIB, 290 * MIB)
WAITED = Waited(900_000, {"reclaim": 700_000, "swap_in": 300_000})
STOP = Stop(25_000, "limit_hit", 5_000)
GOOD = Story(BACK, 0.12, (CALM, CALM, CALM), CALM, CALM, STOP, WAITED)


def test_a_run_that_shows_everything_has_no_failures() -> None:
    assert failures(GOOD) == []


@pytest.mark.parametrize(
    ("story", "says"),
    [
        (replace(GOOD, returned=replace(BACK, cold_back_bytes=240 * MIB)), "only 80 % of the cold"),
        (replace(GOOD, during=SLOW), "while memreact evicted"),
        (replace(GOOD, after=SLOW), "afterwards"),
        (replace(GOOD, stop=None), "no eviction was seen to stop"),
        (replace(GOOD, waited=None), "what redis waited"),
        (replace(GOOD, waited=replace(WAITED, stalled_us=90_000)), "what redis waited"),
        (replace(GOOD, waited=replace(WAITED, stalled_us=11_000_000)), "what redis waited"),
        (replace(GOOD, waited=Waited(0, {"reclaim": 0})), "what redis waited"),
    ],
)
def test_each_thing_that_is_not_shown_is_said(story: Story, says: str) -> None:
    (sentence,) = failures(story)
    assert says in sentence


def test_what_zram_takes_is_taken_off_the_anonymous_memory() -> None:
    assert BACK.anon_bytes == 90 * MIB


def test_the_table_tells_every_figure() -> None:
    told = table(GOOD)
    for figure in (
        "700 MiB",
        "430 MiB",
        "290 MiB of 300 (97 %",
        "0.12 GiB",
        "25.0 ms (limit_hit",
        "reclaim 700",
    ):
        assert figure in told


def test_a_stop_that_was_not_seen_is_told() -> None:
    assert "not seen" in table(replace(GOOD, stop=None))


def test_delays_that_were_not_told_are_told() -> None:
    assert "not told" in table(replace(GOOD, waited=None))


def test_what_redis_waited_is_what_came_between_two_looks() -> None:
    def said(total_us: int, harm: str) -> str:
        return f'{{"explanation":{{"pressure":{{"memory_total_us":{total_us}}},"harm":{harm}}}}}'

    since = '{"since_last_look":{"reclaim_us":7,"swap_in_us":8,"thrashing_us":0,"compact_us":1}}'
    told = decode_waited(said(100, "{}"), said(150, since))
    by_kind = {"reclaim": 7, "swap_in": 8, "thrashing": 0, "compact": 1}
    assert told == Waited(50, by_kind)
    assert decode_waited(said(100, "{}"), said(150, "{}")) is None


def test_a_half_written_request_is_left_out() -> None:
    whole = struct.pack("<QQ", 7, 8)
    assert decode_requests(whole + whole[:9]) == [(7, 8)]


def test_percentiles_are_those_of_the_span_alone() -> None:
    requests = [(at, at * 10) for at in range(1, 201)]
    assert latency(requests, 1, 101) == Latency(100, 500, 990)
    with pytest.raises(ValueError, match="no request was due"):
        latency(requests, 500, 600)


def test_saved_is_the_area_below_the_first_figure() -> None:
    held = [Held(0, 1 << 30), Held(60, 1 << 30), Held(60, 1 << 29), Held(180, 1 << 29)]
    assert gib_minutes_saved(held) == pytest.approx(1.0)


TRACE = b"""\
{"at":100,"event":{"type":"BatchEnded","path":"/batch","ended_at":90}}
{"at":220,"event":{"type":"BatchEnded","path":"/batch","ended_at":215},"decisions":[\
{"verdict":"end","because":{"code":"%s","saw":{"evicted_pages":64}},"path":"/batch"}]}
{"at":400,"event":{"type":"BatchEnded","path":"/batch","ended_at":390}}
{"at":500,"ev"""


def test_the_stop_is_the_end_of_the_write_that_was_under_way() -> None:
    trace = TRACE % b"stall_over_limit"
    assert find_stop(trace, "/batch", 95, 200) == Stop(15, "stall_over_limit", 64)


def test_a_limit_that_is_heard_of_before_anybody_stalls_stops_it_too() -> None:
    assert find_stop(TRACE % b"limit_hit", "/batch", 95, 230) == Stop(-15, "limit_hit", 64)
    assert find_stop(TRACE % b"limit_hit", "/batch", 216, 230) is None


@pytest.mark.parametrize(
    ("code", "cgroup", "stalled_us"),
    [
        (b"cold_gone", "/batch", 200),
        (b"stall_over_limit", "/other", 200),
        (b"stall_over_limit", "/batch", 216),
        (b"stall_over_limit", "/batch", 300),
    ],
)
def test_another_end_is_no_stop(code: bytes, cgroup: str, stalled_us: int) -> None:
    assert find_stop(TRACE % code, cgroup, 95, stalled_us) is None
