"""The demo: a guest gives memory back while redis keeps its speed; eviction ends at a stall."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab.demo_figures import (
    Held,
    Latency,
    Moment,
    Returned,
    Story,
    decode_requests,
    decode_waited,
    failures,
    find_stop,
    gib_minutes_saved,
    latency,
    table,
)
from lab.errors import LabError
from lab.guest import Guest
from lab.host import cache_dir, install_missing, missing_packages
from lab.machine import MachineOptions
from lab.plot import Mark, Panel, plot
from lab.workload import Cgroup, Workload, zram_swap

__all__ = ["demo"]

_PERIOD_S = 10
_PERIODS = 4
_WINDOW_S = 20
_WINDOWS = 3
_COLD_MIB = 300
_ZRAM_MIB = 512
_SETTLE_S = 10  # until what loading has freed is reported to the host
_STALL_WAIT_S = 90
_STALL_BATCH = "/demo.slice/batch"
_REDIS = "/system.slice/redis-server.service"
_SHORT_MIB = 32
_SHORT_S = 5
_MIB = 1 << 20
_REQUESTS = "/run/demo-requests"
_FRAMES = "/run/frames.py"
_COLD_FOLDER = "/sys/fs/cgroup/demo.slice/cold"
_PAGE_BYTES = 4096  # the lab's guests are x86-64
_TRACE = "/run/memreact/trace"
_AGED = '"aged":[1-9]'
_SETTINGS = f"""\
[memcg]
period_secs = {_PERIOD_S}
eviction_run_aging_count_min = 3
swap = true
"""
_TELL = "varlinkctl call /run/memreact/io.memreact io.memreact.HostHolds '{{\"held_bytes\":{}}}'"
_ALLOW_GUEST = "[control]\nallow_guest = true\n"  # memreact-top comes over the guest's loop-back
_DROP_IN = f"""\
[Service]
ExecStart=
ExecStart=/usr/bin/memreact run --trace {_TRACE}
"""
_FIGURES = """\
awk '{ print "orig", $1; print "zram", $3 }' /sys/block/zram0/mm_stat
"""

_HOW_TO_LOOK = """
  to look inside a guest of your own, in it or from its host:
    memreact-top                        all cgroups, live
    memreact-ctl explain CGROUP         why no more of one goes, and what would change that
    memreact-ctl watch                  decisions as they are made"""

_QUIET_LOAD = 1.0


def demo(package: Path, svg: Path, screens: Path | None = None) -> int:
    """Run it, print its table, write the plot; 0 if it shows what it should.

    Args:
        package: The .deb to install in the guest.
        svg: Where the plot goes.
        screens: Where pictures of memreact-top go, if they are wanted.

    Raises:
        LabError: The guest or a workload in it failed.
    """
    _say_what_will_happen(package, svg)
    install_missing()
    began = time.monotonic()
    with Guest.restore(MachineOptions(), package=package) as guest:
        show = _Show(guest, screens)
        story = show.run()
    svg.parent.mkdir(parents=True, exist_ok=True)
    svg.write_text(show.plot())
    print(f"\n{table(story)}\n\n  took {time.monotonic() - began:.0f} s; the plot is in {svg}")
    print("  to look inside, in a guest of your own: memreact-top (docs/top.md has pictures)")
    return _verdict(failures(story))


def _say_what_will_happen(package: Path, svg: Path) -> None:
    missing = " ".join(missing_packages()) or "nothing"
    print(
        f"demo: installs on this machine, by apt-get: {missing}\n"
        f"demo: keeps a guest's kernel and disk in {cache_dir()}; "
        f"`python -m lab clean` empties it\n"
        f"demo: installs {package} in the guest only; writes {svg}",
        flush=True,
    )
    if (load := os.getloadavg()[0]) > _QUIET_LOAD:
        print(
            f"demo: the load of this host is {load:.1f}: an emulated guest shares its processors, "
            "and redis will be slow for that alone",
            flush=True,
        )


def _verdict(found: Sequence[str]) -> int:
    for sentence in found:
        print(f"demo: {sentence}", file=sys.stderr)
    if not found:
        print("  shown: memory came back, redis kept its speed, the eviction let go")
    print(_HOW_TO_LOOK)
    return 1 if found else 0


class _Stall(NamedTuple):
    """When it was asked for, when somebody stalled first, and memreact's trace afterwards."""

    asked_us: int
    first_us: int
    trace: bytes


class _Show:
    """One run, act by act; `held` and `marks` gather what is plotted.

    Args:
        guest: Freshly restored, with the package installed.
        screens: Where pictures of memreact-top go, if they are wanted.
    """

    def __init__(self, guest: Guest, screens: Path | None = None) -> None:
        self.guest = guest
        self._screens = screens
        self.held: list[Held] = []
        self.marks: list[Mark] = []
        self.requests: list[tuple[int, int]] = []
        self._began = time.monotonic()
        self._offset_us = 0  # of the guest's clock to the demo's

    def run(self) -> Story:
        """All acts."""
        self._prepare()
        redis = self._start_redis()
        Workload(Cgroup(self.guest, "/demo.slice/cold"), "cold_files", str(_COLD_MIB))
        self._watch(redis, _SETTLE_S, "what was loaded settles")
        windows = [
            self._watch(redis, _WINDOW_S, f"without memreact, window {n + 1}")
            for n in range(_WINDOWS)
        ]
        before, at = self._moment(), len(self.held)
        self._frames("remember", _COLD_FOLDER)
        self._mark("memreact starts")
        self.guest.run("systemctl start memreact.service")
        if self._screens is not None:
            self.guest.run(_TELL.format(before.held_bytes))
        self._await_first_turn(redis)
        during = self._watch(redis, _PERIOD_S * _PERIODS, "memreact works")
        returned = Returned(before, self._moment(), *self._cold_reported())
        self._mark("4 periods")
        after = self._watch(redis, _WINDOW_S, "memreact goes on")
        saved = gib_minutes_saved(
            [Held(self.held[at - 1].at_s, before.held_bytes), *self.held[at:]]
        )
        stall = self._stall(redis) if self._screens is None else self._shown(redis)
        self.requests = decode_requests(self.guest.get(_REQUESTS))
        self._mark("redis short of memory")
        waited = decode_waited(*self._short_of_memory(redis))
        return Story(
            returned,
            saved,
            tuple(self._latency(window) for window in windows),
            self._latency(during),
            self._latency(after),
            find_stop(stall.trace, _STALL_BATCH, stall.asked_us, stall.first_us),
            waited,
        )

    def _await_first_turn(self, redis: Workload) -> None:
        """A guest's turns lie at a phase of their own; the four periods count from the first."""
        deadline = time.monotonic() + 2 * _PERIOD_S
        while self.guest.run(f"grep -q '{_AGED}' {_TRACE}", check=False).code:
            if time.monotonic() > deadline:
                raise LabError("memreact aged nothing within two periods")
            self._watch(redis, 1, "until memreact's first turn")
        self._mark("first turn")

    def _prepare(self) -> None:
        self.guest.run("systemctl stop memreact.service")
        zram_swap(self.guest, _ZRAM_MIB)
        folder = "/etc/systemd/system/memreact.service.d"
        self.guest.run(f"mkdir -p {folder} /etc/memreact")
        self.guest.put_bytes(_DROP_IN.encode(), f"{folder}/demo.conf")
        settings = _SETTINGS if self._screens is None else _SETTINGS + _ALLOW_GUEST
        self.guest.put_bytes(settings.encode(), "/etc/memreact/memreact.toml")
        self.guest.put(Path(__file__).parent / "workloads" / "frames.py", _FRAMES)
        self.guest.run("systemctl daemon-reload")
        clock = "import time; print(time.monotonic_ns() // 1000)"
        asked = time.monotonic()
        guest_us = int(self.guest.run(["/usr/bin/python3", "-c", clock]).stdout)
        middle = (asked + time.monotonic()) / 2
        self._offset_us = guest_us - int((middle - self._began) * 1e6)

    def _start_redis(self) -> Workload:
        print("demo: redis is filled with 150 MB of large values, of which a fifth stays in use")
        self.guest.run("systemctl start redis-server.service", timeout_s=120)
        self.guest.run("redis-cli config set save ''")
        return Workload(
            Cgroup(self.guest, "/demo.slice/client"), "redis_client", "--log", _REQUESTS
        )

    def _stall(self, redis: Workload) -> _Stall:
        """Stall a workload in the middle of a large eviction of its cgroup."""
        print(f"demo: {_COLD_MIB} MiB more are read, in a cgroup whose workload will stall")
        batch, aside = Cgroup(self.guest, _STALL_BATCH), Cgroup(self.guest, "/demo.slice/aside")
        Workload(batch, "cold_files", str(_COLD_MIB))
        stall = Workload(aside, "stall", batch.folder, "--high", "32M")
        when = [_TRACE, _STALL_BATCH, str(stall.pid), "--pages", "4096"]
        watcher = Workload(aside, "stall_when", *when)
        deadline = time.monotonic() + _STALL_WAIT_S
        while not any(line.what == "signalled" for line in watcher.lines()):
            if time.monotonic() > deadline:
                print("demo: there was no large eviction to stall in", file=sys.stderr)
                return _Stall(0, 0, b"")
            self._watch(redis, 2, "until that memory is cold")
        stalled_us = int(stall.wait_for("stalled").figures["first_us"])
        self.marks.append(Mark((stalled_us - self._offset_us) / 1e6, "stall"))
        self._watch(redis, 5, "after the stall")
        asked_us = watcher.wait_for("signals").at_us
        return _Stall(asked_us, stalled_us, self.guest.get(_TRACE))

    def _short_of_memory(self, redis: Workload) -> tuple[str, str]:
        """Give redis less than it uses for a moment; what memreact says of it before and after."""
        ask = ["memreact-ctl", "explain", _REDIS]
        limit = f"/sys/fs/cgroup{_REDIS}/memory.high"
        before = self.guest.run([*ask, "--json"]).stdout
        self.guest.run(f"echo {_SHORT_MIB}M > {limit}")
        self._watch(redis, _SHORT_S, f"redis may use {_SHORT_MIB} MiB")
        self.guest.run(f"echo max > {limit}")
        after = self.guest.run([*ask, "--json"]).stdout
        print(f"\n$ memreact-ctl explain {_REDIS}\n{self.guest.run(ask).stdout}")
        return before, after

    def _shown(self, redis: Workload) -> _Stall:
        """The same, looked at by memreact-top."""
        from lab.screens import Screens  # noqa: PLC0415  # needs textual

        assert self._screens is not None  # noqa: S101  # asked before
        with Screens(self.guest, self._screens) as screens:
            found = self._stall(redis)
            for path in screens.take():
                print(f"demo: {path}")
        return found

    def _watch(self, redis: Workload, seconds: float, act: str) -> tuple[int, int]:
        """Sample each second, print a line for it; return the span on the guest's clock."""
        since = time.monotonic()
        while True:
            now = time.monotonic()
            self.held.append(Held(now - self._began, self.guest.held_bytes()))
            print(f"{self._live_line(redis)}  {act}", flush=True)
            if now - since >= seconds:
                return self._guest_us(since), self._guest_us(now)
            time.sleep(max(0.0, min(now + 1, since + seconds) - time.monotonic()))

    def _live_line(self, redis: Workload) -> str:
        at, held = self.held[-1].at_s, self.held[-1].held_bytes
        seconds = [line.figures for line in redis.lines() if line.what == "second"]
        worst = f"{int(seconds[-1]['worst_us']) / 1000:6.1f} ms" if seconds else "        -"
        bar = "#" * (held // _MIB // 25)
        return f"{at:5.0f} s  {held / _MIB:5.0f} MiB held {bar:32} redis's worst {worst}"

    def _moment(self) -> Moment:
        rows = [row.split() for row in self.guest.run(_FIGURES).stdout.splitlines()]
        figures = {row[0]: int(row[1]) for row in rows}
        return Moment(
            self.guest.held_bytes(),
            figures["orig"],
            figures["zram"],
        )

    def _frames(self, *words: str) -> str:
        command = ["/usr/bin/python3", _FRAMES, *words, "/run/demo-frames"]
        return self.guest.run(command, timeout_s=120).stdout

    def _cold_reported(self) -> tuple[int, int]:
        """Bytes of the cold cgroup's former page frames, and of those that the host was told of."""
        pages, told = self._frames("reported").split()
        return int(pages) * _PAGE_BYTES, int(told) * _PAGE_BYTES

    def _latency(self, span: tuple[int, int]) -> Latency:
        try:
            return latency(self.requests, *span)
        except ValueError as error:
            raise LabError(f"redis's client stood still: {error}") from error

    def _guest_us(self, host: float) -> int:
        return int((host - self._began) * 1e6) + self._offset_us

    def _mark(self, name: str) -> None:
        self.marks.append(Mark(time.monotonic() - self._began, name))

    def plot(self) -> str:
        """What was gathered, as SVG."""
        held = [(sample.at_s, sample.held_bytes / _MIB) for sample in self.held]
        asked = [((at - self._offset_us) / 1e6, took / 1000) for at, took in self.requests]
        panels = [
            Panel("guest memory held by the host, MiB", held),
            Panel("redis: each request, ms", asked, joined=False),
        ]
        return plot("memreact gives memory back", panels, self.marks)
