"""Signal a workload the moment memreact's trace shows an eviction of a cgroup: SIGUSR1.

It waits in the guest, because an eviction is over before the host could hear of it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time

from lab.workloads.lines import say

_LOOK_EVERY_S = 0.005


def main() -> None:
    """Follow the trace from its present end until the eviction, signal, and wait to be ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", help="the file that memreact run --trace appends to")
    parser.add_argument("cgroup", help="path of the cgroup, as the kernel says it")
    parser.add_argument("pid", type=int, help="the workload's")
    parser.add_argument("--pages", type=int, default=0, help="of evictions smaller than this: none")
    arguments = parser.parse_args()
    with open(arguments.trace, "rb") as trace:
        trace.seek(0, os.SEEK_END)
        say("ready")
        while not _evicts(trace.readline(), arguments.cgroup, arguments.pages):
            if os.fstat(trace.fileno()).st_size == trace.tell():
                time.sleep(_LOOK_EVERY_S)
    say("signals")
    os.kill(arguments.pid, signal.SIGUSR1)
    say("signalled")
    signal.pause()


def _evicts(line: bytes, cgroup: str, pages: int) -> bool:
    """Whether this line of the trace begins an eviction of that cgroup."""
    if not line.endswith(b"\n") or b'"Evict"' not in line:
        return False
    return any(
        action["type"] == "Evict" and action["path"] == cgroup and action["pages"] >= pages
        for action in json.loads(line)["actions"]
    )


if __name__ == "__main__":
    main()
