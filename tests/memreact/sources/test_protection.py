"""What one memcg uses and keeps."""

from __future__ import annotations

import os

from memreact.sources.protection import read_protection
from memreact_schemas.status import CgroupLimits
from tests.fake_guest import FakeGuest
from tests.memreact.kernel_files import shows_memcg


def test_reads_what_the_kernel_keeps_and_allows(guest: FakeGuest) -> None:
    shows_memcg(
        guest,
        "/shop",
        memory_current="100\n",
        memory_min="1\n",
        memory_low="max\n",
        memory_high="300\n",
        memory_max="400\n",
        memory_swap_current="5\n",
        memory_swap_max="6\n",
    )
    assert read_protection(guest.layout, "/shop") == CgroupLimits(
        current_bytes=100,
        min_bytes=1,
        low_bytes=2**63 - 1,
        high_bytes=300,
        max_bytes=400,
        swap_bytes=5,
        swap_max_bytes=6,
    )


def test_the_root_has_none_of_the_files(guest: FakeGuest) -> None:
    os.makedirs(guest.layout.memcg_dir("/"), exist_ok=True)
    assert read_protection(guest.layout, "/") == CgroupLimits()


def test_a_memcg_that_says_something_else_is_not_guessed_at(guest: FakeGuest) -> None:
    shows_memcg(guest, "/shop", memory_low="much\n")
    assert read_protection(guest.layout, "/shop") is None
