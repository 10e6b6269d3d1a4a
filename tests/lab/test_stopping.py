from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.workloads.stopping import Sample, Stopped, stopped

MIB = 1 << 20
MS = 1000


def shrinking(from_ms: int, until_ms: int, end_ms: int, *, mib: int = 600) -> list[Sample]:
    """A MiB less in each millisecond of a span, and samples until the end."""
    return [
        Sample(at * MS, (mib - max(0, min(at, until_ms) - from_ms)) * MIB)
        for at in range(end_ms + 1)
    ]


def test_it_has_stopped_when_it_shrinks_no_more_for_half_a_second() -> None:
    samples = shrinking(0, 130, 1000)
    assert stopped(samples, 100 * MS) == Stopped(30 * MS, 30 * MIB)


def test_one_that_had_stopped_before_took_nothing_and_no_time() -> None:
    assert stopped(shrinking(0, 50, 1000), 100 * MS) == Stopped(0, 0)


def test_a_short_rest_is_no_stop() -> None:
    first = shrinking(0, 120, 300)
    later = [Sample(s.at_us + 301 * MS, s.size_bytes) for s in shrinking(0, 40, 900, mib=480)]
    assert stopped([*first, *later], 100 * MS) == Stopped(241 * MS, 60 * MIB)


def test_a_few_pages_are_the_kernels_own() -> None:
    samples = [Sample(at * MS, 600 * MIB - 4096 * (at > 300)) for at in range(1000)]
    assert stopped(samples, 100 * MS) == Stopped(0, 0)


@pytest.mark.parametrize("samples", [[], shrinking(0, 900, 1000), [Sample(101 * MS, MIB)]])
def test_without_a_quiet_time_or_a_sample_before_there_is_no_stop(samples: list[Sample]) -> None:
    assert stopped(samples, 100 * MS) is None


@given(st.lists(st.integers(0, 600), min_size=1), st.integers(0, 50))
def test_a_stop_lies_within_what_was_seen(mib: list[int], stamp_ms: int) -> None:
    samples = [Sample(at * 50 * MS, size * MIB) for at, size in enumerate(mib)]
    found = stopped(samples, stamp_ms * MS)
    if found is not None:
        assert 0 <= found.latency_us <= samples[-1].at_us
        assert found.taken_bytes >= 0
