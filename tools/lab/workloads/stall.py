"""Stall on memory for real, on demand, and say when the first stalled microsecond was.

Runs in a cgroup of its own or beside others in one. SIGUSR1: memory.high of that cgroup is lowered,
and this program goes on touching new pages, so that the kernel throttles it (psi_memstall_enter in
mem_cgroup_handle_over_high, mm/memcontrol.c). The stall begins inside the touch that first made
memory.pressure's total grow. That total is read after every touch until it has grown, and the
stamp is taken before that touch: never later than the truth, and earlier by less than one touch.
"""

from __future__ import annotations

import argparse
import mmap
import os
import signal

from lab.workloads.lines import monotonic_us, say

_TOUCH_PAGES = 16


class High:
    """Writes memory.high, or another limit, from a process outside of it, which nothing throttles.

    Lowering it makes the writer reclaim; the program that stalls must not wait for that.
    """

    def __init__(self, cgroup: str, file: str = "memory.high") -> None:
        reader, self._writer = os.pipe()
        if os.fork() == 0:
            os.close(self._writer)
            self._serve(f"{cgroup}/{file}", reader)
        os.close(reader)

    def set(self, value: str) -> None:
        """Ask for a value; it is written at once, whatever it takes."""
        os.write(self._writer, f"{value}\n".encode())

    @staticmethod
    def _serve(path: str, reader: int) -> None:
        with os.fdopen(reader) as requests:
            for value in requests:
                with open(path, "w") as file:
                    file.write(value.strip())
        os._exit(0)


class Toucher:
    """Touches memory that goes round, a few pages at a time."""

    def __init__(self, mib: int) -> None:
        self._memory = mmap.mmap(-1, mib << 20)
        self._at = 0

    def touch(self) -> None:
        """Write to the next pages."""
        for _ in range(_TOUCH_PAGES):
            self._memory[self._at] = 1
            self._at = (self._at + mmap.PAGESIZE) % len(self._memory)


def main() -> None:
    """Join the cgroup, then stall for a while at every SIGUSR1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cgroup", help="folder of the cgroup to join")
    parser.add_argument("--mib", type=int, default=64, help="memory to touch, round and round")
    parser.add_argument("--high", default="8M", help="the limit while it stalls")
    parser.add_argument(
        "--file", default="memory.high", help="whose limit; memory.max never sleeps"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of each stall")
    arguments = parser.parse_args()
    high = High(arguments.cgroup, arguments.file)
    with open(f"{arguments.cgroup}/cgroup.procs", "w") as file:
        file.write("0")
    pressure = os.open(f"{arguments.cgroup}/memory.pressure", os.O_RDONLY)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    say("ready")
    while signal.sigwait({signal.SIGUSR1}):
        toucher = Toucher(arguments.mib)
        before_us = some_total_us(pressure)
        high.set(arguments.high)
        stall(toucher, pressure, arguments.seconds)
        high.set("max")
        say("over", stalled_us=some_total_us(pressure) - before_us)


def stall(toucher: Toucher, pressure: int, seconds: float) -> None:
    """Touch until the time is over, and stamp the first stall."""
    deadline_us = monotonic_us() + int(seconds * 1_000_000)
    first_us = first_stalled_us(toucher, pressure, deadline_us)
    if first_us is None:
        say("no stall")
        return
    say("stalled", first_us=first_us)
    while monotonic_us() < deadline_us:
        toucher.touch()


def first_stalled_us(toucher: Toucher, pressure: int, deadline_us: int) -> int | None:
    """Moment before the first touch that stalled; None if none did until the deadline."""
    total_us = some_total_us(pressure)
    while (stamp_us := monotonic_us()) < deadline_us:
        toucher.touch()
        if some_total_us(pressure) != total_us:
            return stamp_us
    return None


def some_total_us(pressure: int) -> int:
    """The `some` total of an open pressure file."""
    line = os.pread(pressure, 128, 0).split(b"\n", 1)[0]
    return int(line.rpartition(b"=")[2])


if __name__ == "__main__":
    main()
