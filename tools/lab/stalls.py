"""What a guest's own stall looks like while it does ordinary things, without memreact.

The default of `[pressure] system_psi_percent_limit` stands on this: above what a guest that is
always a little busy shows, below what one shows that has to wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.guest import Guest
from lab.kernels import DEFAULT_KERNEL
from lab.machine import MachineOptions
from lab.workload import Cgroup, Workload

__all__ = ["DOINGS", "row", "stalls"]

_SECONDS = 40.0
_LIMITS = (1.0, 5.0, 10.0, 20.0)
_FORGET = "sync; echo 3 > /proc/sys/vm/drop_caches"

DOINGS = {
    "nothing": "sleep 60",
    "a log line synced five times a second": (
        "while :; do date >> /var/tmp/log; sync /var/tmp/log; sleep 0.2; done"
    ),
    "redis asked steadily, saving now and then": (
        "redis-server --daemonize no --port 7999 --dir /var/tmp --save 5 1 & sleep 2; "
        "while :; do redis-cli -p 7999 incr x; sleep 0.02; done"
    ),
    "programs started, from warm cache": "while :; do python3 -c 'import email' ; sleep 0.5; done",
    "files packed": "while :; do tar c /usr/share/doc /usr/lib/python3 | gzip -1; done",
    "files read, from cold cache": f"while :; do {_FORGET}; cat $(find /usr/lib -type f); done",
    "a hog over its memory.high": (
        "echo 40M > /sys/fs/cgroup/stalls.slice/doing/memory.high; "
        "python3 -c 'x = bytearray(80 << 20)\nwhile True: x[::4096] = bytes(len(x) // 4096)'"
    ),
}
"""What the guest does, as a line for its shell."""


def stalls() -> int:
    """Do each thing for a while and print a table; 0."""
    print("percent of a one-second window stalled; share of the windows over a limit", flush=True)
    print(f"{'':44}{'p50':>6}{'p90':>6}{'p99':>6}" + "".join(f"{f'> {x:g}':>8}" for x in _LIMITS))
    with Guest.restore(MachineOptions(kernel=DEFAULT_KERNEL, memory_mib=1024)) as guest:
        for name, line in DOINGS.items():
            print(f"{name:44}{row(_percents(guest, line))}", flush=True)
    return 0


def row(percents: Sequence[float]) -> str:
    """Quantiles of the windows, and the share of them over each limit."""
    ordered = sorted(percents)
    quantiles = (ordered[min(int(len(ordered) * q), len(ordered) - 1)] for q in (0.5, 0.9, 0.99))
    shares = (100 * sum(x > limit for x in ordered) / len(ordered) for limit in _LIMITS)
    return "".join(f"{x:6.1f}" for x in quantiles) + "".join(f"{x:6.0f} %" for x in shares)


def _percents(guest: Guest, line: str) -> list[float]:
    doing = Cgroup(guest, "/stalls.slice/doing")
    eye = Cgroup(guest, "/stalls.slice/eye")
    running = guest.start(f"echo $$ > {doing.folder}/cgroup.procs; exec >/dev/null 2>&1; {line}")
    watch = Workload(eye, "guest_stall", str(_SECONDS))
    watch.running.wait(_SECONDS + 60)
    running.kill("KILL")
    doing.remove()
    return [float(seen.figures["percent"]) for seen in watch.lines() if seen.what == "window"]
