"""A guest without swap, whose zram the kernel would take away when it is told to."""

from __future__ import annotations

import pytest

from memreact.actuator import swap_off
from tests.disk_files import SwapGuest
from tests.fake_guest import FakeGuest
from tests.memreact.actuator.test_swap_off import DONE
from tests.memreact.kernel_files import shows_stall

__all__ = ["REMOVED", "zram_guest"]

REMOVED = "/sys/class/zram-control/hot_remove"


def zram_guest(guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> SwapGuest:
    """Make it: whoever swaps off there is done at once."""
    shows_stall(guest, "", 0)
    monkeypatch.setattr(swap_off.remove_swap, "__defaults__", (DONE,))
    return SwapGuest(guest, monkeypatch)
