"""The clients against what the daemon really serves, not against doubles of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from memreact.control.audit import Audit
from memreact.control.guest import Guest
from memreact.control.peer import Peer
from memreact.control.service import MemreactService
from memreact.control.store import SettingsStore
from memreact.control.ttrpc import ttrpc_protocol
from memreact.control.varlink import VarlinkProtocol
from memreact.events import Event, HoldAsked, Instant, ReleaseAsked, RunAsked, SqueezeReleased
from memreact.run_dir import PushedFile
from memreact.settings.errors import SettingsError
from memreact.settings.layers import DEFAULT_ORIGIN, Layer
from memreact.swap_trouble import SwapTrouble
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact_schemas.config import DEFAULTS, Compact, Memcg
from memreact_schemas.status import Status
from memreact_schemas.swap import NoSuchDevice
from memreact_tools.ctl.__main__ import main
from tests.tools.ctl.doubles import REPORT
from tests.tools.ctl.statuses import STATUS

Make = Callable[[], asyncio.Protocol]
MAY_ALL = Peer("a test", may_read=True, may_write=True)
MAY_READ = Peer("a reader", may_read=True, may_write=False)


@contextlib.contextmanager
def _serving(path: Path, make: Make) -> Iterator[None]:
    """Serve on a loop in a thread of its own, until every connection has ended."""
    made, gone = [0], threading.Semaphore(0)

    def counted() -> asyncio.Protocol:
        made[0] += 1
        protocol = make()
        lost = protocol.connection_lost

        def connection_lost(error: Exception | None) -> None:
            lost(error)
            gone.release()

        protocol.connection_lost = connection_lost  # type: ignore[method-assign,assignment]
        return protocol

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started = loop.create_unix_server(counted, path)
    server = asyncio.run_coroutine_threadsafe(started, loop).result(20)
    try:
        yield
    finally:
        for _ in range(made[0]):
            assert gone.acquire(timeout=20)
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Agent:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def set_memcg(self, keys: Memcg, peer: Peer) -> None:
        """Refuse the one value that a test wants refused."""
        assert peer.may_write
        if keys.period_secs == 7:
            raise SettingsError("pushed", "another number", found="7", key="memcg.period_secs")
        self.told.append(keys)

    def set_compact(self, keys: Compact, peer: Peer) -> None:
        """Take all."""
        assert peer.may_write
        self.told.append(keys)

    async def add_swap(self, pci_path: str, peer: Peer) -> None:
        """No test asks for one."""
        raise AssertionError(pci_path, peer)

    async def add_swap_path(self, path: str, peer: Peer) -> None:
        """There is none."""
        assert peer.may_write
        answer = NoSuchDevice(wanted=f"path {path}", waited_us=0)
        raise SwapTrouble(answer, f"there is no disk {path}")


def _connect(tmp_path: Path, peer: Peer, *commands: str) -> tuple[int, Agent]:
    agent = Agent()
    audit = Audit(Journal(write=lambda _: None), lambda: Instant(0))
    with _serving(tmp_path / "s", lambda: ttrpc_protocol(agent, peer, audit.refused)):
        flags = [part for each in commands for part in ("--cmd", each)]
        return main(["connect", "--server-address", f"unix:{tmp_path}/s", *flags]), agent


def test_katas_settings_arrive_as_they_were_typed(tmp_path: Path) -> None:
    code, agent = _connect(
        tmp_path,
        MAY_ALL,
        'MemAgentMemcgSet json://{"swap":true,"swappiness_max":60}',
        'MemAgentCompactSet json://{"compact_force_times":18446744073709551615}',
    )
    assert code == 0
    assert agent.told == [
        Memcg(swap=True, swappiness_max=60),
        Compact(compact_force_times=2**64 - 1),
    ]


def test_health_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = _connect(tmp_path, MAY_READ, "Check", "Version")
    said = capsys.readouterr().out
    assert code == 0
    assert said.startswith("Check: SERVING\nVersion: grpc 0.0.1, agent ")


@pytest.mark.parametrize(
    ("command", "peer", "why"),
    [
        ('MemAgentMemcgSet json://{"swappiness_max":300}', MAY_ALL, "INVALID_ARGUMENT: "),
        ('MemAgentMemcgSet json://{"period_secs":7}', MAY_ALL, "INVALID_ARGUMENT: "),
        ('MemAgentMemcgSet json://{"swap":true}', MAY_READ, "PERMISSION_DENIED: "),
        ('AddSwapPath json://{"path":"/dev/vdb"}', MAY_ALL, "INTERNAL: there is no disk /dev/vdb"),
        ("AddSwap", MAY_ALL, "INVALID_ARGUMENT: PCI path must have at least one element"),
    ],
)
def test_katas_refusals_are_told_with_their_codes(
    command: str, peer: Peer, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, agent = _connect(tmp_path, peer, command)
    assert code == 1
    assert why in capsys.readouterr().err
    assert agent.told == []


class Daemon:
    """The service over settings that are real, and a guest that keeps what it is told."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        layers = [Layer(DEFAULT_ORIGIN, DEFAULTS)]
        self.store = SettingsStore(lambda: layers, lambda _: None, PushedFile(f"{folder}/pushed"))
        self.audit = Audit(Journal(write=lambda _: None), lambda: Instant(0))
        guest = Guest(
            status=lambda cgroups: replace(STATUS, cgroups=cgroups),
            whole_status=self._whole_status,
            cgroups=lambda _path: iter(STATUS.cgroups),
            doctor=lambda: REPORT,
            handle=self.events.append,
            why_not_run=lambda _: None,
            clock=lambda: Instant(5_000_000),
        )
        self.service = MemreactService(self.store, guest, Hub(), self.audit)
        self.peer = MAY_ALL

    async def _whole_status(self) -> Status:
        return STATUS

    def protocol(self) -> asyncio.Protocol:
        """Serve one connection."""
        return VarlinkProtocol({self.service.name: self.service}, self.peer, self.audit.refused)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that is asked where no address is given."""
    made = Daemon(tmp_path)
    monkeypatch.setenv("MEMREACT_ADDRESS", f"unix:{tmp_path}/io.memreact")
    with _serving(tmp_path / "io.memreact", made.protocol):
        yield made


def test_what_is_set_is_in_force_and_shown_and_can_be_forgotten(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["set", "memcg.swap=true", "compact.compact_order=7"]) == 0
    assert daemon.store.settings.config.memcg.swap is True
    assert daemon.store.settings.config.compact.compact_order == 7
    assert "memcg.swap: false -> true" in capsys.readouterr().out
    assert main(["diff"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("memcg.swap: false -> true")
    assert main(["get", "memcg.swap"]) == 0
    assert "memcg.swap = true  pushed by a test" in capsys.readouterr().out
    assert main(["unset", "memcg.swap"]) == 0
    assert daemon.store.settings.config.memcg.swap is False
    assert main(["unset", "--all"]) == 0
    assert daemon.store.settings.config == DEFAULTS


def test_a_rule_comes_changes_and_goes(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rule", "add", "/shop", "--numa", "0", "swap=true"]) == 0
    assert main(["rule", "add", "/shop", "--numa", "0", "swap=true"]) == 1
    assert "/shop on node 0 has a rule already" in capsys.readouterr().err
    assert main(["get", "memcg.cgroup"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.split("  ")[0] == "memcg.cgroup[/shop 0].swap = true"
    assert last.endswith("  pushed by a test")
    assert main(["rule", "set", "/shop", "--numa", "0", "period_secs=9"]) == 0
    entry = daemon.store.settings.config.memcg.cgroup[-1]
    assert (entry.swap, entry.period_secs) == (True, 9)
    assert main(["rule", "del", "/shop", "--numa", "0"]) == 0
    assert main(["rule", "del", "/shop", "--numa", "0"]) == 1
    assert "/shop on node 0 has no rule" in capsys.readouterr().err
    assert daemon.store.settings.config == DEFAULTS


def test_a_dry_run_and_a_revision_that_is_not_in_force_change_nothing(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["set", "--dry-run", "memcg.swap=true"]) == 0
    assert "1 would change" in capsys.readouterr().out
    assert main(["set", "--expect-revision", "99", "memcg.swap=true"]) == 1
    assert "is in force, not 99" in capsys.readouterr().err
    assert daemon.store.settings.config == DEFAULTS


def test_operators_events_arrive(daemon: Daemon) -> None:
    for line in ("pause 60 --reason backup", "resume", "run-now /shop", "squeeze --release"):
        assert main(line.split()) == 0
    kinds = [type(event) for event in daemon.events]
    assert kinds == [HoldAsked, ReleaseAsked, RunAsked, SqueezeReleased]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("status", "settings of revision 4"),
        ("status /c03", "memory: current 5 B, min all"),
        ("doctor", "Freed memory cannot go back to the host."),
        ("log-level debug", '"info" -> "debug"'),
    ],
)
def test_other_verbs_are_answered(
    line: str, text: str, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 0
    assert text in capsys.readouterr().out


def test_who_may_only_read_is_told_so(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.peer = MAY_READ
    assert main(["get"]) == 0
    assert main(["set", "memcg.swap=true"]) == 1
    assert "permission denied" in capsys.readouterr().err
    assert daemon.store.settings.config == DEFAULTS
