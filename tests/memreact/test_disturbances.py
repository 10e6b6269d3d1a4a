"""Thousands of disturbances, on a loop whose clock the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from memreact.disturbances import APART_S, Disturbances
from memreact.events import ClockDisturbed


class Timer:
    """What a loop gives for a call that comes later."""

    def __init__(self, loop: Later, when: float, call: Callable[[], object]) -> None:
        self.loop = loop
        self.when = when
        self.call = call

    def cancel(self) -> None:
        """Do not call."""
        self.loop.timers.remove(self)


class Later:
    """What of a loop is needed: a clock and timers."""

    def __init__(self) -> None:
        self.now = 1024.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        """What the clock says."""
        return self.now

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Remember it."""
        self.timers.append(Timer(self, when, call))
        return self.timers[-1]

    def passes(self, seconds: float) -> None:
        """Let time pass, and timers fire."""
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= until]:
            due[0].cancel()
            self.now = due[0].when
            due[0].call()
        self.now = until


def told() -> tuple[Later, Disturbances, list[tuple[float, str]]]:
    loop, acted = Later(), list[tuple[float, str]]()
    calm = Disturbances(
        cast("asyncio.AbstractEventLoop", loop),
        lambda event: acted.append((loop.now - 1024, event.cause)),
    )
    return loop, calm, acted


def test_the_first_acts_at_once_and_starts_no_timer() -> None:
    loop, calm, acted = told()
    calm.tell(ClockDisturbed("device_changed"))
    assert acted == [(0, "device_changed")]
    assert loop.timers == []


def test_a_storm_acts_once_a_second_and_its_last_is_not_lost() -> None:
    loop, calm, acted = told()
    for _ in range(3 * 1024):
        calm.tell(ClockDisturbed("device_changed"))
        loop.passes(1 / 1024)
    loop.passes(10)
    assert [at for at, _ in acted] == [0, APART_S, 2 * APART_S, 3 * APART_S]
    assert loop.timers == []
    calm.tell(ClockDisturbed("device_changed"))
    assert acted[-1] == (13, "device_changed")


def test_of_those_that_wait_the_gravest_speaks_for_all() -> None:
    loop, calm, acted = told()
    for cause in ("suspend", "device_changed", "snapshot_restored", "clock_step", "uevents_lost"):
        calm.tell(ClockDisturbed(cause))
    loop.passes(5)
    assert acted == [(0, "suspend"), (APART_S, "snapshot_restored")]


def test_what_waits_when_it_is_closed_is_let_go() -> None:
    loop, calm, acted = told()
    for _ in range(2):
        calm.tell(ClockDisturbed("suspend"))
    calm.close()
    loop.passes(5)
    assert len(acted) == 1
