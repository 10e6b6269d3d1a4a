from __future__ import annotations

import os
import select
import time

import pytest

from kernelio.process import has_capability
from kernelio.timerfd import ClockStepWatch, boottime_us, monotonic_us


def _step_the_clock() -> None:
    """Set the wall clock to what it shows: to the kernel a step like any other."""
    time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns())


def test_the_clocks_only_go_forward() -> None:
    first, second = monotonic_us(), monotonic_us()
    assert first <= second
    assert boottime_us() >= first


def test_the_clock_is_not_stepped_by_looking_at_it() -> None:
    watch = ClockStepWatch()
    assert not watch.read()
    assert not watch.read()
    watch.close()


@pytest.mark.skipif(not has_capability("CAP_SYS_TIME"), reason="only CAP_SYS_TIME sets the clock")
def test_each_step_of_the_clock_wakes_and_is_told_once() -> None:
    watch = ClockStepWatch()
    for _ in range(2):
        _step_the_clock()
        assert select.select([watch], [], [], 5)[0] == [watch]
        assert watch.read()
        assert not watch.read()
        assert select.select([watch], [], [], 0)[0] == []
    watch.close()


def test_a_closed_watch_gives_its_fd_back() -> None:
    watch = ClockStepWatch()
    fd = watch.fileno()
    assert not os.get_inheritable(fd)
    watch.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
