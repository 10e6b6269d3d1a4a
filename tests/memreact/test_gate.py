"""The stop that no write may slip past, whichever way two threads meet."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from memreact.gate import Gate, HeldBack


@pytest.fixture
def kicks() -> list[int]:
    return []


@pytest.fixture
def gate(kicks: list[int]) -> Gate:
    made = Gate(kicks.append)
    made.serve_this_thread()
    return made


def test_a_write_begins_when_nothing_was_stopped_since_its_decision(gate: Gate) -> None:
    with gate.writing(gate.token(0)):
        assert not gate.must_kick


def test_a_stop_of_the_waiter_between_decision_and_write_holds_the_write_back(gate: Gate) -> None:
    token = gate.token(0)
    gate.stop_from_waiter()
    with pytest.raises(HeldBack), gate.writing(token):
        pytest.fail("the write began")


def test_a_stop_of_the_loop_between_decision_and_write_holds_the_write_back(gate: Gate) -> None:
    token = gate.token(0)
    gate.stop_from_loop()
    with pytest.raises(HeldBack), gate.writing(token):
        pytest.fail("the write began")


def test_a_decision_that_knows_of_the_stop_may_write_again(gate: Gate) -> None:
    stops = gate.stop_from_waiter()
    gate.stop_from_loop()
    assert gate.open_for(gate.token(stops))


def test_stops_of_one_are_not_made_up_for_by_the_other(gate: Gate) -> None:
    """Both count: as many stops of the loop as the decision missed of the waiter change nothing."""
    gate.stop_from_waiter()
    gate.stop_from_waiter()
    token = gate.token(1)  # decided before the loop heard of the second
    assert not gate.open_for(token)
    gate.stop_from_loop()
    assert not gate.open_for(token)


def test_a_stop_in_mid_write_kicks_the_writing_thread(gate: Gate, kicks: list[int]) -> None:
    with gate.writing(gate.token(0)):
        gate.stop_from_waiter()
        gate.stop_from_loop()
        assert gate.must_kick
    assert len(kicks) == 2
    assert len(set(kicks)) == 1


def test_nobody_is_kicked_while_nothing_is_written(gate: Gate, kicks: list[int]) -> None:
    gate.stop_from_waiter()
    gate.stop_from_loop()
    gate.kick_if_writing()
    assert kicks == []
    assert not gate.must_kick


def test_a_write_that_is_over_need_not_be_kicked(gate: Gate) -> None:
    with gate.writing(gate.token(0)):
        gate.stop_from_waiter()
    assert not gate.must_kick


def test_a_write_that_failed_is_over_too(gate: Gate) -> None:
    with suppress(OSError), gate.writing(gate.token(0)):
        gate.stop_from_loop()
        raise OSError
    assert not gate.must_kick


def test_what_a_kick_does_not_end_is_ended_its_own_way(gate: Gate, kicks: list[int]) -> None:
    ended: list[str] = []
    with gate.writing(gate.token(0), lambda: ended.append("child")):
        gate.stop_from_waiter()
        gate.kick_if_writing()
    assert (ended, kicks) == (["child", "child"], [])
    with gate.writing(gate.token(1)):
        gate.stop_from_loop()
    assert len(kicks) == 1
    assert len(ended) == 2


SHARED = {"_loop_stops", "_token", "_waiter_stops", "_writing"}
PATIENCE_S = 20  # bounds a failure; nothing waits for it when all is well


class Puppet(threading.Thread):
    """Does `work` on a thread of its own, one access to what is shared at a time, when told to."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._go = threading.Semaphore(0)
        self._waits = threading.Semaphore(0)
        self.over = False
        self.start()
        self._await()

    def step(self) -> None:
        """On its thread: wait to be told to take the next step."""
        self._waits.release()
        assert self._go.acquire(timeout=PATIENCE_S)

    def run(self) -> None:
        """Work, and say when that is over."""
        try:
            self._work()
        finally:
            self.over = True
            self._waits.release()

    def go_on(self, steps: int = 1) -> None:
        """Let it take some steps, as many as it still has."""
        for _ in range(steps):
            if not self.over:
                self._go.release()
                self._await()

    def _await(self) -> None:
        assert self._waits.acquire(timeout=PATIENCE_S)


class SteppedGate(Gate):
    """A gate at which puppets wait before each access to what the two threads share."""

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401, D105  # as object's own
        _step(name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:  # noqa: D105
        _step(name)
        super().__setattr__(name, value)


def _step(name: str) -> None:
    puppet = threading.current_thread()
    if name in SHARED and isinstance(puppet, Puppet):
        puppet.step()


class Meeting:
    """A worker that writes with an old token, and one that stops it."""

    def __init__(self, stopper: str) -> None:
        self.kicks = 0
        self.inside = False
        self.gate = SteppedGate(self._kick)
        self.stopper = Puppet(getattr(self.gate, stopper))
        self.worker = Puppet(self._write)

    def approach(self, steps: int) -> None:
        """Let the worker take so many steps, but none out of the kernel."""
        for _ in range(steps):
            if not self.inside:
                self.worker.go_on()

    def _kick(self, _thread: int) -> None:
        self.kicks += 1

    def _write(self) -> None:
        with suppress(HeldBack), self.gate.writing(0):
            self.inside = True
            _step("_writing")  # in the kernel, until told to go on


WORKER_STEPS = 5  # until it is in the kernel, or held back and over
ORDERS = tuple(itertools.combinations_with_replacement(range(WORKER_STEPS + 1), 3))


@pytest.mark.parametrize("stopper", ["stop_from_waiter", "stop_from_loop"])
def test_no_stop_is_lost_whichever_way_the_two_threads_interleave(stopper: str) -> None:
    """Each order: before its next step the stopper lets the worker take so many of its own."""
    ends = {"held back": 0, "in the kernel": 0}
    for order in ORDERS:
        meeting = Meeting(stopper)
        taken = 0
        for cut in order:
            meeting.approach(cut - taken)
            taken = cut
            meeting.stopper.go_on()
        meeting.stopper.go_on(3)
        assert meeting.stopper.over
        meeting.approach(WORKER_STEPS)
        assert meeting.inside or meeting.worker.over
        # Stopped, and in the kernel nevertheless: the waiter sees that it has to go on kicking.
        assert meeting.gate.must_kick == meeting.inside
        ends["in the kernel" if meeting.inside else "held back"] += 1
        meeting.worker.go_on(3)
        assert meeting.worker.over
        assert not meeting.gate.must_kick
    assert ends["held back"] > 10
    assert ends["in the kernel"] > 0
