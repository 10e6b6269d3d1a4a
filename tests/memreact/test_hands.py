"""Each action goes to the one that can do it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator

import pytest

from kernelio.inotify import Inotify
from kernelio.psi import TriggerSet
from memreact.actions import (
    Age,
    Arm,
    BreakOff,
    Compact,
    Disarm,
    Evict,
    Inspect,
    ReadCapabilities,
    ReadFragmentation,
    ReadPressure,
    Reclaim,
    Survey,
    Trigger,
)
from memreact.actuator.worker import Ground, Worker
from memreact.events import (
    AgingEnded,
    BatchEnded,
    CapabilitiesRead,
    CompactionEnded,
    Event,
    Fragmentation,
    Inspected,
    StallSeen,
)
from memreact.gate import Gate, HeldBack
from memreact.hands import Hands
from memreact.sources.inspection import Folios
from memreact.sources.limits import LimitWatch
from memreact.sources.triggers import Triggers
from memreact.sources.waiter import Waiter
from memreact.telemetry.journal import Journal
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import OWN, full_guest
from tests.memreact.kernel_files import memory_events, shows_memcg, shows_stall

PATIENCE_S = 20
CAN = CapabilitiesRead(4096, "mglru", True, OWN, 0.5)  # noqa: FBT003  # positional


class Body:
    """Hands and all that they hold."""

    def __init__(self, guest: FakeGuest) -> None:
        full_guest(guest)
        self.lines: list[str] = []
        self.posted: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.gate = Gate()
        self.waiting = TriggerSet()
        self.triggers = Triggers(guest.layout, self.waiting)
        self.limits = LimitWatch(guest.layout, Inotify())
        self.waiter = Waiter(self.waiting, self.gate, lambda _fired, _stops: None)
        ground = Ground(guest.layout, OWN, Folios(4096, 4096, 4096), None)
        self.worker = Worker(ground, self.gate, self.posted.put)
        for thread in (self.worker, self.waiter, self.triggers):
            thread.start()
        self.hands = Hands(
            layout=guest.layout,
            own_path=OWN,
            gate=self.gate,
            worker=self.worker,
            triggers=self.triggers,
            limits=self.limits,
            waiter=self.waiter,
            journal=Journal(write=self.lines.append),
            read_capabilities=lambda: CAN,
        )

    def close(self) -> None:
        """End the threads."""
        self.worker.close()
        self.triggers.close()
        self.waiter.close()
        self.waiting.close()
        self.limits.close()


@pytest.fixture
def body(guest: FakeGuest) -> Iterator[Body]:
    made = Body(guest)
    yield made
    made.close()


def test_work_goes_to_the_worker_and_is_answered_later(body: Body) -> None:
    for work in (Survey(), Inspect("/shop"), Age(())):
        assert body.hands.perform(work) is None
    answers = [body.posted.get(timeout=PATIENCE_S) for _ in range(3)]
    assert isinstance(answers[1], Inspected)
    assert isinstance(answers[2], AgingEnded)


def test_free_memory_is_looked_at_and_gathered_by_the_worker(body: Body) -> None:
    assert body.hands.perform(ReadFragmentation("auto")) is None
    assert isinstance(body.posted.get(timeout=PATIENCE_S), Fragmentation)
    assert body.hands.perform(Compact(0, 2**62)) is None
    ended = body.posted.get(timeout=PATIENCE_S)
    assert isinstance(ended, CompactionEnded)
    assert ended.outcome == "vanished"  # this guest has no files of its nodes


def test_a_write_decided_before_a_stop_was_heard_of_is_held_back(body: Body) -> None:
    inode = os.stat(body.hands._layout.memcg_dir("/shop")).st_ino
    body.gate.stop_from_waiter()
    body.hands.perform(Evict("/shop", inode, 5, 0, 7, 0, 64))
    held = body.posted.get(timeout=PATIENCE_S)
    assert isinstance(held, BatchEnded)
    assert held.outcome == "held_back"
    body.hands.stops_handled = 1
    body.hands.perform(Reclaim("/shop", inode, 64, 4096, -1))
    tried = body.posted.get(timeout=PATIENCE_S)
    assert isinstance(tried, BatchEnded)
    assert tried.outcome == "unsupported"  # there is no memory.reclaim in /shop


def test_breaking_off_closes_the_gate(body: Body) -> None:
    token = body.gate.token(0)
    assert body.hands.perform(BreakOff()) is None
    assert not body.gate.open_for(token)
    assert body.gate.open_for(body.gate.token(0))


def test_nobody_is_woken_where_nothing_is_written(body: Body) -> None:
    woken: list[str] = []
    body.gate._kick = lambda _thread: None
    body.waiter.keep_kicking = lambda: woken.append("")  # type: ignore[method-assign]
    body.hands.break_off()
    assert not woken
    with pytest.raises(HeldBack), body.gate.writing(body.gate.token(0) - 1):
        pass  # decided before: it does not begin
    with body.gate.writing(body.gate.token(0)):
        body.hands.break_off()
    assert len(woken) == 1


def test_a_write_that_a_kick_missed_is_kicked_again(body: Body) -> None:
    """A kick that lands just before the system call is lost; nobody but the waiter repeats it."""
    kicks = threading.Semaphore(0)
    body.gate._kick = lambda _thread: kicks.release()
    token = body.gate.token(0)
    with body.gate.writing(token):
        body.hands.break_off()
        for _ in range(5):
            assert kicks.acquire(timeout=PATIENCE_S)


def test_pressure_is_read_at_once(guest: FakeGuest, body: Body) -> None:
    shows_stall(guest, "", 40, 2)
    shows_stall(guest, "/shop", 7)
    answer = body.hands.perform(ReadPressure("/shop"))
    assert isinstance(answer, StallSeen)
    assert answer.trigger is None
    assert (answer.pressure.guest.guest_us, answer.pressure.memcg_us) == (42, 7)


def test_capabilities_are_read_at_once(body: Body) -> None:
    assert body.hands.perform(ReadCapabilities()) == CAN


def test_arming_watches_memory_events_too_and_disarming_ends_that(
    guest: FakeGuest, body: Body
) -> None:
    body.hands.perform(Arm("/shop", (Trigger(5_000, 100_000),)))
    shows_memcg(guest, "/shop", memory_events=memory_events(high=1))
    assert [hit.high for hit in body.limits.read()] == [1]
    body.hands.perform(Disarm("/shop"))
    shows_memcg(guest, "/shop", memory_events=memory_events(high=2))
    assert body.limits.read() == []


def test_what_cannot_be_armed_is_told(body: Body) -> None:
    """Plain files cannot be polled, as a kernel's pressure files can."""
    body.hands.perform(Arm("", (Trigger(5_000, 100_000),)))
    assert [line.split(" ")[0] for line in body.lines] == ["trigger_not_armed"] * 2


def test_one_that_vanished_before_it_was_armed_is_daily_life(body: Body) -> None:
    body.hands.perform(Arm("/gone", (Trigger(5_000, 100_000),)))
    assert body.lines == []
