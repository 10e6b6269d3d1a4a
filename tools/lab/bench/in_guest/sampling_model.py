"""A MODEL of a sampling memory agent, for comparison only: no part of memreact runs it.

It does what Kata's mem-agent is described to do, and as it does it: a pass every period over all
cgroups, eviction by writes of one page's batch with the whole of lru_gen read again before each
pass, a look at PSI between two passes, compaction by a threshold. It differs from the real one in
three ways: it is Python, so that only its time in the kernel compares; it has no floor of 60 s for
the age of a generation, so that short periods can be measured; and all cgroups have one setting.

SIGUSR1 disables it, which, as with the real one, a running eviction does not notice; SIGUSR2 is
the opposite.

Runs by itself as `python3 -I`; prints a line of JSON for each pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_LRU_GEN = "/sys/kernel/debug/lru_gen"
_CGROUPS = "/sys/fs/cgroup"
_GENERATIONS = 4
_ALL_OF_SWAPPINESS = 200
_NO_LIMIT = 1 << 63
_ORDER, _THRESHOLD = 9, 1024
_COMPACT_SECS = 300
_COMPACT_PERCENT = 5
_PAGE_KB = 4
_BAD_GUEST_S = 300.0


@dataclass
class Generation:
    """A line of lru_gen."""

    seq: int
    anon: int
    file: int


@dataclass
class Node:
    """The generations of one cgroup on one node, and what is remembered of it."""

    generations: list[Generation]

    @property
    def oldest(self) -> Generation:
        """The one to evict."""
        return min(self.generations, key=lambda each: each.seq)

    @property
    def max_seq(self) -> int:
        """The youngest."""
        return max(each.seq for each in self.generations)

    @property
    def complete(self) -> bool:
        """Whether there are exactly four."""
        return self.max_seq - self.oldest.seq + 1 == _GENERATIONS


@dataclass
class Known:
    """What is kept of one cgroup from pass to pass."""

    memcg_id: int
    inode: int
    meter: Meter
    agings: dict[int, int] = field(default_factory=dict)


Key = tuple[str, int]


def parse(lines: Iterable[str]) -> Iterator[tuple[int, str, dict[int, Node]]]:
    """Ids, paths and nodes of lru_gen; a head of more than three words is passed over."""
    head: tuple[int, str] | None = None
    nodes: dict[int, Node] = {}
    node: Node | None = None
    for words in map(str.split, lines):
        if words[:1] == ["memcg"]:
            if head:
                yield (*head, _with_generations(nodes))
            head = (int(words[1]), words[2]) if len(words) == 3 else None  # noqa: PLR2004
            nodes, node = {}, None
        elif len(words) == 2 and words[0] == "node":  # noqa: PLR2004
            node = nodes[int(words[1])] = Node([])
        elif len(words) == 4 and node is not None:  # noqa: PLR2004
            seq, _, anon, file = words
            node.generations.append(Generation(int(seq), _count(anon), _count(file)))
    if head:
        yield (*head, _with_generations(nodes))


def _count(word: str) -> int:
    return 0 if word.startswith("-") else int(word)


def _with_generations(nodes: dict[int, Node]) -> dict[int, Node]:
    return {number: node for number, node in nodes.items() if node.generations}


class Meter:
    """Percent of the time stalled since the last look, in whole numbers and with its quirks."""

    def __init__(self) -> None:
        self._total_us, self._at_us = 0, 0

    def percent(self, total_us: int, now_us: int) -> int:
        """Look: 0 if it was 0 before, did not grow, or less than a millisecond has passed."""
        before_us, since_us = self._total_us, self._at_us
        self._total_us, self._at_us = total_us, now_us
        elapsed_ms = (now_us - since_us) // 1000
        if before_us == 0 or total_us <= before_us or elapsed_ms < 1:
            return 0
        return 100 * (total_us - before_us) // (elapsed_ms * 1000)


def swappiness(anon: int, file: int, most: int) -> int:
    """The share of anonymous memory in the oldest generation, of 200, rounded half up."""
    if anon == 0:
        return 0
    return min((2 * _ALL_OF_SWAPPINESS * anon + anon + file) // (2 * (anon + file)), most)


def free_small(pagetypeinfo: str, order: int) -> int:
    """Movable free pages in blocks below an order."""
    total = 0
    for line in pagetypeinfo.splitlines():
        match = re.search(r"\bMovable\b(.*)", line)
        if match and "type" in line:
            counts = [_free(word) for word in match[1].split()]
            total += sum(count << at for at, count in enumerate(counts[:order]))
    return total


def _free(word: str) -> int:
    return int(word) if word.isdigit() else 0  # >100000 counts as 0


def own_stall_us(folder: str) -> int:
    """Memory and io stall of a cgroup without its direct children's."""
    total_us = 0
    children = [each.path for each in os.scandir(folder) if each.is_dir(follow_symlinks=False)]
    for name in ("memory.pressure", "io.pressure"):
        below_us = sum(_some_us(f"{child}/{name}") for child in children)
        total_us += max(0, _some_us(f"{folder}/{name}") - below_us)
    return total_us


def _some_us(path: str) -> int:
    with open(path) as file:
        return int(file.readline().rpartition("=")[2])


def _kb(path: str, name: str) -> int:
    with open(path) as file:
        return next(int(words[1]) for words in map(str.split, file) if words[0] == f"{name}:")


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _folder(path: str) -> str:
    return _CGROUPS + path.rstrip("/")


class Model:
    """The agent.

    Args:
        arguments: Of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._swap: bool = arguments.swap
        self._swappiness_max: int = arguments.swappiness_max
        self._limit: int = arguments.limit
        self._period_limit: int = arguments.period_limit
        self._agings_min: int = arguments.agings
        self._known: dict[str, Known] = {}
        self._lru_gen = os.open(_LRU_GEN, os.O_RDWR)
        self._guest = Meter()
        self._free_small = self._free_kb = 0
        self.disabled = False

    def read(self) -> dict[str, tuple[int, dict[int, Node]]]:
        """All of lru_gen: ids and nodes by path."""
        os.lseek(self._lru_gen, 0, os.SEEK_SET)
        text = b""
        while block := os.read(self._lru_gen, 1 << 16):
            text += block
        return {path: (number, nodes) for number, path, nodes in parse(text.decode().splitlines())}

    def run(self) -> dict[str, int]:
        """One pass over all: how many pages went, and why evictions ended."""
        seen = self.read()
        self._refresh(seen)
        ripe = [key for key, limit_ok in self._quiet(seen) if limit_ok and self._age(key, seen)]
        return self._evict(ripe)

    def _refresh(self, seen: dict[str, tuple[int, dict[int, Node]]]) -> None:
        known = {}
        for path, (number, _) in seen.items():
            try:
                inode = os.stat(_folder(path)).st_ino
            except OSError:
                continue
            old = self._known.get(path)
            same = old is not None and (old.memcg_id, old.inode) == (number, inode)
            known[path] = old if same and old else Known(number, inode, Meter())
        self._known = known

    def _quiet(self, seen: dict[str, tuple[int, dict[int, Node]]]) -> Iterator[tuple[Key, bool]]:
        for path, known in self._known.items():
            try:
                percent = known.meter.percent(own_stall_us(_folder(path)), _now_us())
            except OSError:
                continue
            for node in seen[path][1]:
                yield (path, node), percent <= self._period_limit

    def _age(self, key: Key, seen: dict[str, tuple[int, dict[int, Node]]]) -> bool:
        """Make a new generation; whether there were enough of them to evict."""
        path, node = key
        known, nodes = self._known[path], seen[path][1]
        command = f"+ {known.memcg_id} {node} {nodes[node].max_seq} {int(self._swap)} 1"
        if not self._write(command):
            return False
        known.agings[node] = known.agings.get(node, 0) + 1
        return known.agings[node] >= self._agings_min

    def _write(self, command: str) -> bool:
        try:
            os.write(self._lru_gen, command.encode())
        except OSError:
            return False
        return True

    def _swap_is_usable(self) -> bool:
        return self._swap and _kb("/proc/meminfo", "SwapFree") > 256 * _PAGE_KB

    def _evict(self, keys: list[Key]) -> dict[str, int]:
        """Passes over all that is left, each of which reads everything again."""
        told = {"pages": 0, "passes": 0}
        evicting = {key: Evicting() for key in keys}
        while evicting:
            seen = self.read()
            told["passes"] += 1
            for key in list(evicting):
                node = seen.get(key[0], (0, {}))[1].get(key[1])
                why = "error" if node is None else self._evict_once(key, node, evicting[key], told)
                if why:
                    told[why] = told.get(why, 0) + 1
                    del evicting[key]
        return told

    def _evict_once(self, key: Key, node: Node, now: Evicting, told: dict[str, int]) -> str:
        """One write, or why there is none any more."""
        oldest, usable = node.oldest, self._swap_is_usable()
        why = now.first(node, usable=usable) if now.last is None else now.later(node)
        if not why and now.last is not None:
            told["pages"] += max(0, now.last.file - oldest.file)
            told["pages"] += max(0, now.last.anon - oldest.anon)
            why = self._stalled(key, now)
        if why:
            return why
        if now.only_swap and not usable:
            return "no_min_lru_file"
        bias = _ALL_OF_SWAPPINESS if now.only_swap else 0
        if usable and not now.only_swap:
            bias = swappiness(oldest.anon, oldest.file, self._swappiness_max)
        now.last = oldest
        known = self._known[key[0]]
        return "" if self._write(f"- {known.memcg_id} {key[1]} {oldest.seq} {bias} 1") else "error"

    def _stalled(self, key: Key, now: Evicting) -> str:
        try:
            percent = now.meter.percent(own_stall_us(_folder(key[0])), _now_us())
        except OSError:
            return "error"
        return "psi_exceeds_limit" if percent > self._limit else ""

    def compact(self) -> int:
        """Compact if the threshold says so; returns whether it did."""
        percent = self._guest.percent(own_stall_us_of_all(), _now_us())
        small, free_kb = self._free_figures()
        fell = self._free_kb > free_kb + _PAGE_KB * _THRESHOLD
        if percent > self._period_limit or not (fell or small > _THRESHOLD + self._free_small):
            return 0
        self._supervise()
        self._free_small, self._free_kb = self._free_figures()
        return 1

    def _free_figures(self) -> tuple[int, int]:
        with open("/proc/pagetypeinfo") as file:
            return free_small(file.read(), _ORDER), _kb("/proc/meminfo", "MemFree")

    def _supervise(self) -> None:
        child = subprocess.Popen(["/bin/sh", "-c", "echo 1 > /proc/sys/vm/compact_memory"])
        meter = Meter()
        for _ in range(_COMPACT_SECS):
            if child.poll() is not None:
                return
            if meter.percent(own_stall_us_of_all(), _now_us()) > _COMPACT_PERCENT:
                break
            time.sleep(1)
        child.kill()
        child.wait()


@dataclass
class Evicting:
    """One cgroup on one node while it is evicted."""

    last: Generation | None = None
    only_swap: bool = False
    meter: Meter = field(default_factory=Meter)

    def first(self, node: Node, *, usable: bool) -> str:
        """Why it ends before the first write."""
        if not node.complete:
            return "other_error"
        oldest = node.oldest
        self.only_swap = oldest.file == 0 and oldest.anon > 0 and usable
        return "" if oldest.file or self.only_swap else "no_min_lru_file"

    def later(self, node: Node) -> str:
        """Why it ends after the first write."""
        if not node.complete:
            return "other_error"  # also the normal end: the generation is empty and gone
        oldest, last = node.oldest, self.last
        if last is not None and oldest.file >= last.file and oldest.anon >= last.anon:
            return "min_lru_inc"
        return "no_min_lru_file" if not self.only_swap and oldest.file == 0 else ""


def own_stall_us_of_all() -> int:
    """The guest's stall on memory and on io together."""
    return sum(_some_us(f"/proc/pressure/{name}") for name in ("memory", "io"))


def main() -> None:
    """Run passes until ended: the sleep begins when the work has ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--period", type=float, default=600.0)
    parser.add_argument("--agings", type=int, default=3)
    parser.add_argument("--swap", action="store_true")
    parser.add_argument("--compact", action="store_true")
    parser.add_argument("--swappiness-max", type=int, default=50)
    parser.add_argument("--period-limit", type=int, default=1, help="percent of PSI in a period")
    parser.add_argument("--limit", type=int, default=1, help="percent of PSI between two passes")
    arguments = parser.parse_args()
    model = Model(arguments)

    def set_disabled(number: int, _frame: object) -> None:
        model.disabled = number == signal.SIGUSR1

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, set_disabled)
    while True:
        pause_s = arguments.period
        if not model.disabled:
            began = time.monotonic()
            try:
                told = model.run()
                told["compacted"] = model.compact() if arguments.compact else 0
            except OSError as error:
                told, pause_s = {"failed": error.errno or 0}, _BAD_GUEST_S
            took_us = int((time.monotonic() - began) * 1e6)
            print(json.dumps({"at_us": _now_us(), "took_us": took_us, **told}), flush=True)
        time.sleep(pause_s)


if __name__ == "__main__":
    main()
