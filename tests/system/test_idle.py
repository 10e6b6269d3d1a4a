"""Between two turns the daemon does not exist, as far as the scheduler is concerned."""

from __future__ import annotations

import time

from lab.guest import Guest
from lab.workload import Cgroup, Workload
from memreact.events import TimerFired
from tests.system.service import RecordProperty, Service

SETTLES_S, LOOKS = 5, 6  # nothing wakes for so long, or the sample begins all the same
SAMPLE_S = 60  # well before the watchdog's first due time
TRIES = 3


def test_no_thread_wakes_between_periods_whatever_a_neighbour_does(
    debian: Guest, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    service = Service(debian)
    Workload(cgroup, "neighbour")
    service.start("[memcg]\nperiod_secs = 600\n")
    _settle(service)
    for _ in range(TRIES):
        before, events = service.switches(), len(service.trace())
        time.sleep(SAMPLE_S)
        after, new = service.switches(), service.trace()[events:]
        if not any(isinstance(entry.event, TimerFired) for entry in new):
            break  # else its one turn in 600 s fell into the sample
    record_property("switches since the start", after)
    service.stop()
    assert new == []
    assert after == before


def _settle(service: Service) -> None:
    """Let it come to rest after its start."""
    after = service.switches()
    for _ in range(LOOKS):
        before = after
        time.sleep(SETTLES_S)
        after = service.switches()
        if after == before:
            return
