"""What the kernel prints, for the guests that the tests of the daemon make up."""

from __future__ import annotations

from tests.fake_guest import FakeGuest

__all__ = ["events_text", "memory_events", "pressure", "shows_memcg", "shows_stall", "stat"]


def pressure(total_us: int) -> str:
    """A pressure file whose tasks have stalled so long."""
    line = f"avg10=0.00 avg60=0.00 avg300=0.00 total={total_us}"
    return f"some {line}\nfull {line}\n"


def memory_events(**counts: int) -> str:
    """memory.events with these counts, and 0 for the rest."""
    keys = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
    return "".join(f"{key} {counts.get(key, 0)}\n" for key in keys)


def events_text(*, populated: bool = True, frozen: bool = False) -> str:
    """cgroup.events."""
    return f"populated {populated:d}\nfrozen {frozen:d}\n"


def stat(**values: int) -> str:
    """memory.stat with these values, and 0 for the rest."""
    keys = ("anon", "file", "file_dirty", "file_writeback", "unevictable", "anon_thp", "file_thp")
    counters = ("pgsteal", "workingset_refault_anon", "workingset_refault_file")
    return "".join(f"{key} {values.get(key, 0)}\n" for key in (*keys, *counters))


def shows_stall(guest: FakeGuest, path: str, memory_us: int, io_us: int = 0) -> None:
    """Let a cgroup, or the guest where `path` is empty, have stalled so long."""
    if path:
        guest.has_memcg(path, memory_pressure=pressure(memory_us), io_pressure=pressure(io_us))
        return
    guest.shows("/proc/pressure/memory", pressure(memory_us))
    guest.shows("/proc/pressure/io", pressure(io_us))


def shows_memcg(guest: FakeGuest, path: str, **files: str) -> str:
    """Make a cgroup with the memory controller's files, these or quiet ones."""
    quiet = {
        "cgroup_events": events_text(),
        "memory_current": "104857600\n",
        "memory_events": memory_events(),
        "memory_high": "max\n",
        "memory_low": "0\n",
        "memory_max": "max\n",
        "memory_min": "0\n",
        "memory_stat": stat(),
        "memory_pressure": pressure(0),
        "io_pressure": pressure(0),
        "memory_swap_current": "0\n",
        "memory_swap_max": "max\n",
    }
    return guest.has_memcg(path, **(quiet | files))
