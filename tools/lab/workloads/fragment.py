"""Leave free memory in pieces, as a host of many small services does after a rush.

Workers take anonymous memory page by page, write small files and fill pipes, side by side, and give
some of it back while they go on. When the rush is over each gives back most of its pages and half
of its files, at random: what stays lies between holes, and the pages of pipes, page tables, inodes
and dentries among it do not move. Then they serve: at each tick a worker touches the pages that it
uses, reads the files that it uses, takes and gives back a little more. The rest of its files and
pages nobody touches again.

Each worker's choices are those of its number: two runs differ only by who was faster.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import random
import time
from functools import partial

from lab.workloads.child import Child
from lab.workloads.lines import monotonic_us, say

_STEP_PAGES = 16
_FILE_PAGES = 20
_PIPE_EVERY = 4
_GIVEN_BACK_SOON = 0.2
_KEPT_PAGES, _KEPT_FILES = 0.35, 0.5
_IN_USE = 4  # one of so many kept pages
_FILES_IN_USE = 40
_FILES_READ = 5
_CHURN_PAGES = 64
_TICK_S = 1.0
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Worker:
    """One service: what it holds, and what it does when it is told.

    Args:
        number: Which: the seed of all its choices.
        folder: For its files.
        steps: Of the rush.
        ticks: It serves for so many.
    """

    def __init__(self, number: int, folder: str, steps: int, ticks: int) -> None:
        self._random = random.Random(number)  # noqa: S311  # the same in each run
        self._folder = f"{folder}/{number}"
        self._steps, self._ticks = steps, ticks
        os.makedirs(self._folder, exist_ok=True)
        pages = steps * _STEP_PAGES + _CHURN_PAGES
        self._memory = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=_PRIVATE)
        self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        self._pages: list[int] = []
        self._files: list[str] = []
        self._pipes: list[tuple[int, int]] = []
        self._made = itertools.count()
        self._block = self._random.randbytes(_FILE_PAGES * mmap.PAGESIZE)

    def __call__(self, word: str) -> int:
        """Do "rush" or "serve"; answers with the microseconds that it worked."""
        return self._rush() if word == "rush" else self._serve()

    def _rush(self) -> int:
        began = monotonic_us()
        for step in range(self._steps):
            self._take(step * _STEP_PAGES, _STEP_PAGES)
            self._write()
            if not step % _PIPE_EVERY:
                self._fill_a_pipe()
            if self._random.random() < _GIVEN_BACK_SOON:
                self._give_back(self._pages.pop(self._random.randrange(len(self._pages))))
                os.unlink(self._files.pop(self._random.randrange(len(self._files))))
        self._ebb()
        return monotonic_us() - began

    def _ebb(self) -> None:
        """Give back most of what the rush took."""
        os.sync()
        pages, files = self._pages, self._files
        self._pages = [page for page in pages if self._random.random() < _KEPT_PAGES]
        self._files = [path for path in files if self._random.random() < _KEPT_FILES]
        for page in sorted({*pages} - {*self._pages}):
            self._give_back(page)
        for path in sorted({*files} - {*self._files}):
            os.unlink(path)

    def _take(self, first: int, pages: int) -> None:
        for page in range(first, first + pages):
            self._memory[page * mmap.PAGESIZE] = 1
            self._pages.append(page)

    def _give_back(self, page: int) -> None:
        self._memory.madvise(mmap.MADV_DONTNEED, page * mmap.PAGESIZE, mmap.PAGESIZE)

    def _write(self) -> None:
        path = f"{self._folder}/{next(self._made)}"
        size = self._random.randrange(1, _FILE_PAGES + 1) * mmap.PAGESIZE
        with open(path, "wb", buffering=0) as file:
            file.write(self._block[:size])
        self._files.append(path)

    def _fill_a_pipe(self) -> None:
        """A page of the kernel's own, which does not move."""
        ends = os.pipe()
        os.write(ends[1], self._block[: mmap.PAGESIZE])
        self._pipes.append(ends)

    def _serve(self) -> int:
        worked, due = 0, time.monotonic()
        for _ in range(self._ticks):
            began = monotonic_us()
            self._tick()
            worked += monotonic_us() - began
            due += _TICK_S
            time.sleep(max(0.0, due - time.monotonic()))
        return worked

    def _tick(self) -> None:
        for page in self._pages[::_IN_USE]:
            self._memory[page * mmap.PAGESIZE] = 2
        for path in self._random.sample(self._files[:_FILES_IN_USE], _FILES_READ):
            with open(path, "rb", buffering=0) as file:
                file.read()
        first = self._steps * _STEP_PAGES
        for page in range(first, first + _CHURN_PAGES):
            self._memory[page * mmap.PAGESIZE] = 3
        self._write()
        os.unlink(self._files.pop())
        for page in range(first, first + _CHURN_PAGES):
            self._give_back(page)


def main() -> None:
    """Make the workers, let them rush, serve, and stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cgroup", help="folder of the cgroup that they live in")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--ticks", type=int, default=85)
    parser.add_argument("--folder", default="/var/cache/fragment")
    arguments = parser.parse_args()
    workers = [
        Child(arguments.cgroup, partial(_worker, number, arguments))
        for number in range(arguments.workers)
    ]
    say("ready")
    rushed_us = _all(workers, "rush")
    say("rushed", work_us=rushed_us)
    served_us = _all(workers, "serve")
    say("over", rush_us=rushed_us, serve_us=served_us)
    time.sleep(86400)


def _worker(number: int, arguments: argparse.Namespace) -> Worker:
    return Worker(number, arguments.folder, arguments.steps, arguments.ticks)


def _all(workers: list[Child], word: str) -> int:
    """Let all do it side by side; the sum of what they worked."""
    for worker in workers:
        worker.tell(word)
    return sum(worker.answer() for worker in workers)


if __name__ == "__main__":
    main()
