"""What hurt whom is told and remembered, and decides nothing."""

from __future__ import annotations

from memreact.actions import Because, Decision
from memreact.events import HarmSeen, Instant, MemcgDelays
from memreact.policy.step import step
from memreact.value import replace
from tests.memreact.policy.simulated_guest import SimulatedGuest


def delays(path: str, reclaim_us: int | None = 7_000) -> MemcgDelays:
    return MemcgDelays(path, 3, 0, reclaim_us, 2_000, None, 0, 5_000)


def test_the_worst_three_are_told_with_what_the_kernel_says() -> None:
    guest = SimulatedGuest()
    seen = HarmSeen(Instant(1_000), Instant(5_000), tuple(map(delays, ("/a", "/b", "/c", "/d"))))
    made = step(guest.watched.state, seen, guest.rules, Instant(guest.now))
    assert [decision.path for decision in made.decisions] == ["/a", "/b", "/c"]
    figures = {"over_us": 4_000, "processes": 3, "reclaim_us": 7_000, "swap_in_us": 2_000}
    figures |= {"compact_us": 0, "block_io_us": 5_000}
    assert made.decisions[0] == Decision("hurt", Because("waited", dict(figures)), "/a")


def test_it_is_remembered_and_nothing_else_changes() -> None:
    guest = SimulatedGuest()
    guest.add("/a")
    before = guest.watched.state
    seen = HarmSeen(Instant(1), Instant(2), (delays("/a"),))
    made = step(before, seen, guest.rules, Instant(guest.now))
    assert made.state == replace(before, hurt=seen)
    assert made.actions == ()
    assert made.state.memcgs["/a"].last is None
