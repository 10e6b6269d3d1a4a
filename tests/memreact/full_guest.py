"""A Debian 13 guest made of files, in which there is something to do."""

from __future__ import annotations

import os
import sys

from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.kernel_files import pressure, shows_memcg, shows_stall, stat

__all__ = ["ENABLED", "LRU_GEN", "OWN", "full_guest", "reporting_guest"]

LRU_GEN = "/sys/kernel/debug/lru_gen"
ENABLED = "/sys/kernel/mm/lru_gen/enabled"
OWN = "/memreact.slice/memreact.service"
_HEAD, _INSIDE, _TAKEN = 1 << 10 | 1 << 3, 1 << 10, 0
_CGROUP2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,memory_recursiveprot\n"
_ROOT = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n"
_COLD = """\
 node     0
          7  9000000      20000      50000
          8  8000000          0       1000
          9  7000000        100        100
         10      100        100        100
"""


def full_guest(guest: FakeGuest, *, mglru: str = "0x0007\n") -> FakeGuest:
    """Let the guest be able to do everything, and have 270 MiB of cold memory in /shop."""
    guest.shows("/proc/sys/kernel/osrelease", "6.12.0-1-amd64\n")
    guest.shows("/proc/cmdline", "root=/dev/vda rw psi=1\n")
    guest.shows("/proc/self/status", _ROOT)
    guest.shows("/proc/self/mountinfo", _CGROUP2)
    guest.shows("/proc/self/cgroup", f"0::{OWN}\n")
    guest.shows("/proc/meminfo", golden_text("6.12/proc/meminfo"))
    guest.shows("/proc/swaps", golden_text("6.12/proc/swaps"))
    guest.shows("/proc/locks", "")
    guest.shows("/sys/devices/system/node/online", "0\n")
    guest.shows(ENABLED, mglru)
    guest.shows("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n")
    guest.shows("/sys/fs/cgroup/memory.reclaim", "")
    guest.shows("/sys/fs/cgroup/memory.pressure", pressure(0))
    guest.shows("/sys/fs/cgroup/memory.stat", stat())
    shows_stall(guest, "", 0)
    shows_memcg(guest, OWN)
    shows_memcg(guest, "/shop", memory_stat=stat(anon=80 << 20, file=200 << 20))
    os.makedirs(guest.path("/run"), exist_ok=True)
    guest.shows(LRU_GEN, f"memcg     1 /\n node     0\nmemcg     5 /shop\n{_COLD}")
    return guest


def reporting_guest(guest: FakeGuest, *, alone: int = 0) -> FakeGuest:
    """A full guest of 64 page frames that reports: 16 are free and reported, some lie alone."""
    full_guest(guest)
    flags = [_TAKEN] * 16 + [_HEAD] + [_INSIDE] * 15 + [_TAKEN] * 32
    guest.shows("/proc/kpageflags", b"".join(word.to_bytes(8, sys.byteorder) for word in flags))
    free = f"      {alone}      0      0      0      1 \n"
    guest.shows("/proc/buddyinfo", f"Node 0, zone   Normal{free}")
    guest.shows(
        "/proc/zoneinfo",
        "Node 0, zone   Normal\n  pages free     1000\n        min      0\n"
        "        low      9\n        high     0\n        spanned  64\n"
        "        managed  64\n  start_pfn:           0\n",
    )
    guest.shows("/proc/vmstat", golden_text("6.12/proc/vmstat"))
    guest.shows("/sys/module/page_reporting/parameters/page_reporting_order", "2\n")
    guest.shows("/sys/bus/virtio/devices/virtio3/device", "0x0005\n")
    guest.shows("/sys/bus/virtio/devices/virtio3/features", "000001" + "0" * 58 + "\n")
    os.symlink("../x/virtio_balloon", guest.path("/sys/bus/virtio/devices/virtio3/driver"))
    return guest
