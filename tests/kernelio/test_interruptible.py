from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator

import pytest

from kernelio.interruptible import install_kick_handler, kick, write_interruptibly
from tests.stuck import FullPipe, full_pipe, kicked_until_done


@pytest.fixture(autouse=True)
def _kickable() -> None:
    # It stays: a kick may still be on its way, and the signal's default ends the whole process.
    install_kick_handler()


@pytest.fixture
def pipe() -> Iterator[FullPipe]:
    """A pipe into which nothing fits, as an eviction that takes its time."""
    with full_pipe() as one:
        yield one


@pytest.mark.parametrize("attempt", range(10))
def test_a_kick_breaks_off_a_blocked_write(pipe: FullPipe, attempt: int) -> None:
    ended = kicked_until_done(lambda: write_interruptibly(pipe.write, b"one more"))
    assert isinstance(ended, InterruptedError)
    assert ended.errno == errno.EINTR


def test_a_write_broken_off_half_way_tells_what_was_taken(pipe: FullPipe) -> None:
    os.read(pipe.read, 65536)
    assert kicked_until_done(lambda: write_interruptibly(pipe.write, b"y" * 200_000)) == 65536


def test_a_write_that_is_over_at_once_returns_its_length() -> None:
    read, write = os.pipe()
    assert write_interruptibly(write, b"- 5 0 1\0 with a NUL") == 19
    assert os.read(read, 100) == b"- 5 0 1\0 with a NUL"
    os.close(read)
    os.close(write)


def test_the_errno_becomes_the_error() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        write_interruptibly(read, b"x")
    assert caught.value.errno == errno.EBADF
    os.close(read)
    with pytest.raises(BrokenPipeError):
        write_interruptibly(write, b"x")
    os.close(write)


def test_a_kick_of_a_thread_that_ended_is_harmless() -> None:
    worker = threading.Thread(target=int)
    worker.start()
    assert worker.ident is not None
    worker.join()
    kick(worker.ident)


def test_a_full_queue_of_signals_ends_nobody_who_kicks() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, hard))
    try:
        kick(threading.get_ident())
    finally:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (soft, hard))


def test_a_kick_that_nobody_waits_for_does_nothing() -> None:
    kick(threading.get_ident())


def test_other_threads_keep_running_while_one_writes(pipe: FullPipe) -> None:
    # The write gives the interpreter's lock away: else reading here would never come.
    ended: list[int] = []
    worker = threading.Thread(
        target=lambda: ended.append(write_interruptibly(pipe.write, b"z" * 4096))
    )
    worker.start()
    os.read(pipe.read, 65536)
    worker.join(10)
    assert ended == [4096]
