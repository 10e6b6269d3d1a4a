"""Faults of a chaos run that a root of the guest makes, each undone at its end.

All cgroups that hurt are bounded by memory.max, so that the guest as a whole never runs out: pages
of a protected cgroup that go all the same were taken by somebody who should not have.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

from lab.workloads.lines import monotonic_us

__all__ = [
    "GROUP",
    "churn",
    "clock",
    "daemon",
    "freeze",
    "halt",
    "hog",
    "kill",
    "oom",
    "processes",
    "stop",
    "unread",
    "unswap",
]

CGROUPS = "/sys/fs/cgroup"
GROUP = f"{CGROUPS}/chaos.slice"
_UNIT = "memreact.service"
_SERVICE = f"{CGROUPS}/memreact.slice/{_UNIT}"
_MIB = 1 << 20
_CHURN_A_SECOND = 200
_NAMES = (b"plain", b"two words", b"tab\there", b"\x1b[31mred", b"\xff\xfe", b"$(reboot)", b"-rf")
_ZRAM = "/dev/zram0"
_ZRAM_MIB = 512
_BACK_S = 60.0
_POLL_S = 0.05
_DAY_S = 86_400


def churn(seconds: float, share: int) -> dict[str, int]:
    """Make cgroups, some of them in each other, and remove them, 200 a second."""
    above = os.fsencode(f"{GROUP}/churn-{share}-{monotonic_us()}")
    os.mkdir(above)
    with open(above + b"/cgroup.subtree_control", "w") as file:
        file.write("+memory")
    made, began = 0, time.monotonic()
    while (gone_s := time.monotonic() - began) < seconds:
        if made >= gone_s * _CHURN_A_SECOND:
            time.sleep(0.005)
            continue
        outer = above + b"/" + _NAMES[made % len(_NAMES)] + b"-%d" % made
        os.mkdir(outer)
        os.mkdir(outer + b"/inner")
        os.rmdir(outer + b"/inner")
        os.rmdir(outer)
        made += 2
    os.rmdir(above)
    return {"made": made, "a_second": int(made / seconds)}


def hog(seconds: float, share: int) -> dict[str, int]:
    """Let a process take all that it gets, where memory.high throttles it."""
    limits = {"memory.high": 24 * _MIB, "memory.max": 96 * _MIB, "memory.swap.max": 64 * _MIB}
    with _cgroup("hog", limits) as folder:
        eater = _eater(folder)
        time.sleep(seconds)
        eater.kill()
        eater.wait()
        return {"share": share, "throttled": _count(f"{folder}/memory.events", "high")}


def oom(seconds: float, share: int) -> dict[str, int]:
    """Let a process take all that it gets, until the kernel ends it."""
    limits = {"memory.max": (8 + share % 24) * _MIB, "memory.swap.max": 0}
    with _cgroup("oom", limits) as folder:
        eater = _eater(folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            eater.wait(10 * seconds)
        eater.kill()
        eater.wait()
        return {"killed": _count(f"{folder}/memory.events", "oom_kill")}


def _eater(folder: str) -> subprocess.Popen[bytes]:
    command = f"echo $$ > {folder}/cgroup.procs && exec tail /dev/zero"
    return subprocess.Popen(["sh", "-c", command], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _cgroup(name: str, limits: dict[str, int]) -> Iterator[str]:
    folder = f"{GROUP}/{name}-{monotonic_us()}"
    os.mkdir(folder)
    try:
        for file, value in limits.items():
            _write(f"{folder}/{file}", str(value))
        yield folder
    finally:
        _write(f"{folder}/cgroup.kill", "1")
        _wait_for(lambda: _count(f"{folder}/cgroup.events", "populated") == 0)
        os.rmdir(folder)


def freeze(seconds: float, _share: int) -> dict[str, int]:
    """Freeze the checked workload, and let it go on."""
    _write(f"{GROUP}/kept/cgroup.freeze", "1")
    time.sleep(seconds)
    _write(f"{GROUP}/kept/cgroup.freeze", "0")
    return {}


def processes(service: str = _SERVICE) -> dict[int, int]:
    """Processes of the unit, each with its parent."""
    found = {}
    with contextlib.suppress(OSError), open(f"{service}/cgroup.procs") as file:
        for pid in map(int, file.read().split()):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
                found[pid] = int(stat.read().rpartition(")")[2].split()[1])
    return found


def daemon() -> int:
    """The daemon's process; 0 where there is none."""
    return next((pid for pid, parent in processes().items() if parent == 1), 0)


def kill(_seconds: float, _share: int) -> dict[str, int]:
    """Kill the daemon, and wait until systemd has brought it back."""
    pid = daemon()
    if not pid:
        return {"was_away": 1}
    began_us = monotonic_us()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    back = _wait_for(lambda: daemon() not in {0, pid} and _is_active())
    # Or the next ones would wait for minutes, as the unit's RestartSteps= say.
    _systemctl("reset-failed", _UNIT)
    return {"killed": pid, "back": int(back), "away_us": monotonic_us() - began_us}


def halt(seconds: float, _share: int) -> dict[str, int]:
    """Stop the daemon where it is, and let it go on."""
    pid = daemon()
    if not pid:
        return {"was_away": 1}
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
    return {"halted": pid}


def stop(seconds: float, _share: int) -> dict[str, int]:
    """Stop the unit, and start it; in between nobody may write."""
    _systemctl("stop", _UNIT)
    from_us = monotonic_us()
    time.sleep(seconds)
    until_us = monotonic_us()
    _systemctl("start", _UNIT)
    return {"from_us": from_us, "until_us": until_us}


def clock(seconds: float, share: int) -> dict[str, int]:
    """Set the time of day by up to a day, ahead or back, and set it right again."""
    step_s = (share - 500) * _DAY_S // 500
    time.clock_settime(time.CLOCK_REALTIME, time.time() + step_s)
    time.sleep(seconds)
    time.clock_settime(time.CLOCK_REALTIME, time.time() - step_s)
    return {"stepped_s": step_s}


_FILES = (
    "/proc/pressure/memory",
    "/sys/kernel/debug/lru_gen",
    f"{GROUP}/kept/memory.pressure",
    "/proc/zoneinfo",
    f"{GROUP}/protected/memory.low",
    "/proc/buddyinfo",
    f"{GROUP}/kept/cgroup.events",
    "/proc/swaps",
    "/proc/pressure/io",
    f"{GROUP}/protected/memory.min",
    "/proc/vmstat",
    f"{GROUP}/kept/memory.events",
    "/sys/kernel/mm/lru_gen/enabled",
    "/proc/pagetypeinfo",
    f"{GROUP}/kept/memory.stat",
)
_WAYS = ("empty", "cut", "garbled", "unreadable", "gone")


def unread(seconds: float, share: int) -> dict[str, int]:
    """Bind something broken over a file of the kernel's, whose mount the daemon sees too.

    It is empty; cut in the middle of a line; not what its kind looks like; one whose read fails
    with EINVAL; one whose open fails with ENODEV, as that of a removed cgroup does.
    """
    target = _FILES[share % len(_FILES)]
    way = _WAYS[share // len(_FILES) % len(_WAYS)]
    with contextlib.ExitStack() as undo:
        source = _broken(target, way, undo)
        subprocess.run(["mount", "--bind", source, target], check=True)
        # Lazily: the daemon may have the file open, and what it has open then stays broken.
        undo.callback(subprocess.run, ["umount", "--lazy", target], check=True)
        if way == "gone":
            os.rmdir(os.path.dirname(source))
        time.sleep(seconds)
    return {f"{os.path.basename(target)}_{way}": 1}


def _broken(target: str, way: str, undo: contextlib.ExitStack) -> str:
    if way == "unreadable":
        return f"{GROUP}/kept/memory.reclaim"
    if way == "gone":
        folder = f"{GROUP}/gone-{monotonic_us()}"
        os.mkdir(folder)
        return f"{folder}/cgroup.events"
    path = f"/run/chaos-{monotonic_us()}"
    with open(target, "rb") as file:
        whole = file.read()
    texts = {"empty": b"", "cut": whole[: len(whole) // 2 + 1], "garbled": whole[::-1]}
    with open(path, "wb") as file:
        file.write(texts[way])
    undo.callback(os.unlink, path)
    return path


def unswap(seconds: float, _share: int) -> dict[str, int]:
    """Take the swap device away with all that is on it, and bring it again."""
    if subprocess.run(["swapoff", _ZRAM], check=False).returncode:
        return {"busy": 1}
    _wait_for(_zram_is_reset)
    time.sleep(seconds)
    _write("/sys/block/zram0/disksize", f"{_ZRAM_MIB}M")
    subprocess.run(["mkswap", "-q", _ZRAM], check=True)
    subprocess.run(["swapon", _ZRAM], check=True)
    return {}


def _zram_is_reset() -> bool:
    """Reset it; udev looks into a device that is no swap any more, and holds it open."""
    try:
        _write("/sys/block/zram0/reset", "1")
    except OSError:
        return False
    return True


def _is_active() -> bool:
    asked = ["systemctl", "is-active", "--quiet", _UNIT]
    return not subprocess.run(asked, check=False).returncode


def _systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], check=True)


def _wait_for(met: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _BACK_S
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _count(path: str, key: str) -> int:
    with open(path) as file:
        return next(int(row[1]) for row in map(str.split, file) if row[0] == key)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
