"""The guest's part of a chaos run: its faults at their times, and a look at the daemon each second.

Prints a line when a fault is over, `sample` lines of the daemon, and `over` at the end. What the
kernel traced of writes to lru_gen and memory.reclaim is in its buffer then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from lab.workloads import chaos_calls, chaos_faults
from lab.workloads.ftrace import Tracing, probe
from lab.workloads.lines import monotonic_us, say

__all__ = ["PROBES", "look"]

PROBES = {
    "lru_gen_in": "p:memreact/lru_gen_in lru_gen_seq_write",
    "lru_gen_out": "r:memreact/lru_gen_out lru_gen_seq_write",
    "reclaim_in": "p:memreact/reclaim_in memory_reclaim",
    "reclaim_out": "r:memreact/reclaim_out memory_reclaim",
}
_SAMPLE_S = 1.0
_SETTLE_S = 20.0
_PATIENCE_S = 120.0

Make = Callable[[float, int], dict[str, int]]


def main() -> None:
    """Do all faults of a plan, and look on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", help="[at_s, kind, seconds, share] of each fault, as JSON")
    with open(parser.parse_args().plan) as file:
        faults = json.load(file)
    probe(PROBES.values())
    tracing = Tracing({f"memreact/{name}": "" for name in PROBES})
    makes = _makes(chaos_calls.in_force())
    over = threading.Event()
    looking = threading.Thread(target=_look_on, args=(over,), name="look", daemon=True)
    looking.start()
    say("ready")
    _make_all(faults, makes)
    time.sleep(_SETTLE_S)
    say("end", served=int(chaos_calls.served()), pid=chaos_faults.daemon())
    say("protected", **_taken(f"{chaos_faults.GROUP}/protected/memory.stat"))
    over.set()
    looking.join()
    tracing.pause()
    say("over")


def _makes(base: dict[str, Any]) -> dict[str, Make]:
    return {
        "churn": chaos_faults.churn,
        "hog": chaos_faults.hog,
        "oom": chaos_faults.oom,
        "freeze": chaos_faults.freeze,
        "storm": lambda seconds, share: chaos_calls.storm(seconds, share, base),
        "leave": chaos_calls.leave,
        "flood": chaos_calls.flood,
        "hold": chaos_calls.hold,
        "stop": chaos_faults.stop,
        "kill": chaos_faults.kill,
        "halt": chaos_faults.halt,
        "clock": chaos_faults.clock,
        "unread": chaos_faults.unread,
        "unswap": chaos_faults.unswap,
    }


def _make_all(faults: list[tuple[float, str, float, int]], makes: dict[str, Make]) -> None:
    """Begin each fault at its time, and wait for the ends of all.

    Two of one kind follow each other: they would undo one another's work.
    """
    locks = {kind: threading.Lock() for kind in makes}
    # Whoever ends the daemon waits for it to be back, and must not meet another one who ends it.
    locks["stop"] = locks["halt"] = locks["kill"]
    began = time.monotonic()
    threads = []
    for at_s, kind, seconds, share in faults:
        time.sleep(max(0.0, began + at_s - time.monotonic()))
        words = (locks[kind], kind, makes[kind], seconds, share)
        threads.append(threading.Thread(target=_make, args=words, name=kind, daemon=True))
        threads[-1].start()
    deadline = time.monotonic() + _PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            say("stuck", **{thread.name: 1})


def _make(lock: threading.Lock, kind: str, make: Make, seconds: float, share: int) -> None:
    with lock:
        began_us = monotonic_us()
        try:
            told = make(seconds, share)
        except Exception as error:  # noqa: BLE001  # the run goes on, and tells of it
            told = {f"{type(error).__name__}: {error}": 1}
            kind = f"failed {kind}"
        say(kind, began_us=began_us, **told)


def _look_on(over: threading.Event) -> None:
    while not over.wait(_SAMPLE_S):
        say("sample", **look())


def look() -> dict[str, int]:
    """The daemon's process and what it holds, and processes of its unit that lost their parent."""
    there = chaos_faults.processes()
    pid = next((each for each, parent in there.items() if parent == 1), 0)
    told = {"pid": pid, "orphans": _orphans(there)}
    with contextlib.suppress(OSError):
        told["fds"] = len(os.listdir(f"/proc/{pid}/fd"))
        with open(f"/proc/{pid}/status") as file:  # one that ends has no memory any more
            held = [int(row.split()[1]) for row in file if row[:7] == "RssAnon"]
        told |= {"anon_kib": held[0]} if held else {}
    return told


def _orphans(there: dict[int, int]) -> int:
    """A second process whose parent is systemd, or any one whose parent is none of the unit."""
    mains = sum(parent == 1 for parent in there.values())
    strangers = sum(parent != 1 and parent not in there for parent in there.values())
    return max(0, mains - 1) + strangers


def _taken(path: str) -> dict[str, int]:
    with open(path) as file:
        rows = dict(map(str.split, file))
    return {key: int(rows.get(key, 0)) for key in ("pgsteal", "pswpout")}


if __name__ == "__main__":
    main()
