"""`make crowd`: memreact-top on a guest of 2,000 cgroups, asked ten times a second.

The daemon is the real one, in a guest; memreact-top runs on this machine, on a terminal of 160
columns and 48 lines that nobody reads, and comes over vsock.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from lab.counted_top import Counts
from lab.crowd_figures import Span, table
from lab.errors import LabError
from lab.guest import Guest
from lab.hybrid import Bridge
from lab.installed import Installed
from lab.machine import MachineOptions
from lab.terminal import COLUMNS, LINES, on_terminal, terminal
from lab.workload import Cgroup, Workload
from memreact_schemas.control import INTERFACE, PORT, GetStatus, StatusAnswer
from memreact_schemas.status import Status
from memreact_tools.address import Address, UnixAddress, connect
from memreact_tools.ctl.varlink_client import call

__all__ = ["crowd", "looked_at"]

_PERIOD_S = 20
_SETTINGS = f"""\
[memcg]
period_secs = {_PERIOD_S}

[control]
allow_guest = true
"""
_TOP = "/crowd.slice"
_DELAY_S = 0.1
_MADE_S = 240.0
_FIRST_TURN_S = 120.0
_PATIENCE_S = 60.0
_LOOK_S = 2.0


def crowd(package: Path, cgroups: int, seconds: float) -> int:
    """Run it and print the figures; 1 where top or the daemon lost a decision.

    Args:
        package: The .deb to install in the guest.
        cgroups: How many are made.
        seconds: For how long each of the two is watched.

    Raises:
        LabError: The guest, the daemon or memreact-top failed.
    """
    with Guest.restore(MachineOptions(), package=package) as guest, Bridge(guest) as bridge:
        daemon = _Daemon(guest, UnixAddress(str(bridge.path), PORT))
        daemon.stop()
        _fill(guest, cgroups)
        daemon.start()
        print(f"{daemon.status().cgroups_total} cgroups, a turn each {_PERIOD_S} s", flush=True)
        alone = daemon.over(lambda: time.sleep(seconds))
        counts: list[Counts] = []
        seen = daemon.over(lambda: counts.append(looked_at(daemon.address, seconds)))
    print(table(alone, seen, counts[0]))
    return 1 if counts[0].dropped or counts[0].left_out else 0


def _fill(guest: Guest, cgroups: int) -> None:
    """Many cgroups with a little page cache, and three that are worth an eviction."""
    print(f"{cgroups} cgroups are made", flush=True)
    top = Cgroup(guest, _TOP)
    maker = Cgroup(guest, "/crowd-maker.slice")
    Workload(maker, "crowd", top.folder, str(cgroups), ready_s=_MADE_S)
    for name in ("one", "two"):
        Workload(Cgroup(guest, f"/work.slice/{name}"), "cold_files", "50")
    Workload(Cgroup(guest, "/work.slice/hot"), "hot", "20", "--pause-ms", "200")


class _Daemon:
    """The service, asked as memreact-top asks it."""

    def __init__(self, guest: Guest, address: UnixAddress) -> None:
        self.address = address
        self._guest = guest
        self._service = Installed(guest)

    def stop(self) -> None:
        self._service.stop()

    def start(self) -> None:
        """Return after its first turn."""
        self._service.start(_SETTINGS)
        deadline = time.monotonic() + _FIRST_TURN_S
        while not self.status().turns:
            if time.monotonic() > deadline:
                raise LabError(f"memreact made no turn in {_FIRST_TURN_S:.0f} s")
            time.sleep(_LOOK_S)

    def status(self) -> Status:
        with connect(self.address, timeout_s=_PATIENCE_S) as stream:
            raw = call(stream, f"{INTERFACE}.GetStatus", GetStatus(cgroups=False))
        return msgspec.json.decode(raw, type=StatusAnswer).status

    def over(self, act: Callable[[], object]) -> Span:
        """What it takes while something else is done."""
        turns, cpu_us, began = self.status().turns, self._service.cpu_us(), time.monotonic()
        act()
        used_us, seconds = self._service.cpu_us() - cpu_us, time.monotonic() - began
        return Span(seconds, used_us, self.status().turns - turns, self._anon_bytes())

    def _anon_bytes(self) -> int:
        pid = self._guest.run("systemctl show -p MainPID --value memreact.service").stdout.strip()
        told = self._guest.run(f"awk '/^RssAnon/ {{print $2}}' /proc/{pid}/status").stdout
        return int(told) << 10


def looked_at(address: Address, seconds: float, *, patience_s: float = 90.0) -> Counts:
    """Run memreact-top for so long, and count.

    Args:
        address: Of the daemon.
        seconds: From when it has seen all cgroups.
        patience_s: Until it has.

    Raises:
        LabError: It ended before, or never saw them; with what it showed last.
    """
    with (
        tempfile.NamedTemporaryFile(prefix="memreact-top-") as into,
        terminal(COLUMNS, LINES) as (end, screen),
    ):
        words = [str(address), "--delay", str(_DELAY_S), "--seconds", str(seconds)]
        with on_terminal(end, "lab.counted_top", *words, "--into", into.name) as process:
            try:
                process.wait(seconds + patience_s)
            except subprocess.TimeoutExpired as error:
                raise LabError(f"memreact-top counted nothing:\n{_tail(screen)}") from error
            finally:
                process.kill()
        told = Path(into.name).read_bytes()
    if not told:
        raise LabError(f"memreact-top ended early:\n{_tail(screen)}")
    return msgspec.json.decode(told, type=Counts)


def _tail(screen: bytearray) -> str:
    return screen[-2000:].decode(errors="replace")
