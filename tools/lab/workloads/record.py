"""Pack what this guest's kernel prints into a tar file: `python3 record.py OUT.tar`.

It first makes things worth recording: swap on zram with pages in it, a cgroup with blanks and one
with other odd bytes in their names, a removed cgroup that is still listed, and some pressure.
"""

from __future__ import annotations

import glob
import io
import mmap
import os
import signal
import subprocess
import sys
import tarfile

CGROUP = "/sys/fs/cgroup"
BLANK = f"{CGROUP}/a b"
ODD = CGROUP + "/tab\there-\u00e4"
DYING = f"{CGROUP}/dying"
PATTERNS = (
    "/proc/pressure/*",
    *("/proc/meminfo", "/proc/swaps", "/proc/buddyinfo", "/proc/zoneinfo", "/proc/vmstat"),
    *("/proc/pagetypeinfo", "/proc/cmdline", "/proc/sys/kernel/osrelease", "/proc/cgroups"),
    *("/proc/self/mountinfo", "/proc/self/mounts", "/proc/self/cgroup", "/proc/self/status"),
    *("/proc/self/stat", "/proc/self/smaps_rollup", "/proc/sys/vm/compaction_proactiveness"),
    *("/sys/kernel/debug/lru_gen", "/sys/kernel/debug/lru_gen_full"),
    *("/sys/kernel/mm/lru_gen/*", "/sys/kernel/security/lockdown"),
    *("/sys/kernel/mm/transparent_hugepage/*", "/sys/kernel/mm/transparent_hugepage/*/enabled"),
    *("/sys/block/zram0/mm_stat", "/sys/block/zram0/disksize", "/sys/block/zram0/comp_algorithm"),
    *("/sys/module/page_reporting/parameters/*", "/sys/module/damon_reclaim/parameters/*"),
    *("/sys/kernel/mm/damon/admin/kdamonds/*", "/sys/bus/virtio/devices/*/device"),
    *("/sys/bus/virtio/devices/*/features", "/sys/bus/virtio/devices/*/status"),
    *("/sys/devices/system/node/online", "/sys/devices/system/node/has_memory"),
    *("/sys/devices/system/node/node0/meminfo", "/sys/devices/system/node/node0/vmstat"),
    *("/sys/devices/system/memory/block_size_bytes", "/sys/devices/system/cpu/online"),
    *(
        f"{CGROUP}/{name}/{files}"
        for name in (".", "system.slice", "a b")
        for files in ("memory.*", "cgroup.*", "io.pressure", "cpu.pressure")
    ),
)
UNREADABLE = ("memory.reclaim", "cgroup.kill")


def main(out: str) -> None:
    """Record everything into the tar file `out`."""
    found_enabled = read("/sys/kernel/mm/lru_gen/enabled")
    write("/sys/kernel/mm/lru_gen/enabled", "y")
    swap_on_zram()
    children = [in_cgroup(BLANK, 24), in_cgroup(ODD, 4), in_cgroup(DYING, 4)]
    squeeze(children[0])
    remove_dying(children.pop())
    with tarfile.open(out, "w") as archive:
        for path in paths():
            pack(archive, path, found_enabled if path.endswith("lru_gen/enabled") else None)
    for child in children:
        child.kill()
        child.wait()


def swap_on_zram() -> None:
    """Make /dev/zram0 a swap device of 256 MiB, unless it is one."""
    if "zram0" in (read("/proc/swaps") or ""):
        return
    write("/sys/block/zram0/disksize", "256M")
    subprocess.run(["/sbin/mkswap", "/dev/zram0"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["/sbin/swapon", "/dev/zram0"], check=True)


def in_cgroup(path: str, mib: int) -> subprocess.Popen[bytes]:
    """Start a process that holds `mib` MiB of anonymous memory and a file in a new cgroup."""
    write(f"{CGROUP}/cgroup.subtree_control", "+memory +io")
    os.makedirs(path, exist_ok=True)
    child = subprocess.Popen(
        [sys.executable, __file__, "hold", path, str(mib)], stdout=subprocess.PIPE
    )
    wait_held(child)
    return child


def wait_held(child: subprocess.Popen[bytes]) -> None:
    """Wait until it says that it holds its memory."""
    if child.stdout:
        child.stdout.readline()


def hold(path: str, mib: int) -> None:
    """Be that process."""
    write(f"{path}/cgroup.procs", str(os.getpid()))
    memory = mmap.mmap(-1, mib << 20)
    touch(memory)
    name = f"/var/cache/held-{os.getpid()}"
    with open(name, "wb") as file:
        file.write(os.urandom(mib << 19))
        os.fsync(file.fileno())
    with open(name, "rb") as file:
        file.read()
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: touch(memory))
    os.write(1, b"held\n")
    signal.pause()
    os.write(1, b"held\n")
    signal.pause()


def touch(memory: mmap.mmap) -> None:
    """Write to every page."""
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at : at + 8] = at.to_bytes(8, "little")


def squeeze(child: subprocess.Popen[bytes]) -> None:
    """Put pages into swap, and by touching them again time into the pressure files."""
    half = int(read(f"{BLANK}/memory.current") or "0") // 2
    write(f"{BLANK}/memory.low", "4194304")
    write(f"{BLANK}/memory.swap.max", "134217728")
    write(f"{BLANK}/memory.high", str(half))
    child.send_signal(signal.SIGUSR1)
    wait_held(child)


def remove_dying(child: subprocess.Popen[bytes]) -> None:
    """Remove a cgroup whose file pages stay charged to it."""
    child.kill()
    child.wait()
    os.rmdir(DYING)


def paths() -> list[str]:
    """All files to record, in order."""
    found = {path for pattern in PATTERNS for path in glob.glob(pattern)}
    return sorted(
        os.path.normpath(path)
        for path in found
        if os.path.isfile(path) and os.path.basename(path) not in UNREADABLE
    )


def pack(archive: tarfile.TarFile, path: str, instead: str | None) -> None:
    """Add one file, or nothing where the kernel refuses to show it."""
    text = read(path) if instead is None else instead
    if text is None:
        return
    data = text.encode("latin-1")
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.size = len(data)
    entry.mode = 0o644
    archive.addfile(entry, io.BytesIO(data))


def read(path: str) -> str | None:
    """The bytes of a file, one character each; None where it cannot be read."""
    try:
        with open(path, encoding="latin-1", newline="") as file:
            return file.read()
    except OSError:
        return None


def write(path: str, text: str) -> None:
    """Write to a kernel file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold(sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1])
