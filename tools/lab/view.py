"""`make view`: two guests seen by `memreact-host view`, and `memreact doctor --prove` twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.guest import Guest
from lab.hybrid import Bridge
from lab.installed import Installed
from lab.machine import MachineOptions
from lab.workload import Cgroup, Workload
from memreact_tools.host.view import GuestView

__all__ = ["disagreements", "view"]

_SETTINGS = "[memcg]\nperiod_secs = 600\n\n[control]\nallow_guest = true\n"
_PORT = 1050
_COLD_MIB = "300"
_SETTLE_S = 8.0
_OFF = 0.05
_UNEXPLAINED = ("reported_yet_held", "unexplained")
_PROVE = ["/usr/bin/memreact", "doctor", "--prove"]


def view(package: Path) -> int:
    """Print what an operator sees; 1 if the sides disagree, or a proof is not what it has to be.

    Raises:
        LabError: A guest failed.
    """
    with ExitStack() as undo:
        guests = [undo.enter_context(Guest.restore(MachineOptions(), package)) for _ in range(2)]
        for guest in guests:
            Installed(guest).start(_SETTINGS)
        busy = Workload(Cgroup(guests[0], "/view.slice/cold"), "cold_files", _COLD_MIB)
        sockets = [undo.enter_context(Bridge(guest)).path for guest in guests]
        pids = [guest.qemu_pid for guest in guests]
        named = [
            f"pid:{pid}=hvsock:{path}:{_PORT}" for pid, path in zip(pids, sockets, strict=True)
        ]
        time.sleep(_SETTLE_S)
        print(f"a guest of {_COLD_MIB} MiB of files read once, and one of none", flush=True)
        print(_host_view("--tell", *named), flush=True)
        squeeze = ["/usr/bin/memreact-ctl", "squeeze", "250M", "--deadline", "60s"]
        print(guests[0].run(squeeze, timeout_s=120).stdout, flush=True)
        print(_host_view("--tell", *named), flush=True)
        views = msgspec.json.decode(_host_view("--json", *named), type=list[GuestView])
        busy.stop()
        good = _prove(guests[1])
    with Guest.restore(MachineOptions(balloon=False), package) as guest:
        bad = _prove(guest)
    wrong = [*disagreements(views), *_proofs(good, bad)]
    for line in wrong:
        print(f"not reached: {line}")
    return 1 if wrong else 0


def _host_view(*words: str) -> str:
    command = [sys.executable, "-m", "memreact_tools.host", "view", *words]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **path},
    )
    if done.returncode:
        raise LabError(f"memreact-host view: {done.stdout}{done.stderr}")
    return done.stdout


def _prove(guest: Guest) -> int:
    print(f"memreact doctor --prove, balloon: {'yes' if guest.options.balloon else 'no'}")
    done = guest.run(_PROVE, timeout_s=120, check=False)
    print(f"{done.stdout}{done.stderr}exit status {done.code}", flush=True)
    return done.code


def disagreements(views: Sequence[GuestView]) -> list[str]:
    """Guests of which the host holds more than 5 % for no reason that is known, in words."""
    return list(_disagreements(views))


def _disagreements(views: Sequence[GuestView]) -> Iterator[str]:
    for each in views:
        held = each.held_bytes or 0
        causes = each.because_bytes
        if sum(causes.values()) != held:
            yield f"{each.name}: its causes do not make up the {held >> 20} MiB that are held"
        rest = sum(causes.get(cause, 0) for cause in _UNEXPLAINED)
        if rest > _OFF * held:
            yield f"{each.name}: {rest >> 20} of {held >> 20} MiB are held for no known reason"


def _proofs(good: int, bad: int) -> Iterator[str]:
    if good:
        yield "a good guest's doctor cannot prove that memory goes back"
    if not bad:
        yield "without a balloon doctor says that memory goes back"
