"""After the final stop a guest is as it was, as far as it can be."""

from __future__ import annotations

import pytest

from memreact.put_back import put_back
from memreact.run_dir import RunDir
from tests.disk_files import SwapGuest
from tests.fake_guest import FakeGuest
from tests.memreact.zram_guest import REMOVED, zram_guest


@pytest.fixture
def there(guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> SwapGuest:
    """A guest without swap."""
    return zram_guest(guest, monkeypatch)


def test_zram_of_ours_is_swapped_off_and_taken_away(there: SwapGuest) -> None:
    path = there.has_zram(label="memreact-zram50")
    there.uses(path, used_kb=100)
    assert put_back(RunDir(there.guest.path("/run")), there.layout) == ([path], [])
    assert there.guest.received(REMOVED) == b"1"


def test_zram_that_memory_does_not_hold_stays_and_is_told(there: SwapGuest) -> None:
    there.uses(there.has_zram(label="memreact-zram50"), used_kb=900_000)
    done, (trouble,) = put_back(RunDir(there.guest.path("/run")), there.layout)
    assert done == []
    assert "have to stay" in str(trouble)
    assert there.guest.received(REMOVED) == b""


def test_zram_of_somebody_else_is_left_alone(there: SwapGuest) -> None:
    there.uses(there.has_zram(label="somebody"))
    assert put_back(RunDir(there.guest.path("/run")), there.layout) == ([], [])
    assert there.guest.received(REMOVED) == b""


def test_a_guest_without_disks_has_nothing_to_put_back(guest: FakeGuest) -> None:
    assert put_back(RunDir(guest.path("/run")), guest.layout) == ([], [])
