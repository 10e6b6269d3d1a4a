"""The host's view against the service and the ledger that the daemon really has."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from memreact.account import Account, ZoneAccount
from memreact.bookkeeper import Bookkeeper
from memreact.control.audit import Audit
from memreact.control.guest import Guest
from memreact.control.service import MemreactService
from memreact.control.store import SettingsStore
from memreact.control.varlink import VarlinkProtocol
from memreact.events import Instant
from memreact.policy.state import State
from memreact.rules import rules_from
from memreact.run_dir import PushedFile
from memreact.settings.layers import DEFAULT_ORIGIN, Layer
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact.telemetry.status import Surroundings, status_of
from memreact_schemas.config import DEFAULTS
from memreact_schemas.status import CgroupStatus, Status
from memreact_tools.ctl.__main__ import main as ctl
from memreact_tools.host import view as under_test
from memreact_tools.host.__main__ import main
from tests.tools.ctl.test_against_the_daemon import MAY_ALL, MAY_READ, _serving
from tests.tools.host.processes import process
from tests.whole_status import whole_status_of

MIB, GIB = 1 << 20, 1 << 30
RULES = rules_from(DEFAULTS)


class Served:
    """A service with a ledger of a guest of 1 GiB, made on the loop that serves it."""

    def __init__(self, folder: Path) -> None:
        self.reads = 0
        self.peer = MAY_ALL
        layers = [Layer(DEFAULT_ORIGIN, DEFAULTS)]
        self._store = SettingsStore(lambda: layers, lambda _: None, PushedFile(f"{folder}/pushed"))
        self._audit = Audit(Journal(write=lambda _: None), self._clock)
        self._service: MemreactService | None = None

    def _read(self) -> tuple[Account, int]:
        self.reads += 1
        zone = ZoneAccount((30 * MIB, 0, 570 * MIB), 560 * MIB, enough_free=True)
        at = Instant(self.reads * 3_600_000_000)
        return Account(at, 980 * MIB, True, 2, 2, (zone,)), 0  # noqa: FBT003  # positional

    def _clock(self) -> Instant:
        return Instant(9)

    def protocol(self) -> asyncio.Protocol:
        """Serve one connection."""
        if self._service is None:
            self._service = self._made(asyncio.get_running_loop())
        return VarlinkProtocol({self._service.name: self._service}, self.peer, self._audit.refused)

    def _made(self, loop: asyncio.AbstractEventLoop) -> MemreactService:
        books = Bookkeeper(loop, self._read, self._clock)

        def status(cgroups: tuple[CgroupStatus, ...]) -> Status:
            around = Surroundings("1", Instant(0), ledger=books.status(RULES))
            return status_of(State(), RULES, self._clock(), around, cgroups)

        guest = Guest(
            status=status,
            whole_status=whole_status_of(status, lambda _path: iter(())),
            cgroups=lambda _path: iter(()),
            doctor=lambda: (_ for _ in ()).throw(AssertionError),
            handle=lambda _event: None,
            why_not_run=lambda _: None,
            clock=self._clock,
            take_stock=books.take_stock,
            host_holds=books.host_holds,
        )
        return MemreactService(self._store, guest, Hub(), self._audit)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A guest, and a host that holds 450 MiB of it."""
    mapped = (1 << 20, 450 << 10, 450 << 10, 0)
    process(tmp_path / "proc", 7, ["qemu-system-x86_64", "-name", "shop", "-m", "1024"], mapped)
    look = under_test.view
    monkeypatch.setattr(under_test, "view", lambda asked: look(asked, proc=f"{tmp_path}/proc"))
    return Served(tmp_path)


def test_each_look_takes_stock_and_the_hours_grow(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _serving(tmp_path / "s", served.protocol):
        for _ in range(2):
            assert main(["view", "--json", f"pid:7=unix:{tmp_path}/s"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert served.reads == 2
    assert (first[0]["reported_bytes"], first[0]["reportable_bytes"]) == (560 * MIB, 570 * MIB)
    assert first[0]["gib_hours"] == 0
    assert second[0]["gib_hours"] == pytest.approx(560 / 1024)
    assert second[0]["because_bytes"] == {
        "in_use": 424 * MIB,
        "fragmented": 30 * MIB,
        "not_told_yet": 10 * MIB,
        "never_touched": -14 * MIB,
    }


def test_what_the_host_tells_is_in_the_guests_status(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _serving(tmp_path / "s", served.protocol):
        assert main(["view", "--tell", f"pid:7=unix:{tmp_path}/s"]) == 0
        mapped = (1 << 20, 150 << 10, 150 << 10, 0)
        process(tmp_path / "later", 7, ["qemu-system-x86_64"], mapped)
        smaps = (tmp_path / "later/7/smaps").read_text()
        (tmp_path / "proc/7/smaps").write_text(smaps)
        capsys.readouterr()
        assert main(["view", "--tell", "--json", f"pid:7=unix:{tmp_path}/s"]) == 0
        (told,) = json.loads(capsys.readouterr().out)
        assert told["returned_bytes"] == 300 * MIB
        assert ctl(["--address", f"unix:{tmp_path}/s", "--json", "status"]) == 0
    ledger = json.loads(capsys.readouterr().out)["status"]["ledger"]
    assert (ledger["host_holds_bytes"], ledger["host_said_at_us"]) == (150 * MIB, 9)


def test_who_may_only_read_tells_nothing(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.peer = MAY_READ
    with _serving(tmp_path / "s", served.protocol):
        assert main(["view", f"pid:7=unix:{tmp_path}/s"]) == 0
        assert main(["view", "--tell", f"pid:7=unix:{tmp_path}/s"]) == 1
    assert "permission denied" in capsys.readouterr().out
