"""The waiting thread, with fds that the kernel makes urgent: a TCP connection's urgent data."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from kernelio.psi import Fired, TriggerSet
from memreact.gate import Gate
from memreact.sources.waiter import Waiter
from tests.timer_slack import timer_slack_ns

PATIENCE_S = 20  # bounds a failure; nothing waits for it when all is well


class Urgent:
    """A trigger that fires when told to: EPOLLPRI comes with urgent data."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.far = socket.create_connection(server.getsockname())
            self.near, _ = server.accept()

    def fire(self) -> None:
        """Make it urgent."""
        self.far.send(b"!", socket.MSG_OOB)

    def quiet(self) -> None:
        """Take the urgent byte, as a poll of the kernel's trigger does."""
        self.near.recv(1, socket.MSG_OOB)

    def close(self) -> None:
        """Close both ends."""
        self.near.close()
        self.far.close()


class Scene:
    """A waiter at work, and all that it did, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.told: list[tuple[Fired, int]] = []
        self.slack_ns = 0
        self.kicked = threading.Semaphore(0)
        self.heard = threading.Semaphore(0)
        self.triggers = TriggerSet()
        self.gate = Gate(self._kick)
        self.urgent = Urgent()
        self.waiter = Waiter(self.triggers, self.gate, self._tell)
        self.triggers.add(self.urgent.near.fileno(), "/a")

    def _kick(self, _thread: int) -> None:
        self.log.append("kick")
        self.kicked.release()

    def _tell(self, fired: Fired, stops: int) -> None:
        # Urgent data stays urgent until it is taken; a trigger's event is gone with its poll.
        if not fired.gone:
            self.urgent.quiet()
        self.slack_ns = timer_slack_ns()
        self.log.append("tell")
        self.told.append((fired, stops))
        self.heard.release()

    def close(self) -> None:
        """End the thread first."""
        self.waiter.close()
        self.triggers.close()
        self.urgent.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    made.waiter.start()
    yield made
    made.close()


def test_stops_first_and_tells_then(scene: Scene) -> None:
    with scene.gate.writing(0):
        scene.urgent.fire()
        assert scene.heard.acquire(timeout=PATIENCE_S)
    assert scene.log[0] == "kick"
    assert "tell" in scene.log
    fired, stops = scene.told[0]
    assert (fired.name, fired.gone, stops) == ("/a", False, 1)
    assert not scene.gate.open_for(0)


def test_asks_for_the_interpreters_lock_no_later_than_at_the_end_of_an_interval(
    scene: Scene,
) -> None:
    scene.urgent.fire()
    assert scene.heard.acquire(timeout=PATIENCE_S)
    assert scene.slack_ns == 1
    assert timer_slack_ns() != 1  # the loop's thread waits as before


def test_without_a_write_it_stops_what_has_not_begun(scene: Scene) -> None:
    scene.urgent.fire()
    assert scene.heard.acquire(timeout=PATIENCE_S)
    assert scene.log == ["tell"]
    assert not scene.gate.open_for(scene.gate.token(0))
    assert scene.gate.open_for(scene.gate.token(1))


def test_kicks_again_until_the_write_that_ignored_the_first_kicks_ends(scene: Scene) -> None:
    with scene.gate.writing(0):
        scene.urgent.fire()
        for _ in range(5):
            assert scene.kicked.acquire(timeout=PATIENCE_S)


def test_kicks_again_for_the_loop_too(scene: Scene) -> None:
    with scene.gate.writing(0):
        scene.gate.stop_from_loop()
        scene.waiter.keep_kicking()
        for _ in range(5):
            assert scene.kicked.acquire(timeout=PATIENCE_S)
    assert scene.told == []


def test_each_stop_has_a_number_of_its_own(scene: Scene) -> None:
    for _ in range(3):
        scene.urgent.fire()
        assert scene.heard.acquire(timeout=PATIENCE_S)
    assert [stops for _, stops in scene.told] == [1, 2, 3]


def test_a_trigger_that_is_gone_is_told_once_and_stops_nothing(scene: Scene) -> None:
    reader, writer = os.pipe()
    scene.triggers.add(writer, "/gone")
    os.close(reader)  # EPOLLERR from now on, as a removed cgroup's trigger gives it
    assert scene.heard.acquire(timeout=PATIENCE_S)
    scene.urgent.fire()  # the thread has been through epoll once more when this is heard
    assert scene.heard.acquire(timeout=PATIENCE_S)
    os.close(writer)
    assert [(fired.name, fired.gone, stops) for fired, stops in scene.told] == [
        ("/gone", True, 0),
        ("/a", False, 1),
    ]


def test_ends_when_told_to_although_nothing_fires() -> None:
    scene = Scene()
    scene.waiter.start()
    scene.close()
    assert not scene.waiter._thread.is_alive()
