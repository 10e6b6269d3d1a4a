"""What other settings would come to, on the guest's own files, and nothing written to any."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest

from memreact.settings.files import load_text
from memreact_schemas.config import Config
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import LRU_GEN, reporting_guest
from tests.memreact.kernel_files import shows_memcg, stat
from tests.memreact.test_daemon import PATIENCE_S, Alive

MIB = 1 << 20
PAGE = 4096


def files_of(guest: FakeGuest) -> dict[str, bytes]:
    """What all of the kernel's files hold."""
    found = {}
    for top in ("/sys", "/proc"):
        for folder, _, names in os.walk(guest.path(top)):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        found[path] = file.read()
    return found


def patch(text: str) -> Config:
    return load_text(text, "test")


@pytest.mark.asyncio
async def test_a_turn_by_other_settings_is_foreseen_and_nothing_is_touched(
    guest: FakeGuest,
) -> None:
    alive = Alive(guest)
    before, actions = files_of(guest), len(guest.received("/trace"))
    service = alive.daemon._shown
    fresh = alive.store.foresee(patch("[memcg]\nswap = false\n"), by="a test")
    seen = await asyncio.wait_for(service.foresee(fresh), PATIENCE_S)
    assert files_of(guest) == before
    assert len(guest.received("/trace")) == actions  # no event was decided on
    assert guest.received(LRU_GEN).startswith(b"memcg")
    assert seen.now.at_most_bytes == 71_000 * PAGE
    assert seen.now.anon_bytes == 20_000 * PAGE
    assert seen.then.at_most_bytes == 51_000 * PAGE
    assert seen.then.anon_bytes == 0
    assert seen.cgroups[0].path == "/shop"
    assert seen.rate_measured is False
    await alive.ends()


@pytest.mark.asyncio
async def test_what_protection_forbids_is_told_in_bytes(guest: FakeGuest) -> None:
    alive = Alive(guest)
    shows_memcg(
        guest, "/shop", memory_low=f"{1 << 40}\n", memory_stat=stat(anon=80 << 20, file=200 << 20)
    )
    fresh = alive.store.foresee(patch("[memcg]\nperiod_secs = 3000\n"), by="a test")
    seen = await asyncio.wait_for(alive.daemon._shown.foresee(fresh), PATIENCE_S)
    assert seen.then.at_most_bytes == 0
    assert seen.then.protected_bytes == 71_000 * PAGE
    assert msgspec.json.encode(seen.then)
    await alive.ends()


@pytest.mark.asyncio
async def test_without_swap_all_anonymous_memory_has_no_age_and_might_go(guest: FakeGuest) -> None:
    alive = Alive(guest)
    alive.store.patch(patch("[memcg]\nswap = false\n"), by="a test")
    fresh = alive.store.foresee(patch("[memcg]\nswap = true\n"), by="a test")
    seen = await asyncio.wait_for(alive.daemon._shown.foresee(fresh), PATIENCE_S)
    assert seen.now.at_most_bytes == 51_000 * PAGE
    assert seen.then.unaged_bytes == seen.then.anon_bytes == 20_200 * PAGE
    assert seen.then.at_most_bytes == 71_200 * PAGE
    await alive.ends()


@pytest.mark.asyncio
async def test_what_was_swapped_all_along_has_its_ages(guest: FakeGuest) -> None:
    alive = Alive(guest)
    fresh = alive.store.foresee(patch("[memcg]\nswappiness_max = 100\n"), by="a test")
    seen = await asyncio.wait_for(alive.daemon._shown.foresee(fresh), PATIENCE_S)
    assert seen.then.unaged_bytes == 0
    assert seen.then.anon_bytes == 20_000 * PAGE
    await alive.ends()


@pytest.mark.asyncio
async def test_a_compaction_is_foreseen_of_free_memory_as_it_lies(guest: FakeGuest) -> None:
    reporting_guest(guest, alone=4096)
    guest.shows("/sys/devices/system/node/node0/compact", "")
    alive = Alive(guest)
    fresh = alive.store.foresee(patch("[compact]\ndisabled = true\n"), by="a test")
    seen = await asyncio.wait_for(alive.daemon._shown.foresee(fresh), PATIENCE_S)
    assert (seen.then.compaction_bytes, seen.then.compaction_because) == (0, "disabled")
    assert seen.now.compaction_because == "gain"
    assert seen.now.compaction_bytes == 4096 // 2 * PAGE
    await alive.ends()
