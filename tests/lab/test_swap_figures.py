from __future__ import annotations

import pytest

from lab.swap_figures import Held, Tier, failures, table
from memreact.value import replace

MIB = 1 << 20
HOST = Tier(
    name="host",
    before=Held(700 * MIB, 1),
    after=Held(420 * MIB, 3),
    file_bytes=301 * MIB,
    file_swapped_bytes=300 * MIB,
    zram_stored_bytes=0,
    zram_taken_bytes=0,
    zram_ledger_bytes=0,
    came_back_right=True,
    gone=True,
)
ZRAM = replace(
    HOST,
    name="zram",
    file_bytes=None,
    file_swapped_bytes=0,
    zram_stored_bytes=300 * MIB,
    zram_taken_bytes=28 * MIB,
    zram_ledger_bytes=27 * MIB,
)


def test_what_shows_all_of_it_has_no_failures() -> None:
    assert failures([HOST, ZRAM]) == []


@pytest.mark.parametrize(
    ("tier", "says"),
    [
        (replace(HOST, after=Held(462 * MIB, 3)), "host: only 238 MiB are back at the host"),
        (replace(HOST, after=Held(420 * MIB, 18)), "host: the hot part had 17 major faults more"),
        (replace(ZRAM, came_back_right=False), "zram: what was swapped out did not come back"),
        (replace(HOST, gone=False), "host: the swap was removed, and its file or zram is"),
        (replace(ZRAM, zram_ledger_bytes=0), "zram: what zram takes is not what memreact's"),
        (replace(HOST, file_bytes=100 * MIB), "host: what was swapped out is not in the host's"),
        (replace(ZRAM, zram_stored_bytes=0), "zram: nothing was swapped out"),
        (
            replace(HOST, file_swapped_bytes=0, zram_stored_bytes=9),
            "host: what was swapped out is not in the host's",
        ),
    ],
)
def test_each_thing_that_is_not_shown_is_said(tier: Tier, says: str) -> None:
    (found,) = failures([tier])
    assert found.startswith(says)


def test_the_table_has_a_column_for_each_kind() -> None:
    lines = table([HOST, ZRAM]).splitlines()
    assert lines[0].split() == ["host", "zram"]
    cells = {line[:32].strip(): line[32:].split() for line in lines[1:]}
    assert cells["back at the host, net, MiB"] == ["280", "280"]
    assert cells["the host's file takes, MiB"] == ["301", "-"]
    assert cells["zram takes for that, MiB"] == ["0", "28"]
    assert cells["removed, no file or zram left"] == ["yes", "yes"]
