"""Guest swap, shown: cold memory goes to the host's file, or to zram, and comes back right.

A guest of 1 GiB with 300 MB of cold and 100 MB of hot anonymous memory, once for each kind of swap.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from lab.errors import CommandFailed, LabError
from lab.guest import Guest
from lab.host import cache_dir, install_missing, remove
from lab.hybrid import Bridge
from lab.swap_figures import Held, Tier, failures, table
from lab.workload import Cgroup, Workload, zram_swap
from memreact_schemas.control import PORT
from memreact_tools.host.swap.filesystem import IN_MEMORY, kind_of

__all__ = ["TIERS", "swap"]

_COLD_MIB, _HOT_MIB = 300, 100
_PERIOD_S, _PERIODS = 5, 6
_WINDOW_S = 10
_SETTLE_S = 5
_ZRAM_PRIORITY = 100
_HOST_S = 300
_BLOCK_BYTES = 512
_SETTINGS = f"""\
[memcg]
period_secs = {_PERIOD_S}
swap = true
swappiness_max = 200
[control]
allow_guest = true
"""


class _Kind(NamedTuple):
    """Which swap there is: a file of the host's, and zram of so many MiB."""

    file: bool
    zram_mib: int


TIERS = {
    "host": _Kind(file=True, zram_mib=0),
    "zram": _Kind(file=False, zram_mib=400),
    "zram-above-host": _Kind(file=True, zram_mib=128),
}


class _Row(msgspec.Struct):
    path: str
    allocated_bytes: int
    used_bytes: int | None = None


def swap(package: Path, names: Sequence[str]) -> int:
    """Show each kind of swap and print the table; 0 if it shows what it should.

    Args:
        package: The .deb to install in the guest.
        names: Of TIERS.

    Raises:
        LabError: A guest, a workload in it or memreact-host failed.
    """
    install_missing()
    began = time.monotonic()
    tiers = []
    with _folder() as folder:
        print(f"swap: files of the host are in {folder}, on {kind_of(str(folder))}", flush=True)
        for name in names:
            with Guest.restore(package=package) as guest, Bridge(guest) as bridge:
                tiers.append(_Show(guest, bridge, folder, name).run())
    print(f"\n{table(tiers)}\n\n  took {time.monotonic() - began:.0f} s")
    found = failures(tiers)
    for sentence in found:
        print(f"swap: {sentence}", file=sys.stderr)
    if not found:
        print("  shown: cold memory went, hot memory stayed, all came back right")
    return 1 if found else 0


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of the host's files that is no memory."""
    path = Path(tempfile.mkdtemp(prefix="swap-", dir=cache_dir()))
    try:
        path.chmod(0o711)
        if (kind := kind_of(str(path))) in IN_MEMORY:
            raise LabError(f"{path} lies on {kind}: set MEMREACT_LAB_DIR to a folder on a disk")
        yield path
    finally:
        remove(path)


class _Show:
    """One guest with one kind of swap.

    Args:
        guest: Freshly restored.
        bridge: By which its memreact is reached.
        folder: For the host's files.
        name: Of the kind.
    """

    def __init__(self, guest: Guest, bridge: Bridge, folder: Path, name: str) -> None:
        self._guest = guest
        self._bridge = bridge
        self._folder = folder
        self._name = name
        self._kind = TIERS[name]

    def run(self) -> Tier:
        """Fill, wait for the periods, look, read all back, remove."""
        self._prepare()
        hot = Workload(Cgroup(self._guest, "/swap.slice/hot"), "hot", str(_HOT_MIB))
        cold = Workload(Cgroup(self._guest, "/swap.slice/cold"), "marked_anon", str(_COLD_MIB))
        crc = cold.lines()[0].figures["crc"]
        time.sleep(_SETTLE_S)
        before = self._held(hot, "without memreact")
        self._guest.run("systemctl start memreact.service")
        if self._kind.file:
            self._host("add")
        self._say(f"{_PERIODS} periods of {_PERIOD_S} s")
        time.sleep(_PERIODS * _PERIOD_S)
        after = self._held(hot, "after them")
        file_bytes, swapped = self._file()
        stored, taken = self._zram()
        self._say("the cold part is read")
        cold.signal("USR1")
        right = cold.wait_for("read", timeout_s=_HOST_S).figures["crc"] == crc
        gone = self._removed() if self._kind.file else None
        return Tier(
            name=self._name,
            before=before,
            after=after,
            file_bytes=file_bytes,
            file_swapped_bytes=swapped,
            zram_stored_bytes=stored,
            zram_taken_bytes=taken,
            came_back_right=right,
            gone=gone,
        )

    def _prepare(self) -> None:
        self._guest.run("systemctl stop memreact.service; mkdir -p /etc/memreact")
        self._guest.put_bytes(_SETTINGS.encode(), "/etc/memreact/memreact.toml")
        if self._kind.zram_mib:
            zram_swap(self._guest, self._kind.zram_mib, priority=_ZRAM_PRIORITY)

    def _held(self, hot: Workload, when: str) -> Held:
        """Look for a window of time: what the hot part had to read back in it, and what is held."""
        first = _faults(hot)
        time.sleep(_WINDOW_S)
        found = Held(self._guest.held_bytes(), _faults(hot) - first)
        self._say(f"{found.host_bytes >> 20} MiB are held by the host {when}")
        return found

    def _file(self) -> tuple[int | None, int]:
        """What the host's file takes, and what the guest has swapped out to it."""
        if not self._kind.file:
            return None, 0
        rows = msgspec.json.decode(self._host("list", "--json"), type=list[_Row])
        return sum(row.allocated_bytes for row in rows), sum(row.used_bytes or 0 for row in rows)

    def _zram(self) -> tuple[int, int]:
        if not self._kind.zram_mib:
            return 0, 0
        words = self._guest.run("cat /sys/block/zram0/mm_stat").stdout.split()
        return int(words[0]), int(words[2])

    def _removed(self) -> bool:
        self._host("remove")
        return not os.listdir(self._folder)

    def _host(self, verb: str, *words: str) -> str:
        """Run memreact-host as people do."""
        with self._guest.lend_qmp() as qmp:
            where = [] if verb == "list" else [f"qmp:{qmp}=hvsock:{self._bridge.path}:{PORT}"]
            told = ["--set", f"guest_swap_path={self._folder}"]
            command = [sys.executable, "-m", "memreact_tools.host", "swap", verb, *where, *told]
            done = subprocess.run(
                [*command, *words], check=False, capture_output=True, text=True, timeout=_HOST_S
            )
        if done.returncode:
            raise CommandFailed(
                f"memreact-host swap {verb}", done.returncode, done.stdout + done.stderr
            )
        if verb != "list":
            self._say(done.stdout.strip().replace("\n", "; "))
        return done.stdout

    def _say(self, what: str) -> None:
        print(f"swap: {self._name}: {what}", flush=True)


def _faults(hot: Workload) -> int:
    said = [line.figures["major_faults"] for line in hot.lines() if line.what == "totals"]
    return int(said[-1]) if said else 0
