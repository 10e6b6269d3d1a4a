"""From an event's wake of the waiting thread to its kick, by the daemon's own gate and waiter.

A worker is stuck in a write (to a full pipe); another process makes an fd urgent, EPOLLPRI as of a
pressure trigger, and stamps the moment before. The stamp is earlier than the kernel's wake, so the
figures are at most too large. With --cgroups the main thread, where the daemon's loop runs, parses
the generations of so many cgroups all the while.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from kernelio.interruptible import install_kick_handler, kick, write_interruptibly
from kernelio.mglru import parse_lru_gen
from kernelio.psi import Fired, TriggerSet
from lab.workloads.lines import monotonic_us, say
from memreact.daemon import SWITCH_INTERVAL_S
from memreact.garbage import keep_passes_short
from memreact.gate import Gate, HeldBack
from memreact.sources.waiter import Waiter

_DELAY_S = (0.005, 0.030)


class Firer:
    """A process that makes an fd urgent a random moment after it is asked to."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            far = socket.create_connection(server.getsockname())
            self.near, _ = server.accept()
        self._ask, asked = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._serve(far, asked)

    def _serve(self, far: socket.socket, asked: socket.socket) -> None:
        self._ask.close()
        while asked.recv(1):
            time.sleep(random.uniform(*_DELAY_S))  # noqa: S311  # no secret
            stamp_us = monotonic_us()
            far.send(b"!", socket.MSG_OOB)
            asked.send(str(stamp_us).encode())
        os._exit(0)

    def ask(self) -> None:
        """Ask for one."""
        self._ask.send(b"!")

    def stamp_us(self) -> int:
        """When it was, once it was."""
        return int(self._ask.recv(32))

    def end(self) -> None:
        """End the process."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class Bench:
    """The daemon's two threads around one write."""

    def __init__(self, firer: Firer) -> None:
        self._firer = firer
        self._gate = Gate(self._kick)
        self._kicks: list[int] = []
        self._told: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._full = _full_pipe()
        self.printed = 0
        triggers = TriggerSet()
        triggers.add(firer.near.fileno(), "urgent")
        self._waiter = Waiter(triggers, self._gate, self._tell)

    def run(self, rounds: int) -> None:
        """Be the worker for so many rounds, and print each."""
        self._gate.serve_this_thread()
        self._waiter.start()
        stops = 0
        while self.printed < rounds:
            self._kicks.clear()
            self._firer.ask()
            self._write(self._gate.token(stops))
            returned_us = monotonic_us()
            stops = self._told.get()
            stamp_us = self._firer.stamp_us()
            if self._kicks:  # none if it fired before the write had begun
                self._print(stamp_us, returned_us)
                self.printed += 1
        self._waiter.close()

    def _write(self, token: int) -> None:
        """Until it is stopped: a kick of the round before that comes late stops nothing."""
        with suppress(HeldBack), self._gate.writing(token):
            while self._gate.open_for(token):
                with suppress(InterruptedError):
                    write_interruptibly(self._full, b"x")

    def _print(self, stamp_us: int, returned_us: int) -> None:
        kicked_us, kicks = self._kicks[0], len(self._kicks)
        returned_us -= stamp_us
        say("kick", wake_to_kick_us=kicked_us - stamp_us, returned_us=returned_us, kicks=kicks)

    def _kick(self, thread_id: int) -> None:
        self._kicks.append(monotonic_us())
        kick(thread_id)

    def _tell(self, _fired: Fired, stops: int) -> None:
        # Urgent data stays urgent until it is taken; a trigger's event is gone with its poll.
        self._firer.near.recv(1, socket.MSG_OOB)
        self._told.put(stops)


def _full_pipe() -> int:
    _, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    return writer


def generations_of(cgroups: int) -> list[bytes]:
    """What lru_gen prints for so many cgroups."""
    lines = []
    for number in range(cgroups):
        lines.append(b"memcg %5d /system.slice/some-%d.service\n" % (number + 1, number))
        lines.append(b" node     0\n")
        lines += [b" %10d %10d %10d  %10d \n" % (seq, 60_000 - seq, 17, 4) for seq in range(4)]
    return lines


def main() -> None:
    """Run the rounds on a thread, and parse here until they are over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--cgroups", type=int, default=0, help="parsed all the while; 0: idle")
    arguments = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    install_kick_handler()
    firer = Firer()
    bench = Bench(firer)
    worker = threading.Thread(target=bench.run, args=(arguments.rounds,))
    lines = generations_of(arguments.cgroups)
    keep_passes_short()
    worker.start()
    while lines and worker.is_alive():
        for _ in parse_lru_gen(lines, "lru_gen"):
            pass
    worker.join()
    firer.end()
    if bench.printed < arguments.rounds:
        sys.exit(f"{bench.printed} of {arguments.rounds} rounds: the worker ended")


if __name__ == "__main__":
    main()
