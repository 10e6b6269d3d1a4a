"""Programs that run beside us: started, killed, waited for, and never left over."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelio.child import Child
from kernelio.errors import Refused, Unsupported
from tests.few_fds import no_fds_left

ROOT = Path(__file__).parents[2]
PATIENCE_MS = 20_000  # bounds a failure; nothing waits for it when all is well


class Ear:
    """A pipe: what a child says, and how a child is kept waiting."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def heard(self) -> bytes:
        """All that was said, once nobody can say more."""
        os.close(self.write)
        self.write = -1
        parts = []
        while part := os.read(self.read, 65536):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close what is open."""
        for fd in (self.read, self.write):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.close()


@pytest.fixture
def child() -> Iterator[Child]:
    """A place for children, in which none is left behind, dead or alive."""
    before = children()
    made = Child()
    yield made
    made.close()
    assert children() == before


def children() -> str:
    """Our children, zombies with them."""
    with open("/proc/thread-self/children", encoding="ascii") as file:
        return file.read()


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


WAITS = ("/bin/sleep", "1000")


def test_says_what_it_has_to_say_and_its_status_is_told(child: Child, ear: Ear) -> None:
    child.start(shell("echo 1; exit 7"), ear.write)
    assert child.ends_within(PATIENCE_MS)
    assert child.reap() == 7
    assert ear.heard() == b"1\n"


def test_a_kill_ends_it_and_leaves_no_zombie(child: Child, ear: Ear) -> None:
    child.start(WAITS, ear.write)
    assert not child.ends_within(0)
    child.kill()
    assert child.ends_within(PATIENCE_MS)
    assert child.reap() == -signal.SIGKILL


def test_another_thread_may_kill_while_we_wait_for_the_end(child: Child, ear: Ear) -> None:
    child.start(WAITS, ear.write)
    killer = threading.Thread(target=child.kill)
    killer.start()
    assert child.reap() == -signal.SIGKILL
    killer.join()


def test_a_kill_before_the_first_and_after_the_last_does_nothing(child: Child, ear: Ear) -> None:
    child.kill()
    child.start(shell("exit 0"), ear.write)
    child.reap()
    child.kill()


def test_one_after_another_takes_one_fd_with_one_number(child: Child, ear: Ear) -> None:
    child.start(shell("exit 0"), ear.write)
    child.reap()
    number, open_now = child._pidfd, len(os.listdir("/proc/self/fd"))
    for status in range(5):
        child.start(shell(f"exit {status}"), ear.write)
        assert child.reap() == status
    assert child._pidfd == number
    assert len(os.listdir("/proc/self/fd")) == open_now
    assert not os.get_inheritable(number)


def test_it_has_no_fd_of_ours_but_the_three(child: Child, ear: Ear) -> None:
    leaked = os.dup(ear.read)
    os.set_inheritable(leaked, True)  # noqa: FBT003  # positional only
    child.start(("/bin/ls", "/proc/self/fd"), ear.write)
    child.reap()
    os.close(leaked)
    assert ear.heard().split() == [b"0", b"1", b"2", b"3"]  # the last is the directory it lists


def test_it_has_no_environment_of_ours(child: Child, ear: Ear) -> None:
    child.start(("/usr/bin/env",), ear.write)
    child.reap()
    assert ear.heard() == b""


def test_a_program_that_is_not_there_is_unsupported(child: Child, ear: Ear) -> None:
    with pytest.raises(Unsupported, match="no such program"):
        child.start(("/no/such/program",), ear.write)
    child.kill()


def test_a_program_that_may_not_be_run_is_unsupported(child: Child, ear: Ear) -> None:
    with pytest.raises(Unsupported, match="not permitted"):
        child.start(("/etc/passwd",), ear.write)


NO_MORE_PROCESSES = """\
import ctypes, os, resource, sys
from kernelio.child import Child
from kernelio.errors import Refused
if os.getuid() == 0:
    os.setuid(65534)  # the limit does not bind root
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    Child().start(("/bin/true",), 1)
except Refused as error:
    sys.exit(error.errno)
"""


def python(program: str) -> subprocess.Popen[bytes]:
    """Start Python with a program that knows our packages."""
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}
    )


@pytest.mark.skipif(os.getuid() != 0, reason="how many processes this user has is not ours to say")
def test_a_guest_that_can_have_no_more_processes_refuses() -> None:
    with python(NO_MORE_PROCESSES) as process:
        assert process.wait(PATIENCE_MS / 1000) == errno.EAGAIN


def test_one_that_cannot_be_watched_is_ended_at_once(child: Child, ear: Ear) -> None:
    """Its pidfd would be one fd too many."""
    with no_fds_left(), pytest.raises(Refused) as caught:
        child.start(WAITS, ear.write)
    assert caught.value.errno == errno.EMFILE


def test_where_children_cannot_be_waited_for_none_is_started(child: Child, ear: Ear) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(Unsupported, match="SIGCHLD"):
            child.start(shell("echo 1"), ear.write)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert ear.heard() == b""


def test_waiting_lets_other_threads_run(child: Child, ear: Ear) -> None:
    child.start(shell("read word <&1; exit 5"), ear.read)
    reaped: list[int] = []
    waiter = threading.Thread(target=lambda: reaped.append(child.reap()))
    waiter.start()
    os.write(ear.write, b"go\n")  # what it waits for would never come if we kept the lock
    waiter.join(PATIENCE_MS / 1000)
    assert reaped == [5]


def test_any_time_can_be_waited_for(child: Child, ear: Ear) -> None:
    child.start(shell("exit 0"), ear.write)
    assert child.ends_within(2.0**63)
    assert child.ends_within(-1)
    child.reap()


def test_the_end_is_seen_by_whoever_polls(child: Child, ear: Ear) -> None:
    child.start(shell("exit 0"), ear.write)
    waiting = select.poll()
    waiting.register(child._pidfd, select.POLLIN)
    assert waiting.poll(PATIENCE_MS)
    child.reap()
