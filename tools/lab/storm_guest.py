"""A guest made of files for the storm: real pressure, and one cgroup whose eviction never ends.

The daemon runs in it as it would in a guest. Its pressure files are links to this machine's, so
that the triggers it arms are the kernel's own. The one cgroup with memory to take has a full pipe
for memory.reclaim: a write to it waits until it is broken off, as one to a busy kernel would.
"""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["AT_WORK", "StormGuest"]

AT_WORK = "/busy"
_OWN = "/memreact.slice/memreact.service"
_CGROUPS = "/sys/fs/cgroup"
_OF_THE_MACHINE = (
    "/proc/sys/kernel/osrelease",
    "/proc/self/status",
    "/proc/meminfo",
    "/proc/swaps",
    "/proc/locks",
    "/proc/pressure",
)
_MOUNT = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,memory_recursiveprot\n"
_HELD_BYTES = 1 << 30
_EVENTS = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"
_SETTINGS = """\
[memcg]
period_secs = 1
period_psi_percent_limit = 100
eviction_psi_percent_limit = 100

[pressure]
system_psi_percent_limit = 100

[reclaim]
without_mglru = "memory.reclaim"

[control]
vsock = false

[log]
level = "error"
"""


class StormGuest:
    """The files, below a folder that is the caller's to remove.

    Args:
        root: The folder; short, for the name of a socket has 107 bytes.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        for path in _OF_THE_MACHINE:
            os.symlink(path, self._made(path))
        self._shows("/proc/cmdline", "psi=1\n")
        self._shows("/proc/self/mountinfo", _MOUNT)
        self._shows("/proc/self/cgroup", f"0::{_OWN}\n")
        self._shows("/sys/devices/system/node/online", "0\n")
        self._shows(f"{_CGROUPS}/cgroup.controllers", "io memory\n")
        self._shows(f"{_CGROUPS}/memory.reclaim", "")
        for cgroup in ("", os.path.dirname(_OWN), _OWN, AT_WORK):
            self._cgroup(cgroup, _HELD_BYTES if cgroup == AT_WORK else 0)
        self._full = self._full_pipe(f"{_CGROUPS}{AT_WORK}/memory.reclaim")
        self.settings = self._shows("/etc/storm.toml", _SETTINGS)
        os.makedirs(f"{root}/run")

    def socket(self, name: str) -> str:
        """Where the daemon listens."""
        return f"{self.root}/run/memreact/{name}"

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._full)

    def _cgroup(self, path: str, held_bytes: int) -> None:
        files = {
            "cgroup.events": "populated 1\nfrozen 0\n",
            "memory.current": f"{held_bytes}\n",
            "memory.events": _EVENTS,
            "memory.stat": f"anon 0\nfile {held_bytes}\n",
            **dict.fromkeys(("memory.high", "memory.max", "memory.swap.max"), "max\n"),
            **dict.fromkeys(("memory.low", "memory.min", "memory.swap.current"), "0\n"),
        }
        for name, text in files.items():
            self._shows(f"{_CGROUPS}{path}/{name}", text)
        for resource in ("memory", "io"):
            link = self._made(f"{_CGROUPS}{path}/{resource}.pressure")
            os.symlink(f"/proc/pressure/{resource}", link)

    def _full_pipe(self, path: str) -> int:
        os.mkfifo(self._made(path))
        fd = os.open(self.root + path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(BlockingIOError):
            while True:
                os.write(fd, bytes(4096))
        return fd

    def _shows(self, path: str, text: str) -> str:
        real = self._made(path)
        with open(real, "w") as file:
            file.write(text)
        return real

    def _made(self, path: str) -> str:
        real = self.root + path
        os.makedirs(os.path.dirname(real), exist_ok=True)
        return real
