from __future__ import annotations

import pytest

from kernelio.delayacct import read_delay_accounting
from kernelio.errors import Unsupported
from tests.fake_guest import FakeGuest


@pytest.mark.parametrize(("text", "on"), [("0\n", False), ("1\n", True)])
def test_knows_whether_delays_are_counted(guest: FakeGuest, text: str, *, on: bool) -> None:
    guest.shows("/proc/sys/kernel/task_delayacct", text)
    assert read_delay_accounting(guest.layout) is on


def test_a_kernel_that_cannot_count_delays_says_so(guest: FakeGuest) -> None:
    guest.shows("/proc/sys/kernel/osrelease", "6.12.0\n")
    with pytest.raises(Unsupported):
        read_delay_accounting(guest.layout)
