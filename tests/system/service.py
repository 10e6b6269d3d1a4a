"""The installed service in a guest, run with settings of a test and a trace to read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lab.errors import DeadlinePassed
from lab.guest import Guest
from memreact.actions import Decision
from memreact.events import BatchEnded, Surveyed
from memreact.telemetry.trace import Entry, entries_in

__all__ = [
    "RecordProperty",
    "Service",
    "batches",
    "codes",
    "decisions",
    "stopped_for_good",
    "surveys",
    "turns",
    "wait_put_back",
]

RecordProperty = Callable[[str, object], None]
"""pytest's own, by which a test leaves its figures in the report."""

_UNIT = "memreact.service"
_TRACE = "/run/memreact/trace"
_DROP_IN = "/run/systemd/system/memreact.service.d/trace.conf"
_TRACED = f"[Service]\nExecStart=\nExecStart=/usr/bin/memreact run --trace {_TRACE}\n"
_POLL_S = 0.5


class Service:
    """memreact.service of one guest; started anew with each `start`.

    Args:
        guest: Where the package is installed.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        guest.run("mkdir -p /etc/memreact /run/systemd/system/memreact.service.d")
        guest.put_bytes(_TRACED.encode(), _DROP_IN)
        guest.run("systemctl daemon-reload")

    def start(self, settings: str) -> None:
        """Start with these settings and an empty trace."""
        self.stop()
        self.guest.put_bytes(settings.encode(), "/etc/memreact/memreact.toml")
        self.guest.run(f"rm -f {_TRACE}; systemctl reset-failed {_UNIT}; systemctl start {_UNIT}")

    def stop(self) -> None:
        """Stop it, whatever it does."""
        self.guest.run(f"systemctl stop {_UNIT}")

    def shown(self, name: str) -> str:
        """A property, as systemctl show prints it."""
        return self.guest.run(f"systemctl show -p {name} --value {_UNIT}").stdout.strip()

    @property
    def pid(self) -> int:
        """Its main process; 0 while there is none."""
        return int(self.shown("MainPID"))

    def open_fds(self) -> int:
        """How many files it has open."""
        return int(self.guest.run(f"ls /proc/{self.pid}/fd | wc -l").stdout)

    def switches(self) -> dict[str, int]:
        """Voluntary context switches of each of its threads so far, by thread and name.

        One that ends meanwhile is left out.
        """
        told = self.guest.run(
            f"cd /proc/{self.pid}/task && for t in *; do "
            "awk -v t=$t '/^Name/ {n=$2} /^voluntary/ {print t\":\"n, $2}' $t/status || true; done"
        ).stdout
        return {name: int(count) for name, count in map(str.split, told.splitlines())}

    def trace(self) -> list[Entry]:
        """All whole lines of the trace."""
        try:
            text = self.guest.get(_TRACE)
        except FileNotFoundError:
            return []
        return list(entries_in(text[: text.rfind(b"\n") + 1]))

    def wait_until(
        self, met: Callable[[list[Entry]], bool], *, timeout_s: float = 120
    ) -> list[Entry]:
        """Wait until the trace meets a condition, and return it.

        Raises:
            DeadlinePassed: It did not; the latest decisions are in the message.
        """
        deadline = time.monotonic() + timeout_s
        while not met(entries := self.trace()):
            if time.monotonic() > deadline:
                latest = "\n".join(map(repr, decisions(entries)[-20:]))
                raise DeadlinePassed(f"not in {timeout_s:.0f} s; {len(entries)} events\n{latest}")
            time.sleep(_POLL_S)
        return entries

    def wait_turns(self, count: int, *, timeout_s: float = 120) -> list[Entry]:
        """Wait until this many turns are over since the start."""
        return self.wait_until(lambda found: len(turns(found)) >= count, timeout_s=timeout_s)


def stopped_for_good(guest: Guest) -> None:
    """Stop it, and wait until what it switched on is put back."""
    guest.run(f"systemctl stop {_UNIT}")
    wait_put_back(guest)


def wait_put_back(guest: Guest) -> None:
    """Let systemd end the unit that puts back, as it does once nobody needs it any more."""
    gone = '[ "$(systemctl is-active memreact-put-back.service)" = inactive ]'
    guest.run(f"timeout 30 sh -c 'until {gone}; do sleep 0.2; done'")


def decisions(entries: Sequence[Entry], path: str | None = None) -> list[Decision]:
    """Decisions in their order, of one memcg or of all."""
    all_of_them = [decision for entry in entries for decision in entry.decisions]
    return [one for one in all_of_them if path in {None, one.path}]


def codes(entries: Sequence[Entry], path: str | None = None) -> list[str]:
    """Why, decision by decision."""
    return [one.because.code for one in decisions(entries, path)]


def turns(entries: Sequence[Entry]) -> list[Decision]:
    """Turns that are over."""
    return [one for one in decisions(entries) if one.verdict == "turn"]


def surveys(entries: Sequence[Entry]) -> list[Surveyed]:
    """Readings of the whole lru_gen file."""
    return [entry.event for entry in entries if isinstance(entry.event, Surveyed)]


def batches(entries: Sequence[Entry], path: str | None = None) -> list[BatchEnded]:
    """Eviction writes that are over, to one memcg or to all."""
    ended = [entry.event for entry in entries if isinstance(entry.event, BatchEnded)]
    return [one for one in ended if path in {None, one.path}]
