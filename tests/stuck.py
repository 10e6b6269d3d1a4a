"""Writes that do not come back, as some of the kernel's do not, and a kick out of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from kernelio.interruptible import kick

__all__ = ["FullPipe", "fill", "full_fifo", "full_pipe", "kicked_until_done"]

T = TypeVar("T")

_EVERY_S = 0.002


class FullPipe(NamedTuple):
    """Both ends of a pipe that takes no more."""

    read: int
    write: int


def fill(write: int) -> None:
    """Write to a pipe whose end does not block until it takes no more."""
    with suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 65536)


@contextmanager
def full_pipe() -> Iterator[FullPipe]:
    """Make a pipe in which a write blocks."""
    pipe = FullPipe(*os.pipe())
    os.set_blocking(pipe.write, False)
    fill(pipe.write)
    os.set_blocking(pipe.write, True)
    try:
        yield pipe
    finally:
        os.close(pipe.read)
        os.close(pipe.write)


@contextmanager
def full_fifo(path: str) -> Iterator[FullPipe]:
    """Make a file in which a write blocks, whoever opens it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mkfifo(path)
    read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    fill(write)
    try:
        yield FullPipe(read, write)
    finally:
        os.close(read)
        os.close(write)


def kicked_until_done(work: Callable[[], T]) -> T | Exception:
    """Work on a thread of its own, kick it until it is done, and tell how it ended."""
    ended: list[T | Exception] = []
    done = threading.Event()

    def run() -> None:
        try:
            ended.append(work())
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
            ended.append(error)
        finally:
            done.set()

    worker = threading.Thread(target=run)
    worker.start()
    assert worker.ident is not None
    while not done.wait(_EVERY_S):  # a kick before the thread is in the kernel is lost
        kick(worker.ident)
    worker.join()
    return ended[0]
