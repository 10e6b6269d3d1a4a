"""Find out, in one cgroup, in what this kernel differs from others: DIRECTORY PATH.

The cgroup is empty. Prints one JSON object, a word for each trait.
"""

from __future__ import annotations

import os
import sys

import msgspec

from kernelio import boot, cgroup, memcg, mglru, psi
from kernelio.errors import KernelioError, Refused
from kernelio.layout import Layout
from memreact.capabilities import anon_alone

_WINDOWS_MS = (10, 100, 500, 1000)


def main(directory: str, path: str) -> None:
    """Print what was found."""
    layout = Layout()
    mine = next(each for each in mglru.read_lru_gen(layout.lru_gen) if each.path == path)
    traits = {
        "evicts anonymous pages alone": anon_alone(boot.read_release(layout).text),
        "its eviction takes the word max": _yes(_takes_max(layout, mine)),
        "memory.reclaim takes swappiness=": _yes(_reclaim_takes(directory)),
        "shortest PSI window": f"{_shortest_window_ms(layout)} ms",
        "a cgroup's number in lru_gen": _number(mine.memcg_id, cgroup.inode(directory)),
        "nodes can be reclaimed from": _yes(
            os.path.exists(layout.sys("devices/system/node/node0/reclaim"))
        ),
        "DAMON": _yes(os.path.isdir("/sys/kernel/mm/damon")),
    }
    sys.stdout.write(msgspec.json.encode(traits).decode())


def _yes(found: bool) -> str:  # noqa: FBT001  # our own
    return "yes" if found else "no"


def _takes_max(layout: Layout, mine: mglru.MemcgGenerations) -> bool:
    lru_gen = mglru.LruGen.open(layout.lru_gen)
    node = mine.nodes[0]
    try:
        # Nothing is in it, so nothing goes; the words are looked at all the same.
        lru_gen.evict(mine.memcg_id, node.node, 0, swappiness="max", pages=1)
    except Refused:
        return False
    finally:
        lru_gen.close()
    return True


def _reclaim_takes(directory: str) -> bool:
    try:
        memcg.reclaim(directory, bytes_=0, swappiness=0)
    except Refused:
        return False
    return True


def _shortest_window_ms(layout: Layout) -> int:
    path = layout.proc("pressure/memory")
    for window_ms in _WINDOWS_MS:
        try:
            fd = psi.arm_trigger(path, "some", stall_us=window_ms * 500, window_us=window_ms * 1000)
        except KernelioError:
            continue
        os.close(fd)
        return window_ms
    return 0


def _number(memcg_id: int, inode: int) -> str:
    return "its inode" if memcg_id == inode else "16 bits"


main(sys.argv[1], sys.argv[2])
