"""What this very process takes."""

from __future__ import annotations

import time

from kernelio.layout import Layout
from memreact.own_cost import read_own_cost
from tests.fake_guest import FakeGuest


def test_it_is_what_this_process_takes() -> None:
    before = read_own_cost(Layout())
    began = time.process_time()
    while time.process_time() - began < 0.02:
        pass
    after = read_own_cost(Layout())
    assert after.user_s + after.system_s >= before.user_s + before.system_s + 0.02
    assert after.wakeups >= before.wakeups
    assert after.memory is not None
    assert after.memory.rss_bytes >= after.memory.anon_bytes > 0


def test_where_the_kernel_does_not_tell_memory_it_is_left_out(guest: FakeGuest) -> None:
    cost = read_own_cost(guest.layout)
    assert cost.memory is None
    assert cost.user_s > 0
