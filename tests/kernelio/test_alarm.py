"""Kicks that the kernel gives by itself; here a plain file is modified in a trigger's place."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernelio.alarm import Alarm
from kernelio.errors import Vanished
from kernelio.interruptible import KICK_SIGNAL, install_kick_handler, write_interruptibly

PATIENCE_S = 20  # bounds a failure; nothing waits for it when all is well


class Scene:
    """A thread in a write that never ends by itself, and a file that tells when to end it."""

    def __init__(self, folder: Path) -> None:
        install_kick_handler()
        self.alarm = Alarm()
        self.path = str(folder / "memory.pressure")
        self.touch()
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.write, bytes(4096))
        os.set_blocking(self.write, True)
        self.errnos: list[int] = []
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def touch(self) -> None:
        """Modify the file."""
        with open(self.path, "w") as file:
            file.write("x")

    def works(self, writes: int) -> threading.Thread:
        """Have a thread write so often, each time until it is broken off."""
        thread = threading.Thread(target=self._work, args=(writes,))
        thread.start()
        return thread

    def _work(self, writes: int) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {KICK_SIGNAL})  # the starter may block it
        self.alarm.kick_this_thread()
        for _ in range(writes):
            self.alarm.set_again()
            self.begun.release()
            try:
                write_interruptibly(self.write, b"x")
            except OSError as error:
                self.errnos.append(error.errno or 0)
            self.ended.release()

    def touch_until_it_ended(self) -> None:
        """As a trigger that fires again: a signal before the thread is in the kernel is lost."""
        assert self.begun.acquire(timeout=PATIENCE_S)
        while not self.ended.acquire(timeout=0.01):
            self.alarm.set_again()
            self.touch()

    def close(self) -> None:
        """Give all back; the reader first, so that a thread that hangs is freed."""
        os.close(self.read)
        os.close(self.write)
        self.alarm.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def test_a_modified_file_breaks_off_the_write_and_no_thread_of_ours_has_a_part_in_it(
    scene: Scene,
) -> None:
    scene.alarm.watch(scene.path)
    worker = scene.works(3)
    for _ in range(3):
        scene.touch_until_it_ended()
    worker.join(PATIENCE_S)
    assert scene.errnos == [errno.EINTR] * 3


@pytest.fixture
def signals(scene: Scene) -> Iterator[Callable[[], int]]:
    """Counts the signals that wait for this thread, which takes them by hand."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {KICK_SIGNAL})
    scene.alarm.kick_this_thread()

    def waiting() -> int:
        return sum(1 for _ in iter(lambda: signal.sigtimedwait({KICK_SIGNAL}, 0), None))

    yield waiting
    waiting()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_what_came_before_a_write_does_not_keep_the_next_kick_away(
    scene: Scene, signals: Callable[[], int]
) -> None:
    scene.alarm.watch(scene.path)
    with open(scene.path, "wb", buffering=0) as file:
        signals()
        scene.alarm.set_again()
        file.write(b"x")
        assert signals() == 1
        file.write(b"x")
        assert signals() == 0  # merged with the one in the queue
        scene.alarm.set_again()
        file.write(b"x")
        assert signals() == 1


def test_other_threads_are_not_kicked(scene: Scene, signals: Callable[[], int]) -> None:
    scene.alarm.watch(scene.path)
    worker = scene.works(1)
    scene.touch_until_it_ended()
    worker.join(PATIENCE_S)
    assert signals() == 0


def test_a_file_that_is_watched_no_more_kicks_nobody(scene: Scene) -> None:
    scene.alarm.unwatch(scene.alarm.watch(scene.path))
    worker = scene.works(1)
    assert scene.begun.acquire(timeout=PATIENCE_S)
    for _ in range(50):
        scene.alarm.set_again()
        scene.touch()
    os.read(scene.read, 8192)  # room: the write ends by itself
    worker.join(PATIENCE_S)
    assert scene.errnos == []


def test_a_watch_that_is_gone_is_none_the_worse(scene: Scene) -> None:
    watch = scene.alarm.watch(scene.path)
    scene.alarm.unwatch(watch)
    scene.alarm.unwatch(watch)


def test_a_file_that_is_not_there_vanished(scene: Scene) -> None:
    with pytest.raises(Vanished):
        scene.alarm.watch(f"{scene.path}.other")


def test_setting_it_again_when_nothing_came_is_nothing(scene: Scene) -> None:
    scene.alarm.set_again()
    scene.alarm.set_again()
