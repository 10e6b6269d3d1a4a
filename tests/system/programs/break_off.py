"""Evict a whole cgroup's cold files in one write, and break that write off: CGROUP PATH [never].

The main thread waits until memory has begun to go, then kicks until the worker has returned; with
the third word it kicks never, and the write goes to its end.
"""

from __future__ import annotations

import sys
import threading
import time

import msgspec

from kernelio import memcg
from kernelio.errors import Interrupted
from kernelio.interruptible import install_kick_handler, kick
from kernelio.layout import Layout
from kernelio.mglru import LruGen, MemcgGenerations, read_lru_gen

_BEGUN_BYTES = 8 << 20
_ALL_PAGES = 1 << 30
_KICK_EVERY_S = 0.001
_AGINGS = 3


class Eviction(threading.Thread):
    """One write that would evict all of the oldest generations."""

    def __init__(self, lru_gen: LruGen, wanted: MemcgGenerations) -> None:
        super().__init__()
        self._lru_gen = lru_gen
        self._wanted = wanted
        self.interrupted = False
        self.returned_us = 0

    def run(self) -> None:
        """Evict."""
        node = self._wanted.nodes[0]
        try:
            self._lru_gen.evict(
                self._wanted.memcg_id, node.node, node.max_seq - 2, swappiness=0, pages=_ALL_PAGES
            )
        except Interrupted:
            self.interrupted = True
        self.returned_us = time.monotonic_ns() // 1000


def main(directory: str, path: str, *, kicking: bool) -> None:
    """Age until all is old, evict, break off, and print how far it got."""
    install_kick_handler()
    layout = Layout()
    lru_gen = LruGen.open(layout.lru_gen)
    for _ in range(_AGINGS):
        found = find(layout, path)
        lru_gen.age(found.memcg_id, 0, found.nodes[0].max_seq, can_swap=False)
    before = memcg.read_memory_stat(directory).file_bytes
    eviction = Eviction(lru_gen, find(layout, path))
    eviction.start()
    if kicking:
        wait_until_below(directory, before - _BEGUN_BYTES, eviction)
    kicked_us, kicks = time.monotonic_ns() // 1000, 0
    while eviction.is_alive() and kicking:
        kick(eviction.ident or 0)
        kicks += 1
        eviction.join(_KICK_EVERY_S)
    eviction.join()
    answer = {
        "interrupted": eviction.interrupted,
        "kicks": kicks,
        "kick_to_return_us": eviction.returned_us - kicked_us,
        "before_bytes": before,
        "after_bytes": memcg.read_memory_stat(directory).file_bytes,
    }
    sys.stdout.write(msgspec.json.encode(answer).decode())


def wait_until_below(directory: str, file_bytes: int, eviction: Eviction) -> None:
    """Wait until the cgroup has fewer bytes of files, or the eviction is over."""
    while memcg.read_memory_stat(directory).file_bytes > file_bytes and eviction.is_alive():
        pass


def find(layout: Layout, path: str) -> MemcgGenerations:
    """The living memcg of this path: dead ones that have swap keep their id, and come first."""
    return [m for m in read_lru_gen(layout.lru_gen) if m.path == path][-1]


main(sys.argv[1], sys.argv[2], kicking=sys.argv[3:] != ["never"])
