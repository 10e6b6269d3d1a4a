"""One line for each change and each refusal, and no flood of them."""

from __future__ import annotations

import asyncio

import pytest

from memreact.control.audit import Audit
from memreact.control.peer import Peer
from memreact.control.store import Change, ChangedKey
from memreact.events import Instant
from memreact.telemetry.journal import Journal

HOST = Peer("host", may_read=True, may_write=True)
SWAP = ChangedKey("memcg.swap", before=False, after=True, origin="pushed by host")
RULE = ChangedKey("memcg.cgroup[/a].swap", before=True, after=None, origin="")


class Told:
    """An audit whose lines and clock are the test's."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.lines: list[str] = []
        self.now = Instant(0)
        self.audit = Audit(Journal(write=self.lines.append), lambda: self.now, loop)

    def refused(self, name: str, times: int) -> None:
        """Refuse one peer so often."""
        for _ in range(times):
            self.audit.refused(Peer(name, may_read=True, may_write=False), "Pause", "no")

    def waits(self) -> float | None:
        """Seconds until the loop will call; None where it will not."""
        timer = self.audit._waiting
        return None if timer is None else timer.when() - asyncio.get_running_loop().time()

    def window_over(self, now: int) -> list[str]:
        """Let the moment come that the loop waits for, and give the lines that it brings."""
        assert self.audit._waiting is not None
        self.audit._waiting.cancel()
        self.now, before = Instant(now), len(self.lines)
        self.audit._window_over()
        return self.lines[before:]


def test_a_change_is_one_line_with_from_and_to() -> None:
    told = Told()
    told.audit.changed(HOST, "PatchSettings", Change(7, (SWAP, RULE)))
    line = (
        "changed peer=host verb=PatchSettings revision=7 keys=2"
        ' from="memcg.swap=false memcg.cgroup[/a].swap=true"'
        ' to="memcg.swap=true memcg.cgroup[/a].swap=unset"\n'
    )
    assert told.lines == [line]


def test_a_change_of_nothing_is_no_line() -> None:
    told = Told()
    told.audit.changed(HOST, "PatchSettings", Change(7, ()))
    assert told.lines == []


def test_a_change_of_very_much_is_a_line_of_bounded_length() -> None:
    told = Told()
    told.audit.changed(HOST, "PatchSettings", Change(7, (SWAP,) * 10_000))
    assert "keys=10000" in told.lines[0]
    assert len(told.lines[0]) < 5000


def test_what_is_done_and_is_no_setting_is_told_too() -> None:
    told = Told()
    told.audit.asked(HOST, "Pause", seconds=60, reason='say "hi"\n')
    assert told.lines == [
        'asked peer=host verb=Pause seconds=60 reason="say \\"hi\\"\\n"\n',
    ]


def test_refusals_that_come_too_fast_are_counted() -> None:
    told = Told()
    for _ in range(100):
        told.audit.refused(HOST, "connect", "permission denied")
    assert told.lines == ['refused peer=host verb=connect because="permission denied"\n'] * 20
    told.now = Instant(10_000_000)
    told.audit.refused(HOST, "connect", "x" * 10_000)
    told.audit.refused(HOST, "connect", "again")
    assert told.lines[20] == f"refused peer=host verb=connect because={'x' * 500} also=80\n"
    assert told.lines[21:] == ["refused peer=host verb=connect because=again\n"]


def test_a_flood_of_one_peer_hides_nothing_of_another() -> None:
    told = Told()
    for _ in range(100):
        told.audit.refused(Peer("uid 65534", may_read=True, may_write=False), "Pause", "no")
    told.audit.refused(Peer("uid 12345", may_read=True, may_write=False), "PatchSettings", "no")
    assert told.lines[-1] == 'refused peer="uid 12345" verb=PatchSettings because=no\n'


def test_peers_without_end_share_what_is_left_and_cost_no_memory() -> None:
    told = Told()
    for number in range(1000):
        told.audit.refused(Peer(f"uid {number}", may_read=False, may_write=False), "connect", "no")
    assert len(told.audit._budgets) <= 65
    assert 64 <= len(told.lines) <= 64 + 20


@pytest.mark.asyncio
async def test_what_was_counted_is_told_when_its_window_is_over() -> None:
    told = Told(asyncio.get_running_loop())
    told.refused("uid 7", 20)
    assert told.waits() is None
    told.refused("uid 7", 5)
    waits = told.waits()
    assert waits is not None
    assert waits <= 10.002
    told.now = Instant(4_000_000)
    told.refused("uid 8", 23)
    assert told.window_over(10_001_000) == ['refused_more peer="uid 7" n=5\n']
    assert told.window_over(14_001_000) == ['refused_more peer="uid 8" n=3\n']
    assert told.waits() is None
    told.refused("uid 7", 1)
    assert told.lines[-1] == 'refused peer="uid 7" verb=Pause because=no\n'


@pytest.mark.asyncio
async def test_a_timer_that_is_early_waits_for_the_rest() -> None:
    told = Told(asyncio.get_running_loop())
    told.refused("uid 7", 21)
    assert told.window_over(9_999_000) == []
    waits = told.waits()
    assert waits is not None
    assert waits <= 0.003
    told.audit.close()


@pytest.mark.asyncio
async def test_what_was_told_with_a_later_refusal_is_not_told_again() -> None:
    told = Told(asyncio.get_running_loop())
    told.refused("uid 7", 25)
    told.now = Instant(10_000_000)
    told.refused("uid 7", 1)
    assert told.lines[-1].endswith(" also=5\n")
    assert told.window_over(10_001_000) == []
    assert told.waits() is None


@pytest.mark.asyncio
async def test_the_end_tells_what_was_counted_and_leaves_no_timer() -> None:
    told = Told(asyncio.get_running_loop())
    told.refused("uid 7", 22)
    told.audit.close()
    assert told.lines[20:] == ['refused_more peer="uid 7" n=2\n']
    assert told.waits() is None
    told.audit.close()
    assert len(told.lines) == 21


def test_peers_that_share_a_budget_are_told_of_together() -> None:
    told = Told()
    for number in range(64):
        told.refused(f"uid {number}", 1)
    told.refused("uid 1000", 15)
    told.refused("uid 1001", 15)
    told.audit.close()
    assert told.lines[-1] == "refused_more peer=others n=10\n"


def test_a_very_long_value_is_cut() -> None:
    told = Told()
    long = tuple(ChangedKey(f"k{n}", before="x" * 5000, after=None, origin="") for n in range(32))
    told.audit.changed(HOST, "PatchSettings", Change(7, long))
    assert len(told.lines[0]) < 10_000
