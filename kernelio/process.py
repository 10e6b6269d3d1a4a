"""What a process costs (memory, CPU, wake-ups) and what it may do; and locking our own memory."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from contextlib import suppress
from typing import NamedTuple

from kernelio.errors import MalformedReading, Unsupported, Vanished
from kernelio.files import read_bytes
from kernelio.layout import Layout

__all__ = [
    "CAPABILITIES",
    "MemoryCost",
    "ask_for_exact_waits",
    "ask_for_short_slices",
    "cpu_us",
    "give_back_freed_memory",
    "has_capability",
    "lock_memory_on_fault",
    "memory_cost",
    "name_this_thread",
    "parse_capabilities",
    "parse_cpu_us",
    "parse_smaps_rollup",
    "parse_voluntary_switches",
    "read_capabilities",
    "refuse_huge_pages",
    "voluntary_switches",
]

_HERE = Layout()
_US_PER_S = 1_000_000

# Those that memreact has a use for. Source: include/uapi/linux/capability.h
CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_NET_ADMIN": 12,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYS_TIME": 25,
}

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # include/uapi/asm-generic/mman.h
_PR_SET_TIMERSLACK, _PR_SET_THP_DISABLE = 29, 41  # include/uapi/linux/prctl.h
_LEAST_SLACK_NS = 1  # 0 asks for the usual one again
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_SHORTEST_SLICE_NS = 100_000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4
_libc.mlockall.argtypes = (ctypes.c_int,)
_libc.mlockall.restype = ctypes.c_int

_ROLLUP = re.compile(
    r"(Rss|Anonymous|Private_Clean|Private_Dirty|Locked):\s+(\d{1,20}) kB", re.ASCII
)
_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\t(\d{1,20})$", re.ASCII | re.MULTILINE)
_CAP_EFF = re.compile(r"^CapEff:\t([0-9a-f]{16})$", re.MULTILINE)
# The command's name may hold blanks and brackets, so fields are counted from the last ")".
_STAT = re.compile(r"\d+ \(.*\) \S(?: -?\d+){10} (\d{1,20}) (\d{1,20}) .*\n?", re.ASCII | re.DOTALL)


class MemoryCost(NamedTuple):
    """The memory of a process, in bytes.

    Args:
        rss_bytes: All that is mapped and present: the honest bound.
        anon_bytes: The part that cannot be dropped and read again.
        private_bytes: What would be free if it ended.
        locked_bytes: What cannot be reclaimed.

    Source: Documentation/filesystems/proc.rst, "smaps_rollup"
    """

    rss_bytes: int
    anon_bytes: int
    private_bytes: int
    locked_bytes: int


def lock_memory_on_fault() -> None:
    """Keep the pages that this process touches, now and later, from being reclaimed.

    Pages are locked as they are touched, so memory that is only mapped costs nothing.

    Raises:
        Unsupported: No CAP_IPC_LOCK and RLIMIT_MEMLOCK is too low.
    """
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) < 0:
        raise Unsupported("mlockall", os.strerror(ctypes.get_errno()))


def name_this_thread(name: str) -> None:
    """Show the calling thread under this name in top -H and in traces: 15 bytes at most.

    It is for people, so a kernel or sandbox that refuses is left at that. Python itself does it
    from 3.14 on.

    Source: proc_pid_comm(5)
    """
    with suppress(OSError), open("/proc/thread-self/comm", "w", encoding="ascii") as file:
        file.write(name)


def give_back_freed_memory() -> bool:
    """Return what lies free between the libc's allocations: starting up leaves about a MiB.

    Call it before the memory is locked: the kernel takes nothing back of what is.

    Returns:
        Whether there was any; False on a libc that knows no such call.

    Source: malloc_trim(3)
    """
    trim = getattr(_libc, "malloc_trim", None)
    return trim is not None and bool(trim(0))


class _SchedAttr(ctypes.Structure):
    _fields_ = (
        *(("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64)),
        *(("nice", ctypes.c_int32), ("priority", ctypes.c_uint32), ("runtime_ns", ctypes.c_uint64)),
        *(("deadline_ns", ctypes.c_uint64), ("period_ns", ctypes.c_uint64)),
    )


def ask_for_short_slices() -> bool:
    """Let the calling thread, which only ever works for moments, run soon after each wake-up.

    From 6.12 on a thread may ask for slices shorter than the others', and is then preferred at a
    wake-up, with no larger share of the CPU and no privilege. Older kernels ignore the wish.

    Returns:
        Whether the kernel took it.

    Source: sched_setattr(2); Documentation/scheduler/sched-eevdf.rst
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attr = _SchedAttr(size=ctypes.sizeof(_SchedAttr), nice=nice, runtime_ns=_SHORTEST_SLICE_NS)
    return bool(_libc.syscall(number, 0, ctypes.byref(attr), 0) == 0)


def ask_for_exact_waits() -> bool:
    """Let waits of the calling thread that have an end take no longer than was asked for.

    The kernel may end each of them 50 us late, to wake the CPU once for several. A wait for the
    interpreter's lock is one: it ends after a switch interval, and only then asks for the lock.

    Returns:
        Whether the kernel took it. Source: PR_SET_TIMERSLACK(2const)
    """
    return bool(_libc.prctl(_PR_SET_TIMERSLACK, _LEAST_SLACK_NS, 0, 0, 0) == 0)


def refuse_huge_pages() -> bool:
    """Keep this process on small pages: a huge one holds 2 MiB where a few KiB were touched.

    Returns:
        Whether the kernel took it. Source: prctl(2), PR_SET_THP_DISABLE
    """
    return bool(_libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0)


def parse_smaps_rollup(text: str, path: str) -> MemoryCost:
    """Read the four figures.

    Raises:
        MalformedReading: One of them is not there.
    """
    kb = {line[1]: int(line[2]) for line in map(_ROLLUP.fullmatch, text.split("\n")) if line}
    try:
        return MemoryCost(
            rss_bytes=kb["Rss"] * 1024,
            anon_bytes=kb["Anonymous"] * 1024,
            private_bytes=(kb["Private_Clean"] + kb["Private_Dirty"]) * 1024,
            locked_bytes=kb["Locked"] * 1024,
        )
    except KeyError as missing:
        raise MalformedReading(path, text[:80], f"a line {missing} with kB") from missing


def memory_cost(pid: int | str = "self", layout: Layout = _HERE) -> MemoryCost:
    """Read what a process takes; walks its page tables (about 0.5 ms for a small one).

    Raises:
        Vanished: There is no such process.
        Unsupported: Not permitted, or a kernel thread.
    """
    path = layout.proc(f"{pid}/smaps_rollup")
    return parse_smaps_rollup(os.fsdecode(read_bytes(path)), path)


def parse_cpu_us(text: str, path: str, ticks_per_second: int) -> int:
    """Read the user and system time out of /proc/PID/stat, in microseconds.

    Raises:
        MalformedReading: The line has other fields.
    """
    parts = _STAT.fullmatch(text)
    if parts is None:
        raise MalformedReading(path, text, "a process's stat line")
    return (int(parts[1]) + int(parts[2])) * _US_PER_S // ticks_per_second


def cpu_us(pid: int | str = "self", layout: Layout = _HERE) -> int:
    """CPU time of all threads of a process so far, in steps of a tick (10 ms).

    Raises:
        Vanished: There is no such process.
    """
    path = layout.proc(f"{pid}/stat")
    text = os.fsdecode(read_bytes(path))
    return parse_cpu_us(text, path, os.sysconf("SC_CLK_TCK"))


def parse_voluntary_switches(text: str, path: str) -> int:
    """Read how often a thread gave up the CPU by itself, which is how often it was woken.

    Raises:
        MalformedReading: The line is not there.
    """
    found = _SWITCHES.search(text)
    if found is None:
        raise MalformedReading(path, text[-80:], "a line voluntary_ctxt_switches")
    return int(found[1])


def voluntary_switches(pid: int | str = "self", layout: Layout = _HERE) -> dict[int, int]:
    """Voluntary context switches of each living thread of a process, by thread id.

    Raises:
        Vanished: There is no such process.
        MalformedReading: As for parsing.
    """
    directory = layout.proc(f"{pid}/task")
    try:
        threads = sorted(int(name) for name in os.listdir(directory))
    except OSError as error:
        raise Vanished(directory) from error
    switches: dict[int, int] = {}
    for thread in threads:
        path = f"{directory}/{thread}/status"
        try:
            switches[thread] = parse_voluntary_switches(os.fsdecode(read_bytes(path)), path)
        except Vanished:  # that thread ended
            continue
    return switches


def parse_capabilities(text: str, path: str) -> int:
    """Read the mask of effective capabilities out of /proc/PID/status.

    Raises:
        MalformedReading: The line is not there.
    """
    found = _CAP_EFF.search(text)
    if found is None:
        raise MalformedReading(path, text[-80:], "a line CapEff with 16 hex digits")
    return int(found[1], 16)


def read_capabilities(pid: int | str = "self", layout: Layout = _HERE) -> int:
    """The effective capabilities of a process, one bit each.

    Raises:
        Vanished: There is no such process.
        MalformedReading: As for parsing.
    """
    path = layout.proc(f"{pid}/status")
    return parse_capabilities(os.fsdecode(read_bytes(path)), path)


def has_capability(name: str, pid: int | str = "self", layout: Layout = _HERE) -> bool:
    """Whether a process has one of `CAPABILITIES` in effect."""
    return bool(read_capabilities(pid, layout) >> CAPABILITIES[name] & 1)
