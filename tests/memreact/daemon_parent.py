"""Fork daemons from a process that has imported them: `daemon_parent.py FD MODULE...`.

An interpreter that starts and imports everything takes longer than most of what the tests look at.
Orders come by the socket FD; the modules are imported too. Each order is a packet: JSON of an
`Order`, with two fds: the daemon's stderr, and a pipe that is told its process id and then its exit
status.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from struct import Struct
from typing import Any

import msgspec

from kernelio import psi

__all__ = ["NUMBER", "Order"]

NUMBER = Struct("i")
_arm_trigger = psi.arm_trigger


class Order(msgspec.Struct, frozen=True):
    """One daemon.

    Args:
        program: Python that begins it.
        words: Its sys.argv; a root of files is words[3].
        environ: Its environment.
    """

    program: str
    words: list[str]
    environ: dict[str, str]


def _arm(path: str, kind: Any, **window: int) -> int:  # noqa: ANN401  # as arm_trigger takes it
    """Open something in place of a plain file, which would take a trigger for its new text."""
    if sys.argv[3]:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    return _arm_trigger(path, kind, **window)


def _await_order(orders: socket.socket) -> tuple[Order, int, int]:
    """Return in a new process for each order, and never in this one."""
    while True:
        packet, fds, _, _ = socket.recv_fds(orders, 1 << 20, 2)
        if not packet:
            os._exit(0)
        if os.fork() == 0:
            orders.close()
            stderr, account = fds
            return msgspec.json.decode(packet, type=Order), stderr, account
        for fd in fds:
            os.close(fd)


def _stay_with_the_daemon(stderr: int, account: int) -> None:
    """Return in the daemon's process, and never in this one, which gives account of it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    daemon = os.fork()
    if daemon == 0:
        os.close(account)
        os.dup2(stderr, 2)
        os.close(stderr)
        return
    os.close(stderr)
    os.write(account, NUMBER.pack(daemon))
    _, status = os.waitpid(daemon, 0)
    os.write(account, NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _measure() -> None:
    """Count lines, where the tests are run for their coverage: a fork starts no interpreter."""
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        import coverage  # noqa: PLC0415  # is there when it is asked for

        coverage.process_startup()


def _main() -> None:
    if os.fork():
        os._exit(0)  # whoever tests that no child is left has none in this
    psi.arm_trigger = _arm  # before anything imports it
    import memreact.process  # noqa: F401, PLC0415  # see above

    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    order, stderr, account = _await_order(socket.socket(fileno=int(sys.argv[1])))
    _stay_with_the_daemon(stderr, account)
    sys.argv = order.words
    os.environ.clear()
    os.environ.update(order.environ)
    _measure()
    exec(order.program, {"__name__": "__main__", "sys": sys})  # noqa: S102  # the test's own


if __name__ == "__main__":
    _main()
