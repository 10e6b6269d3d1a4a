"""Guest swap, shown: cold memory goes to the host's file, or to memreact's zram, and comes back.

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
from lab.swap_adds import adds
from lab.swap_figures import Held, Tier, failures, table
from lab.workload import Cgroup, Workload
from memreact_schemas.control import PORT
from memreact_schemas.status import LedgerTally
from memreact_tools.host.swap.filesystem import IN_MEMORY, kind_of

__all__ = ["TIERS", "swap"]

_COLD_MIB, _HOT_MIB = 300, 100
_PERIOD_S, _PERIODS = 5, 6
_COMPACT_S = 10
_WINDOW_S = 10
_SETTLE_S = 5
# What zram left in pieces is gathered by compactions, and told to the host seconds later.
_LOOK_S, _STILL_LOOKS, _LOOKS_MAX, _STILL_BYTES = 5, 4, 24, 4 << 20
_HOST_S = 300
_STOP_S = 60
_BLOCK_BYTES = 512
_SETTINGS = f"""\
[memcg]
period_secs = {_PERIOD_S}
swap = true
swappiness_max = 200
[swap]
zram_percent = {{zram_percent}}
[compact]
period_secs = {_COMPACT_S}
[control]
allow_guest = true
"""
_GONE = (
    'while [ "$(systemctl is-active memreact-put-back.service)" != inactive ]; do sleep 0.1; done; '
    "[ $(cat /sys/block/zram*/disksize | grep -vcx 0) = 0 ] && ! grep -q zram /proc/swaps"
)


class _Kind(NamedTuple):
    """Which swap there is: a file of the host's, and zram of so much of the guest's memory."""

    file: bool
    zram_percent: int


TIERS = {
    "host": _Kind(file=True, zram_percent=0),
    "zram": _Kind(file=False, zram_percent=40),
    "zram-above-host": _Kind(file=True, zram_percent=13),
}


class _Zram(NamedTuple):
    """What lies in zram, what that takes, and what of it memreact's ledger knows, bytes."""

    stored: int = 0
    taken: int = 0
    by_ledger: int = 0


class _Ledger(msgspec.Struct):
    since_start: LedgerTally


class _Status(msgspec.Struct):
    ledger: _Ledger


class _Told(msgspec.Struct):
    status: _Status


class _Row(msgspec.Struct):
    path: str
    allocated_bytes: int
    used_bytes: int | None = None


def swap(package: Path, names: Sequence[str], times: int = 0) -> int:
    """Show each kind of swap and print the table; 0 if it shows what it should.

    Args:
        package: The .deb to install in the guest.
        names: Of TIERS.
        times: Time instead how long it takes a disk to become swap, so often.

    Raises:
        LabError: A guest, a workload in it or memreact-host failed.
    """
    install_missing()
    if times:
        with _folder() as folder:
            return adds(package, folder, times)
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
        self._until_still()
        after = self._held(hot, "after them")
        file_bytes, swapped = self._file()
        zram = self._zram()
        self._say("the cold part is read")
        cold.signal("USR1")
        right = cold.wait_for("read", timeout_s=_HOST_S).figures["crc"] == crc
        gone = self._removed()
        return Tier(
            name=self._name,
            before=before,
            after=after,
            file_bytes=file_bytes,
            file_swapped_bytes=swapped,
            zram_stored_bytes=zram.stored,
            zram_taken_bytes=zram.taken,
            zram_ledger_bytes=zram.by_ledger,
            came_back_right=right,
            gone=gone,
        )

    def _prepare(self) -> None:
        self._guest.run("systemctl stop memreact.service; mkdir -p /etc/memreact")
        settings = _SETTINGS.format(zram_percent=self._kind.zram_percent)
        self._guest.put_bytes(settings.encode(), "/etc/memreact/memreact.toml")

    def _until_still(self) -> None:
        """Wait until what the host holds falls no more."""
        least, still = self._guest.held_bytes(), 0
        for _ in range(_LOOKS_MAX):
            time.sleep(_LOOK_S)
            held = self._guest.held_bytes()
            still = still + 1 if held > least - _STILL_BYTES else 0
            least = min(least, held)
            if still == _STILL_LOOKS:
                return

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

    def _zram(self) -> _Zram:
        if not self._kind.zram_percent:
            return _Zram()
        name = "$(grep -o 'zram[0-9]*' /proc/swaps)"
        words = self._guest.run(f"cat /sys/block/{name}/mm_stat").stdout.split()
        told = self._guest.run("memreact-ctl --json status").stdout
        ledger = msgspec.json.decode(told, type=_Told).status.ledger
        return _Zram(int(words[0]), int(words[2]), ledger.since_start.zram_taken_bytes)

    def _removed(self) -> bool:
        """Have the host's file removed, and zram put back by memreact's final stop."""
        if self._kind.file:
            self._host("remove")
        self._guest.run("systemctl stop memreact.service")
        zram_gone = self._guest.run(_GONE, check=False, timeout_s=_STOP_S).code == 0
        return zram_gone and not os.listdir(self._folder)

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
