"""From an event's wake of the waiting thread to the kick, by the daemon's own parts.

A worker is stuck in a write (to a full pipe) until it is kicked: by the kernel itself, where a
trigger on a cgroup's file fires (docs/decisions/0023), or by the waiting thread, which such a
trigger wakes. Prints for each round when either came after the wake, and when the write returned
first. With --cgroups the main thread, where the daemon's loop runs, parses the generations of so
many cgroups all the while.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
from contextlib import suppress

from kernelio.alarm import Alarm
from kernelio.interruptible import install_kick_handler, kick, write_interruptibly
from kernelio.mglru import parse_lru_gen
from kernelio.process import refuse_huge_pages
from kernelio.psi import Fired, TriggerSet
from lab.workloads.firers import Firer, Pressure, Stalls, Threads, Urgent
from lab.workloads.ftrace import WAITER, Kicks
from lab.workloads.lines import monotonic_us, say
from memreact.garbage import keep_passes_short
from memreact.gate import Gate, HeldBack
from memreact.process import SWITCH_INTERVAL_S
from memreact.sources.waiter import Waiter

_PATIENCE_S = 120
_TRIES = 3  # for each round that is wanted
_MORE_TRIES = 50  # a busy machine may be late a few times in a row


class Bench:
    """The daemon's two threads around one write.

    Args:
        alarm: By which the kernel may kick the worker.
        waiting: What the waiting thread polls.
        firer: Makes something of it fire.
    """

    def __init__(self, alarm: Alarm, waiting: TriggerSet, firer: Firer) -> None:
        self._alarm = alarm
        self._firer = firer
        self._gate = Gate(self._kick)
        self._kicks: list[int] = []
        self._told: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._full = _full_pipe()
        self._stops = 0
        self.printed = 0
        self._waiter = Waiter(waiting, self._gate, self._tell)

    def run(self, rounds: int) -> None:
        """Be the worker for so many rounds, and print each."""
        self._gate.serve_this_thread()
        self._alarm.kick_this_thread()
        self._waiter.start()
        self._firer.begin(Threads(_waiter_thread(), threading.get_native_id()))
        for _ in range(_TRIES * rounds + _MORE_TRIES):
            self._round()
            if self.printed == rounds:
                break
        self._waiter.close()

    def _round(self) -> None:
        self._kicks.clear()
        self._firer.ask()
        returned_us = self._write(self._gate.token(self._stops))
        self._stops = self._told.get(timeout=_PATIENCE_S)
        while not self._told.empty():
            self._stops = self._told.get()
        kicks = self._firer.measured(self._kicks[0] if self._kicks else 0)
        if kicks is not None and returned_us:  # else it fired before the write had begun
            print_round(kicks, returned_us)
            self.printed += 1

    def _write(self, token: int) -> int:
        """Until it is stopped, and tell when it returned first: the kernel may be first to kick."""
        returned_us = 0
        with suppress(HeldBack), self._gate.writing(token):
            self._alarm.set_again()
            while self._gate.open_for(token):
                with suppress(InterruptedError):
                    write_interruptibly(self._full, b"x")
                returned_us = returned_us or monotonic_us()
        return returned_us

    def _kick(self, thread_id: int) -> None:
        self._kicks.append(monotonic_us())
        kick(thread_id)

    def _tell(self, _fired: Fired, stops: int) -> None:
        self._firer.quiet()
        self._told.put(stops)


def _waiter_thread() -> int:
    return next(each.native_id or 0 for each in threading.enumerate() if each.name == WAITER)


def print_round(kicks: Kicks, returned_us: int) -> None:
    """Print when each happened after the wake."""
    moments = {
        "wake_to_kick_us": kicks.first_us,
        "by_kernel_us": kicks.by_kernel_us,
        "by_thread_us": kicks.by_thread_us,
        "returned_us": returned_us,
    }
    say("kick", **{name: at - kicks.woken_us for name, at in moments.items() if at is not None})


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


def _firer_for(arguments: argparse.Namespace, waiting: TriggerSet, alarm: Alarm) -> Firer:
    if arguments.cgroup:
        return Stalls(waiting, arguments.cgroup, alarm, arguments.file)
    if arguments.pressure:
        return Pressure(waiting, arguments.pressure)
    return Urgent(waiting)


def parser() -> argparse.ArgumentParser:
    """Its command line."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=200)
    words.add_argument("--cgroups", type=int, default=0, help="parsed all the while; 0: idle")
    how = words.add_mutually_exclusive_group()
    how.add_argument("--cgroup", help="stall in this one, as the kernel calls it")
    how.add_argument("--pressure", metavar="FOLDER", help="by the guest's trigger; stall here")
    words.add_argument("--file", default="/var/cache/kick", help="with --cgroup; on a disk")
    return words


def main() -> None:
    """Run the rounds on a thread, and parse here until they are over."""
    arguments = parser().parse_args()
    refuse_huge_pages()  # as the daemon: while the kernel makes one, a page fault waits for it
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    install_kick_handler()
    alarm, waiting = Alarm(), TriggerSet()
    firer = _firer_for(arguments, waiting, alarm)
    bench = Bench(alarm, waiting, firer)
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
        sys.exit(f"{bench.printed} of {arguments.rounds} kicks were measured")


if __name__ == "__main__":
    main()
