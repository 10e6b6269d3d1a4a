"""io.memreact, from the bytes on the wire to the settings in force."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import Unsupported
from memreact.actions import Because
from memreact.control.audit import Audit
from memreact.control.guest import Foreseen, Guest, Squeezer, Swapper
from memreact.control.peer import Peer
from memreact.control.service import WATCHERS_MAX, MemreactService
from memreact.control.store import SettingsStore
from memreact.control.varlink import VarlinkProtocol
from memreact.events import Event, HoldAsked, Instant, ReleaseAsked, RunAsked
from memreact.run_dir import PushedFile
from memreact.settings.errors import SettingsError
from memreact.settings.files import load_text
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, Settings
from memreact.swap_trouble import SwapTrouble
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact.telemetry.ledger import Ledger
from memreact.telemetry.recorder import About, Recorder
from memreact.telemetry.squeezes import SqueezeFeed
from memreact_schemas import control, doctor
from memreact_schemas.config import DEFAULTS, U64_MAX, Config, Control, Memcg
from memreact_schemas.control import METHODS, tables_from_wire
from memreact_schemas.explanation import Explanation, HarmStatus, PressureNow
from memreact_schemas.status import (
    CgroupLimits,
    CgroupStatus,
    CgroupUse,
    Counters,
    DecisionRow,
    GuestReading,
    NextEviction,
    Status,
)
from memreact_schemas.swap import (
    AddSwap,
    NoSuchDevice,
    RemoveSwap,
    SwapAdded,
    SwapArea,
    SwapAreas,
    SwapRefused,
    SwapRemoved,
)
from tests.able import ABLE
from tests.conftest import LOOPS
from tests.memreact.control.wire import Client, call, serve, settled
from tests.whole_status import whole_status_of

HOST = Peer("host", may_read=True, may_write=True)
HOST_OVER_VSOCK = Peer("host", may_read=True, may_write=True, over_vsock=True)
READER = Peer("uid 1000", may_read=True, may_write=False)
IO = "io.memreact"
FILE = "/etc/memreact/memreact.toml"
PRESSURE = PressureNow(period_limit_ppm=1, eviction_limit_ppm=2, guest_limit_ppm=3, window_us=4)
NEXT = NextEviction(waits_for="x", text="x")
REPORT = doctor.Report(
    version="1",
    capabilities=ABLE,
    findings=(doctor.Finding(job="evict", status="ok", backend="mglru", detail=""),),
    reaches_host=True,
)
AREA = SwapArea(
    path="/dev/vdc", kind="partition", size_bytes=1 << 20, used_bytes=4096, priority=-2, ours=True
)


class Daemon:
    """What the service stands on: a store without files, and a guest that remembers."""

    def __init__(self, folder: str) -> None:
        self.text = ""
        self.lines: list[str] = []
        self.applied: list[Settings] = []
        self.events: list[Event] = []
        self.why_not: Because | None = None
        self.stock_taken = 0
        self.unreadable = False
        self.host_holds: list[int] = []
        self.swaps: list[AddSwap | RemoveSwap] = []
        self.swap_trouble: SwapTrouble | None = None
        self.swap_may_end = asyncio.Event()
        self.swap_may_end.set()
        self.swaps_left = 0
        self.examined = 0
        self.explaining = self.most_explained = 0
        self.explained: list[str] = []
        self.may_explain = asyncio.Event()
        self.may_explain.set()
        self.foreseen: list[Settings] = []
        self.may_foresee = asyncio.Event()
        self.may_foresee.set()
        self.examining = threading.Event()
        self.examining.set()
        self.hub = Hub()
        self.pushed = PushedFile(f"{folder}/pushed")
        self.store = SettingsStore(self._files, self.applied.append, self.pushed)
        self.audit = Audit(Journal(write=self.lines.append), lambda: Instant(0))
        about = About("1", "6.12", None, lambda: 0)
        self.recorder = Recorder(about, self.store.settings, Instant(0))
        guest = Guest(
            status=self.status,
            whole_status=whole_status_of(self.status, self.cgroups),
            cgroups=self.cgroups,
            doctor=self._doctor,
            handle=self.events.append,
            why_not_run=lambda _: self.why_not,
            clock=lambda: Instant(5_000_000),
            take_stock=self._take_stock,
            host_holds=self.host_holds.append,
            squeezer=self._squeezer(),
            swapper=Swapper(
                self._areas, self._add_swap, self._remove_swap, self._add_at, self._add_at
            ),
            look=self._look,
            kept=self._kept,
            explain=self._explain,
            foresee=self._foresee,
            recorder=self.recorder,
        )
        self.service = MemreactService(self.store, guest, self.hub, self.audit)

    def _files(self) -> list[Layer]:
        return [Layer(DEFAULT_ORIGIN, DEFAULTS), Layer(FILE, load_text(self.text, FILE))]

    def cgroups(self, path: str | None) -> Iterator[CgroupStatus]:
        """Tell of two cgroups, or the one that is asked for."""
        for each in ("/a", "/b"):
            if path in (None, each):
                yield CgroupStatus(
                    path=each, populated=True, frozen=False, counters=Counters(), next_eviction=NEXT
                )

    def status(self, cgroups: tuple[CgroupStatus, ...] = ()) -> Status:
        """Tell of the rest."""
        return Status(
            version="1",
            revision=1,
            now_us=1,
            started_at_us=0,
            doing="resting",
            next_eviction=NEXT,
            counters=Counters(),
            turns=self.stock_taken,
            cgroups=cgroups,
        )

    async def _foresee(self, fresh: Settings) -> Foreseen:
        self.foreseen.append(fresh)
        await self.may_foresee.wait()
        turn = control.WhatIfTurn(at_most_bytes=7)
        return Foreseen(turn, turn, (), 0, None, rate_measured=True)

    async def _explain(self, path: str) -> Explanation | None:
        self.explaining += 1
        self.most_explained = max(self.most_explained, self.explaining)
        await asyncio.sleep(0)
        await self.may_explain.wait()
        self.explained.append(path)
        self.explaining -= 1
        found = next(self.cgroups(path), None)
        if found is None:
            return None
        return Explanation(now_us=1, cgroup=found, pressure=PRESSURE, harm=HarmStatus())

    async def _take_stock(self) -> None:
        await asyncio.sleep(0)
        self.stock_taken += 1

    async def _look(self, paths: Sequence[str]) -> GuestReading:
        await asyncio.sleep(0)
        if self.unreadable:
            raise Unsupported("/proc/meminfo", "no such file")
        uses = tuple(CgroupUse(path=path, limits=CgroupLimits()) for path in paths)
        return GuestReading(at_us=1, total_bytes=2, free_bytes=1, available_bytes=1, cgroups=uses)

    def _kept(self, since: int) -> Iterator[DecisionRow]:
        return (_row(number) for number in range(since + 1, 4))

    def _squeezer(self) -> Squeezer:
        return Squeezer(
            why_not=lambda _: self.why_not,
            handle=self.events.append,
            feed=SqueezeFeed(),
            ledger=Ledger,
            take_stock=self._take_stock,
            swap=lambda: False,
            clock=lambda: Instant(5_000_000),
            page_bytes=4096,
        )

    async def _areas(self) -> SwapAreas:
        await asyncio.sleep(0)
        if self.swap_trouble is not None:
            raise self.swap_trouble
        return SwapAreas(areas=(AREA,), available_bytes=5, kept_bytes=2)

    async def _add_swap(self, call: AddSwap) -> SwapAdded:
        await self._swapped(call)
        return SwapAdded(area=AREA, made=bool(call.make), waited_us=1, took_us=2)

    async def _add_at(self, where: str) -> SwapAdded:
        raise AssertionError(where)  # only Kata's client asks so

    async def _remove_swap(self, call: RemoveSwap) -> SwapRemoved:
        await self._swapped(call)
        return SwapRemoved(area=AREA, took_us=2)

    async def _swapped(self, call: AddSwap | RemoveSwap) -> None:
        try:
            await self.swap_may_end.wait()
        except asyncio.CancelledError:
            self.swaps_left += 1
            raise
        if self.swap_trouble is not None:
            raise self.swap_trouble
        self.swaps.append(call)

    def _doctor(self) -> doctor.Report:
        self.examined += 1
        assert self.examining.wait(20)
        return REPORT

    @asynccontextmanager
    async def serve(self, peer: Peer = HOST) -> AsyncIterator[Client]:
        """Serve a client."""
        protocol = VarlinkProtocol({IO: self.service}, peer, self.audit.refused)
        async with serve(protocol) as client:
            yield client


@pytest.fixture
def daemon(tmp_path: os.PathLike[str]) -> Daemon:
    """One with default settings."""
    return Daemon(os.fspath(tmp_path))


@pytest.mark.asyncio
async def test_settings_are_told_with_their_origins(daemon: Daemon) -> None:
    daemon.text = "[memcg]\nswap = true\n"
    daemon.store.reload()
    async with daemon.serve(READER) as client:
        told = await client.ask(f"{IO}.GetSettings")
    assert told["settings"]["memcg"]["swap"] is True
    assert told["settings"]["compact"]["compact_order"] == "auto"
    assert told["settings"]["compact"]["compact_force_times"] == U64_MAX
    assert told["origins"]["memcg.swap"] == FILE
    assert told["origins"]["memcg.period_secs"] == "default"
    assert told["revision"] == 2
    assert told["problem"] is None
    whole = msgspec.convert(tables_from_wire(told["settings"]), Config)
    assert whole == daemon.store.settings.config


@pytest.mark.asyncio
async def test_a_file_that_is_not_taken_is_told(daemon: Daemon) -> None:
    daemon.text = "[memcg]\nswap = 3\n"
    with pytest.raises(SettingsError):
        daemon.store.reload()
    async with daemon.serve(READER) as client:
        problem = (await client.ask(f"{IO}.GetSettings"))["problem"]
    assert (problem["origin"], problem["key"], problem["line"]) == (FILE, "memcg.swap", 2)
    assert (problem["found"], problem["expected"]) == ("3", "true or false")


@pytest.mark.asyncio
async def test_what_a_restart_would_lose_is_told_with_what_is_in_force(daemon: Daemon) -> None:
    aside = f"{daemon.pushed.path}.new"
    os.mkdir(aside)
    async with daemon.serve(READER) as client:
        assert (await client.ask(f"{IO}.GetSettings"))["unsaved"] is None
        daemon.store.patch(Config(memcg=Memcg(swap=True)), by="host")
        unsaved = (await client.ask(f"{IO}.GetSettings"))["unsaved"]
        assert unsaved == f"{daemon.pushed.path} is not written: Is a directory"
        os.rmdir(aside)
        daemon.store.save_again()
        assert (await client.ask(f"{IO}.GetSettings"))["unsaved"] is None


@pytest.mark.asyncio
async def test_a_patch_is_in_force_when_it_is_answered(daemon: Daemon) -> None:
    patch = {"memcg": {"swap": True, "period_secs": 300}, "compact": {"compact_order": "9"}}
    async with daemon.serve() as client:
        told = await client.ask(f"{IO}.PatchSettings", patch=patch)
        assert daemon.applied[-1].revision == told["revision"] == 2
    config = daemon.store.settings.config
    assert (config.memcg.swap, config.memcg.period_secs) == (True, 300)
    assert config.compact.compact_order == 9
    changed = {each["key"]: (each["before"], each["after"]) for each in told["changed"]}
    assert changed["memcg.swap"] == ("false", "true")
    assert changed["compact.compact_order"] == ('"auto"', "9")
    assert {each["origin"] for each in told["changed"]} == {"pushed by host"}
    line = daemon.lines[-1]
    assert line.startswith("changed peer=host verb=PatchSettings revision=2 keys=3 from=")
    assert "memcg.period_secs=600" in line
    assert "memcg.period_secs=300" in line


@pytest.mark.asyncio
async def test_a_patch_that_changes_nothing_keeps_the_revision(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        told = await client.ask(f"{IO}.PatchSettings", patch={"memcg": {"swap": False}})
    assert (told["revision"], told["changed"]) == (1, [])
    assert daemon.lines == []


@pytest.mark.asyncio
async def test_a_dry_run_tells_and_changes_nothing(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        patch = {"memcg": {"swap": True}}
        told = await client.ask(f"{IO}.PatchSettings", patch=patch, dry_run=True)
    assert [each["key"] for each in told["changed"]] == ["memcg.swap"]
    assert told["revision"] == daemon.store.settings.revision == 1
    assert (daemon.applied, daemon.lines) == ([], [])


@pytest.mark.parametrize(
    ("patch", "key", "found"),
    [
        ({"memcg": {"period_secs": 0}}, "memcg.period_secs", "0"),
        ({"memcg": {"period_secs": -1}}, "memcg.period_secs", "-1"),
        ({"memcg": {"period_secs": 2**31}}, "memcg.period_secs", "2147483648"),
        ({"memcg": {"period_secs": 2**64}}, "memcg.period_secs", "18446744073709551616"),
        ({"memcg": {"period_secs": True}}, "memcg.period_secs", "true"),
        ({"memcg": {"period_secs": "300"}}, "memcg.period_secs", '"300"'),
        ({"memcg": {"period_psi_percent_limit": 100.5}}, "memcg.period_psi_percent_limit", "100.5"),
        ({"compact": {"compact_force_times": 2**64}}, "compact.compact_force_times", None),
        ({"compact": {"compact_order": "nine"}}, "compact.compact_order", '"nine"'),
        ({"compact": {"compact_order": "256"}}, "compact.compact_order", "256"),
        ({"memcg": {"swapp": True}}, "memcg", None),
        ({"memcgs": {}}, None, None),
        ({"memcg": {"cgroup": [{"path": "/../x"}]}}, "memcg.cgroup[0].path", '"/../x"'),
        ({"log": {"level": "loud"}}, "log.level", '"loud"'),
    ],
)
@pytest.mark.asyncio
async def test_a_value_that_cannot_be_taken_is_refused_whole(
    daemon: Daemon, patch: dict[str, dict[str, object]], key: str | None, found: str | None
) -> None:
    whole = {"pressure": {"window_ms": 2000}, **patch}
    async with daemon.serve() as client:
        error, told = await client.fail(f"{IO}.PatchSettings", patch=whole)
    assert error == f"{IO}.SettingsRefused"
    assert (told["origin"], told["key"]) == ("pushed by host", key)
    assert found is None or told["found"] == found
    assert told["expected"]
    assert daemon.store.settings.revision == 1
    assert daemon.applied == []
    assert daemon.lines[-1].startswith("refused peer=host verb=PatchSettings because=")


@pytest.mark.parametrize("never", [2**63 - 1, 2**64 - 1])
@pytest.mark.asyncio
async def test_both_nevers_are_taken_as_they_are(daemon: Daemon, never: int) -> None:
    async with daemon.serve() as client:
        patch = {"compact": {"compact_force_times": never}}
        await client.ask(f"{IO}.PatchSettings", patch=patch)
        told = await client.ask(f"{IO}.GetSettings")
    assert told["settings"]["compact"]["compact_force_times"] == never


@pytest.mark.asyncio
async def test_a_number_past_all_bounds_is_an_invalid_parameter(daemon: Daemon) -> None:
    sent = call(f"{IO}.PatchSettings", {"patch": {"memcg": {"period_secs": 12345}}})
    async with daemon.serve() as client:
        await client.send(sent.replace(b"12345", b"1e400"))
        answer = await client.message()
    assert answer is not None
    assert answer["error"] == "org.varlink.service.InvalidParameter"
    assert answer["parameters"]["parameter"].startswith("patch")


@pytest.mark.asyncio
async def test_another_revision_than_expected_is_a_conflict(daemon: Daemon) -> None:
    patch = {"memcg": {"swap": True}}
    async with daemon.serve() as client:
        asked = await client.fail(f"{IO}.PatchSettings", patch=patch, expected_revision=7)
        assert asked == (f"{IO}.RevisionConflict", {"expected": 7, "actual": 1})
        await client.ask(f"{IO}.PatchSettings", patch=patch, expected_revision=1)
    assert daemon.store.settings.config.memcg.swap is True


@pytest.mark.asyncio
async def test_a_rule_is_added_set_and_deleted(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        rule = {"path": "/shop", "swap": True}
        added = await client.ask(f"{IO}.AddRule", rule=rule)
        assert added["revision"] == 2
        exists = await client.fail(f"{IO}.AddRule", rule=rule)
        assert exists == (f"{IO}.RuleExists", {"path": "/shop", "numa": []})
        await client.ask(f"{IO}.SetRule", rule={"path": "/shop/", "period_secs": 60})
        entry = daemon.store.settings.config.memcg.cgroup[-1]
        assert (entry.path, entry.swap, entry.period_secs) == ("/shop", True, 60)
        await client.ask(f"{IO}.DeleteRule", path="/shop")
        gone = await client.fail(f"{IO}.DeleteRule", path="/shop", numa=[1, 0])
        assert gone == (f"{IO}.NoSuchRule", {"path": "/shop", "numa": [0, 1]})
        error, told = await client.fail(f"{IO}.SetRule", rule={"path": "/shop", "swap": False})
        assert (error, told["path"]) == (f"{IO}.NoSuchRule", "/shop")
    verbs = [line.split()[2] for line in daemon.lines]
    assert [verb.removeprefix("verb=") for verb in verbs] == [
        *("AddRule", "AddRule", "SetRule", "DeleteRule", "DeleteRule", "SetRule")
    ]


@pytest.mark.parametrize("rule", [{"swap": True}, {"path": 3}, {"path": "/a", "swop": True}])
@pytest.mark.asyncio
async def test_a_rule_that_is_none_is_refused(daemon: Daemon, rule: dict[str, object]) -> None:
    async with daemon.serve() as client:
        assert (await client.fail(f"{IO}.AddRule", rule=rule))[0] == f"{IO}.SettingsRefused"
    assert daemon.store.settings.revision == 1


@pytest.mark.asyncio
async def test_what_was_pushed_is_dropped(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        patch = {"memcg": {"swap": True, "period_secs": 60}}
        await client.ask(f"{IO}.PatchSettings", patch=patch)
        await client.ask(f"{IO}.DropPushed", keys=["memcg.swap"])
        assert daemon.store.settings.config.memcg.swap is False
        assert daemon.store.settings.config.memcg.period_secs == 60
        await client.ask(f"{IO}.DropPushed")
    assert daemon.store.settings.config == DEFAULTS


@pytest.mark.asyncio
async def test_who_asks_over_vsock_does_not_close_it(daemon: Daemon) -> None:
    closed = {"control": {"vsock": False}}
    async with daemon.serve(HOST_OVER_VSOCK) as client:
        error, told = await client.fail(f"{IO}.PatchSettings", patch=closed)
        assert (error, told["key"]) == (f"{IO}.SettingsRefused", "control.vsock")
        daemon.text = "[control]\nvsock = false\n"
        daemon.store.patch(Config(control=Control(vsock=True)), by="root")
        daemon.store.reload()
        assert (await client.fail(f"{IO}.DropPushed"))[0] == f"{IO}.SettingsRefused"
    async with daemon.serve() as client:
        await client.ask(f"{IO}.DropPushed")
    assert daemon.store.settings.config.control.vsock is False


@pytest.mark.asyncio
async def test_the_log_level_is_a_setting(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        assert (await client.ask(f"{IO}.SetLogLevel", level="debug"))["revision"] == 2
        error = await client.fail(f"{IO}.SetLogLevel", level="loud")
        assert error == ("org.varlink.service.InvalidParameter", {"parameter": "level"})
    assert daemon.store.settings.config.log.level == "debug"


@pytest.mark.asyncio
async def test_status_is_of_all_or_of_one_or_of_no_cgroup(daemon: Daemon) -> None:
    async with daemon.serve(READER) as client:

        async def paths(**asked: object) -> list[str]:
            told = await client.ask(f"{IO}.GetStatus", **asked)
            return [each["path"] for each in told["status"]["cgroups"]]

        assert await paths() == ["/a", "/b"]
        assert await paths(path="/b/") == ["/b"]
        assert await paths(cgroups=False) == []
        assert await paths(path="/b", cgroups=False) == []
        error = await client.fail(f"{IO}.GetStatus", path="/c")
        assert error == (f"{IO}.NotPossible", {"why": "there is no cgroup /c"})
        error = await client.fail(f"{IO}.GetStatus", path="/a/../b")
        assert error == ("org.varlink.service.InvalidParameter", {"parameter": "path"})


@pytest.mark.asyncio
async def test_settings_are_written_once_for_all_who_ask_until_they_change(daemon: Daemon) -> None:
    def told() -> object:
        return daemon.service.answer("GetSettings", control.GetSettings(), READER)

    first = told()
    assert told() is first
    daemon.store.patch(Config(memcg=Memcg(swap=True)), by="host")
    second = told()
    assert second is not first
    assert told() is second
    daemon.text = "nonsense"
    with pytest.raises(SettingsError):
        daemon.store.reload()
    assert told() is not second


@pytest.mark.parametrize(("peer", "at_once"), [(READER, 1), (HOST, 3)])
@pytest.mark.asyncio
async def test_status_is_gathered_for_one_reader_at_a_time(
    daemon: Daemon, peer: Peer, at_once: int
) -> None:
    gathering: list[int] = []
    most = 0

    def cgroups(_: str | None) -> Iterator[CgroupStatus]:
        nonlocal most
        gathering.append(1)
        most = max(most, len(gathering))
        yield from list(daemon.cgroups(None)) * 100
        gathering.pop()

    gather = whole_status_of(daemon.status, cgroups)
    daemon.service._guest = daemon.service._guest._replace(whole_status=gather)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(daemon.serve(peer)) for _ in range(3)]
        for client in clients:
            await client.send(call(f"{IO}.GetStatus"))
        for client in clients:
            answer = await client.message()
            assert answer is not None
            assert len(answer["parameters"]["status"]["cgroups"]) == 200
    assert most == at_once


@pytest.mark.asyncio
async def test_what_other_settings_would_come_to_is_told_and_they_are_not_in_force(
    daemon: Daemon,
) -> None:
    async with daemon.serve(READER) as client:
        answer = await client.ask(f"{IO}.WhatIf", patch={"memcg": {"swap": True}})
        name, said = await client.fail(f"{IO}.WhatIf", patch={"memcg": {"period_secs": 0}})
    assert answer["then"]["at_most_bytes"] == 7
    assert [each["key"] for each in answer["changed"]] == ["memcg.swap"]
    assert [each.config.memcg.swap for each in daemon.foreseen] == [True]
    assert (name, said["key"]) == (f"{IO}.SettingsRefused", "memcg.period_secs")
    assert daemon.store.settings.config == DEFAULTS
    assert (daemon.applied, daemon.events) == ([], [])


@pytest.mark.asyncio
async def test_of_readers_one_at_a_time_asks_what_other_settings_would_come_to(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, made = {"patch": {"memcg": {"swap": True}}}, 0
    foresee = daemon.store.foresee

    def counted(patch: Config, *, by: str) -> Settings:
        nonlocal made
        made += 1
        return foresee(patch, by=by)

    monkeypatch.setattr(daemon.store, "foresee", counted)
    daemon.may_foresee.clear()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(daemon.serve(READER))
        await first.send(call(f"{IO}.WhatIf", asked))
        await settled()
        for _ in range(5):
            other = await stack.enter_async_context(daemon.serve(READER))
            error = await other.fail(f"{IO}.WhatIf", **asked)
            assert error == (f"{IO}.NotPossible", {"why": "another what-if is being answered"})
        assert made == 1
        writer = await stack.enter_async_context(daemon.serve())
        await writer.send(call(f"{IO}.WhatIf", asked))
        await settled()
        assert (made, len(daemon.foreseen)) == (2, 1)  # it waits its turn
        daemon.may_foresee.set()
        for client in (first, writer):
            answer = await client.message()
            assert answer is not None
            assert answer["parameters"]["then"]["at_most_bytes"] == 7
        await first.ask(f"{IO}.WhatIf", **asked)


@pytest.mark.asyncio
async def test_a_reader_that_asks_and_leaves_makes_no_room_before_the_look_is_over(
    daemon: Daemon,
) -> None:
    asked = {"patch": {"memcg": {"swap": True}}}
    daemon.may_foresee.clear()
    async with daemon.serve(READER) as client:
        await client.send(call(f"{IO}.WhatIf", asked))
        await settled()
    await settled()
    async with daemon.serve(READER) as client:
        assert (await client.fail(f"{IO}.WhatIf", **asked))[0] == f"{IO}.NotPossible"
        assert len(daemon.foreseen) == 1
        daemon.may_foresee.set()
        await settled()
        await client.ask(f"{IO}.WhatIf", **asked)


@pytest.mark.asyncio
async def test_cgroups_are_explained_to_one_after_the_other(daemon: Daemon) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(daemon.serve(READER)) for _ in range(3)]
        for client in clients:
            await client.send(call(f"{IO}.Explain", {"path": "a/"}))
        for client in clients:
            answer = await client.message()
            assert answer is not None
            assert answer["parameters"]["explanation"]["cgroup"]["path"] == "/a"
    assert daemon.most_explained == 1


@pytest.mark.asyncio
async def test_whoever_may_write_waits_for_one_reader_at_the_most(daemon: Daemon) -> None:
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(daemon.serve(READER)) for _ in range(5)]
        writer = await stack.enter_async_context(daemon.serve())
        daemon.may_explain.clear()
        for reader in readers:
            await reader.send(call(f"{IO}.Explain", {"path": "/a"}))
        await settled()
        await writer.send(call(f"{IO}.Explain", {"path": "/b"}))
        await settled()
        daemon.may_explain.set()
        for client in (*readers, writer):
            assert await client.message() is not None
    assert daemon.explained.index("/b") == 1


@pytest.mark.parametrize(
    ("path", "told"), [("/x", "no_such_cgroup: /x"), ("/../x", "InvalidParameter")]
)
@pytest.mark.asyncio
async def test_what_is_no_cgroup_is_not_explained(daemon: Daemon, path: str, told: str) -> None:
    async with daemon.serve(READER) as client:
        await client.send(call(f"{IO}.Explain", {"path": path}))
        assert told in str(await client.message())


@pytest.mark.asyncio
async def test_doctor_looks_on_a_thread_and_once_for_all_who_ask(daemon: Daemon) -> None:
    daemon.examining.clear()
    async with daemon.serve(READER) as first, daemon.serve(READER) as second:
        await first.send(call(f"{IO}.GetDoctor"))
        await second.send(call(f"{IO}.GetDoctor"))
        async with daemon.serve(READER) as third:
            await third.ask(f"{IO}.GetSettings")
        daemon.examining.set()
        for client in (first, second):
            answer = await client.message()
            assert answer is not None
            report = msgspec.convert(answer["parameters"]["report"], doctor.Report)
            assert report == REPORT
        assert daemon.examined == 1
        await first.ask(f"{IO}.GetDoctor")
    assert daemon.examined == 2


@pytest.mark.asyncio
async def test_a_pause_ends_at_a_moment_that_is_told(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        told = await client.ask(f"{IO}.Pause", seconds=60, reason="benchmark")
        assert told == {"until_us": 65_000_000}
        await client.ask(f"{IO}.Resume")
    assert daemon.events == [
        HoldAsked(Instant(65_000_000), "host", "benchmark"),
        ReleaseAsked("host"),
    ]
    assert daemon.lines == [
        "asked peer=host verb=Pause seconds=60 reason=benchmark\n",
        "asked peer=host verb=Resume\n",
    ]


@pytest.mark.parametrize("seconds", [0, -1, 86_401, 2**63, 1.5, "60", None])
@pytest.mark.asyncio
async def test_a_pause_that_would_not_end_is_refused(daemon: Daemon, seconds: object) -> None:
    async with daemon.serve() as client:
        error = await client.fail(f"{IO}.Pause", seconds=seconds)
        assert error == ("org.varlink.service.InvalidParameter", {"parameter": "seconds"})
    assert daemon.events == []


@pytest.mark.asyncio
async def test_a_turn_is_asked_for_or_told_why_it_cannot_be(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        await client.ask(f"{IO}.RunNow")
        await client.ask(f"{IO}.RunNow", path="shop")
        assert daemon.events == [RunAsked(None, "host"), RunAsked("/shop", "host")]
        daemon.why_not = Because("paused", {"detail": "stall_over_limit"})
        error = await client.fail(f"{IO}.RunNow")
        assert error == (f"{IO}.NotPossible", {"why": "paused: stall_over_limit"})
        daemon.why_not = Because("turn_under_way")
        assert (await client.fail(f"{IO}.RunNow"))[1] == {"why": "turn_under_way"}
    assert len(daemon.events) == 2
    assert daemon.lines[-1] == "refused peer=host verb=RunNow because=turn_under_way\n"


def _row(number: int) -> DecisionRow:
    return DecisionRow(number=number, at_us=number, verdict="turn", because="due")


async def _watch(client: Client, **what: object) -> None:
    await client.send(call(f"{IO}.Watch", what, more=True))
    await settled()


@pytest.mark.asyncio
async def test_decisions_are_followed_as_they_are_made(daemon: Daemon) -> None:
    async with daemon.serve(READER) as client:
        await _watch(client)
        for number in range(3):
            daemon.hub.publish(_row(number))
        daemon.hub.publish(daemon.status(tuple(daemon.cgroups(None))))
        daemon.hub.publish(_row(3))
        for number in range(4):
            answer = await client.message()
            assert answer is not None
            assert answer["continues"] is True
            told = answer["parameters"]
            assert (told["decision"]["number"], told["status"], told["dropped"]) == (
                number,
                None,
                0,
            )
    await settled()
    assert daemon.hub.subscribers == 0


@pytest.mark.asyncio
async def test_what_is_kept_is_told_first_to_whoever_says_what_they_know(daemon: Daemon) -> None:
    async with daemon.serve(READER) as client:
        await _watch(client, since=1)
        daemon.hub.publish(_row(4))
        numbers = []
        for _ in range(3):
            answer = await client.message()
            assert answer is not None
            numbers.append(answer["parameters"]["decision"]["number"])
        assert numbers == [2, 3, 4]


@pytest.mark.parametrize(("cgroups", "told"), [(10, 256), (1_000, 2_000), (100_000, 8192)])
@pytest.mark.asyncio
async def test_two_turns_of_all_cgroups_may_wait_to_be_read(
    daemon: Daemon, cgroups: int, told: int
) -> None:
    daemon.service._guest = daemon.service._guest._replace(cgroups_total=lambda: cgroups)
    async with daemon.serve(READER) as client:
        await _watch(client)
        for number in range(1, 10_001):
            daemon.hub.publish(_row(number))
        answer = await client.message()
    assert answer is not None
    assert answer["parameters"]["dropped"] == 10_000 - told
    assert answer["parameters"]["decision"]["number"] == 10_001 - told


@pytest.mark.asyncio
async def test_a_look_reads_the_use_of_the_cgroups_that_are_named(daemon: Daemon) -> None:
    async with daemon.serve(READER) as client:
        told = await client.ask(f"{IO}.Look", paths=["/a", "a/", "/b"])
        assert [each["path"] for each in told["reading"]["cgroups"]] == ["/a", "/b"]
        assert (await client.ask(f"{IO}.Look"))["reading"]["cgroups"] == []


@pytest.mark.asyncio
async def test_a_look_out_of_the_tree_or_at_too_many_is_refused(daemon: Daemon) -> None:
    async with daemon.serve(READER) as client:
        for paths in (["/../etc"], ["/a"] * (control.LOOK_CGROUPS_MAX + 1)):
            error, _ = await client.fail(f"{IO}.Look", paths=paths)
            assert error == "org.varlink.service.InvalidParameter"


@pytest.mark.asyncio
async def test_a_look_at_what_cannot_be_read_says_so(daemon: Daemon) -> None:
    daemon.unreadable = True
    async with daemon.serve(READER) as client:
        error, said = await client.fail(f"{IO}.Look")
        assert (error, "/proc/meminfo" in said["why"]) == (f"{IO}.NotPossible", True)


@pytest.mark.asyncio
async def test_status_is_followed_from_how_things_stand(daemon: Daemon) -> None:
    async with daemon.serve(READER) as client:
        await _watch(client, decisions=False, status=True)
        first = await client.message()
        assert first is not None
        assert first["parameters"]["status"]["cgroups"] == []
        daemon.hub.publish(_row(1))
        daemon.hub.publish(daemon.status(tuple(daemon.cgroups("/a"))))
        second = await client.message()
        assert second is not None
        assert second["parameters"]["status"]["cgroups"][0]["path"] == "/a"


@pytest.mark.asyncio
async def test_a_reader_that_is_too_slow_misses_the_oldest_and_is_told(daemon: Daemon) -> None:
    async with daemon.serve(READER) as client:
        await _watch(client)
        for number in range(50_000):
            daemon.hub.publish(_row(number))
            if number % 1000 == 0:
                await settled()
        numbers: list[int] = []
        dropped = 0
        while not numbers or numbers[-1] < 49_999:
            answer = await client.message()
            assert answer is not None
            numbers.append(answer["parameters"]["decision"]["number"])
            dropped = answer["parameters"]["dropped"]
        assert numbers == sorted(numbers)
        assert dropped == 50_000 - len(numbers) > 0
        assert daemon.hub.dropped == dropped


@pytest.mark.asyncio
async def test_readers_leave_some_places_to_those_who_may_write(daemon: Daemon) -> None:
    for _ in range(WATCHERS_MAX - 4):
        daemon.hub.subscribe(lambda: 1, lambda: None)
    async with daemon.serve(READER) as client:
        await client.send(call(f"{IO}.Watch", more=True))
        answer = await client.message()
        assert answer is not None
        assert answer["error"] == f"{IO}.NotPossible"
    async with daemon.serve(HOST) as client:
        await _watch(client, decisions=False, status=True)
        answer = await client.message()
        assert answer is not None
        assert "error" not in answer


@pytest.mark.asyncio
async def test_no_more_than_some_can_watch(daemon: Daemon) -> None:
    for _ in range(WATCHERS_MAX):
        daemon.hub.subscribe(lambda: 1, lambda: None)
    async with daemon.serve() as client:
        await client.send(call(f"{IO}.Watch", more=True))
        answer = await client.message()
        assert answer is not None
        assert answer["error"] == f"{IO}.NotPossible"
        await client.send(call(f"{IO}.Watch", {"decisions": False}, more=True))
        answer = await client.message()
        assert answer is not None
        assert "nothing to watch" in answer["parameters"]["why"]


PARAMETERS: dict[str, dict[str, object]] = {
    "PatchSettings": {"patch": {}},
    "AddRule": {"rule": {"path": "/a"}},
    "SetRule": {"rule": {"path": "/a"}},
    "DeleteRule": {"path": "/a"},
    "Explain": {"path": "/a"},
    "Pause": {"seconds": 1},
    "SetLogLevel": {"level": "info"},
    "HostHolds": {"held_bytes": 5},
    "WhatIf": {"patch": {"memcg": {"swap": True}}},
    "Squeeze": {"held_percent": 50, "deadline_seconds": 5},
    "AddSwap": {"serial": "memreact-swap0"},
    "RemoveSwap": {"path": "/dev/vdc"},
}


@pytest.mark.parametrize("cgroups", [None, False])
@pytest.mark.asyncio
async def test_stock_is_taken_before_a_status_that_wants_the_ledger(
    daemon: Daemon, *, cgroups: bool | None
) -> None:
    async with daemon.serve(READER) as client:
        told = await client.ask(f"{IO}.GetStatus", cgroups=cgroups)
        assert told["status"]["turns"] == 0
        told = await client.ask(f"{IO}.GetStatus", cgroups=cgroups, ledger=True)
        assert told["status"]["turns"] == 1
        assert len(told["status"]["cgroups"]) == (0 if cgroups is False else 2)


@pytest.mark.asyncio
async def test_what_the_host_holds_is_taken_in(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        await client.ask(f"{IO}.HostHolds", held_bytes=2**40)
    assert daemon.host_holds == [2**40]
    assert daemon.lines == []


@pytest.mark.asyncio
async def test_where_no_ledger_is_kept_that_is_said(daemon: Daemon) -> None:
    guest = daemon.service._guest._replace(**Guest._field_defaults)
    daemon.service._guest = guest
    async with daemon.serve() as client:
        for method, parameters in (
            ("GetStatus", {"ledger": True}),
            ("HostHolds", {"held_bytes": 1}),
            ("ListSwap", {}),
            ("AddSwap", {"serial": "memreact-swap0"}),
            ("RemoveSwap", {"serial": "memreact-swap0"}),
        ):
            await client.send(call(f"{IO}.{method}", parameters))
            answer = await client.message()
            assert answer is not None
            assert answer["error"] == f"{IO}.NotPossible"


@pytest.mark.asyncio
async def test_a_disk_becomes_swap_and_who_asked_is_told_in_the_journal(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        told = await client.ask(f"{IO}.AddSwap", serial="memreact-swap0", make=True, priority=5)
    assert daemon.swaps == [AddSwap(serial="memreact-swap0", make=True, priority=5)]
    assert (told["made"], told["area"]["path"]) == (True, "/dev/vdc")
    (line,) = daemon.lines
    assert line == "asked peer=host verb=AddSwap serial=memreact-swap0 make=True priority=5\n"


@pytest.mark.asyncio
async def test_why_no_disk_became_swap_is_an_error_of_its_own_and_a_line(daemon: Daemon) -> None:
    answer = NoSuchDevice(wanted="serial memreact-swap0", waited_us=3)
    daemon.swap_trouble = SwapTrouble(answer, "no such disk")
    async with daemon.serve() as client:
        for method in ("AddSwap", "RemoveSwap"):
            error, told = await client.fail(f"{IO}.{method}", serial="memreact-swap0")
            assert error == f"{IO}.NoSuchDevice"
            assert told == {"wanted": "serial memreact-swap0", "waited_us": 3}
    refused = [line for line in daemon.lines if line.startswith("refused ")]
    assert refused[0] == 'refused peer=host verb=AddSwap because="no such disk"\n'
    assert len(refused) == 2


@pytest.mark.asyncio
async def test_why_swap_cannot_be_listed_is_told(daemon: Daemon) -> None:
    answer = SwapRefused(path="/proc/swaps", doing="looking at swap", errno=5, why="x")
    daemon.swap_trouble = SwapTrouble(answer, "it cannot be read")
    async with daemon.serve(READER) as client:
        error, told = await client.fail(f"{IO}.ListSwap")
    assert (error, told["path"]) == (f"{IO}.SwapRefused", "/proc/swaps")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("method", ["AddSwap", "RemoveSwap"])
@pytest.mark.asyncio
async def test_who_leaves_before_it_is_done_ends_it(
    daemon: Daemon, method: str, *, half: bool
) -> None:
    daemon.swap_may_end.clear()
    async with daemon.serve() as client:
        await client.send(call(f"{IO}.{method}", {"serial": "memreact-swap0"}))
        await settled()
        assert daemon.swaps_left == 0
        if half:
            client.stream.shutdown(socket.SHUT_WR)
        else:
            client.stream.close()
        await settled()
        assert daemon.swaps_left == 1
    assert daemon.swaps == []


@pytest.mark.asyncio
async def test_who_leaves_in_the_moment_of_asking_leaves_nothing(daemon: Daemon) -> None:
    async with daemon.serve() as client:
        await client.send(call(f"{IO}.AddSwap", {"serial": "memreact-swap0"}))
        client.stream.close()
        await settled()
    assert len(daemon.swaps) <= 1


@pytest.mark.parametrize(
    ("method", "parameters", "wrong"),
    [
        ("AddSwap", {}, "serial"),
        ("AddSwap", {"make": True}, "serial"),
        ("AddSwap", {"serial": "vdb"}, "serial"),
        ("AddSwap", {"path": "/dev/sda"}, "path"),
        ("AddSwap", {"pci_path": "20/00"}, "pci_path"),
        ("AddSwap", {"uuid": "x"}, "uuid"),
        ("AddSwap", {"serial": "memreact-a", "priority": 40000}, "priority"),
        ("AddSwap", {"serial": "memreact-a", "discard": "all"}, "discard"),
        ("RemoveSwap", {"deadline_seconds": 5}, "serial"),
        ("RemoveSwap", {"path": "/dev/vdc", "deadline_seconds": 0}, "deadline_seconds"),
    ],
)
@pytest.mark.asyncio
async def test_what_names_no_disk_that_may_be_taken_asks_nobody(
    daemon: Daemon, method: str, parameters: dict[str, object], wrong: str
) -> None:
    async with daemon.serve() as client:
        error, told = await client.fail(f"{IO}.{method}", **parameters)
    assert (error, told) == ("org.varlink.service.InvalidParameter", {"parameter": wrong})
    assert daemon.swaps == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.asyncio
async def test_who_may_only_read_may_call_what_only_asks(daemon: Daemon, method: str) -> None:
    async with daemon.serve(READER) as client:
        await client.send(
            call(f"{IO}.{method}", PARAMETERS.get(method), more=METHODS[method].streams)
        )
        if method == "Watch":
            await settled()
            daemon.hub.publish(_row(1))
        answer = await client.message()
    assert answer is not None
    denied = answer.get("error") == "org.varlink.service.PermissionDenied"
    assert denied == METHODS[method].writes
    assert [f"verb={method} " in line for line in daemon.lines] == [True] * denied
    assert (daemon.events, daemon.applied) == ([], [])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.asyncio
async def test_every_method_answers_as_its_struct_says(daemon: Daemon, method: str) -> None:
    await asyncio.sleep(0)
    async with daemon.serve() as client:
        await client.ask(f"{IO}.AddRule", rule={"path": "/a"})
        parameters = {**PARAMETERS.get(method, {})}
        if method == "AddRule":
            parameters = {"rule": {"path": "/b"}}
        await client.send(call(f"{IO}.{method}", parameters, more=METHODS[method].streams))
        if method == "Watch":
            await settled()
            daemon.hub.publish(_row(1))
        answer = await client.message()
    assert answer is not None
    assert "error" not in answer
    msgspec.convert(answer["parameters"], METHODS[method].answer)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["", "/a", "auto", "9", "memcg.swap", "memcg.cgroup[/a]", "é", "a\nb"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["path", "numa", "memcg", "swap", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)
NAMES = sorted({name for method in METHODS.values() for name in method.call.__struct_fields__})


@st.composite
def anything_asked(draw: st.DrawFn) -> bytes:
    """A call of any method, with parameters that may be right."""
    method = draw(st.sampled_from(list(METHODS)))
    parameters = dict(PARAMETERS.get(method, {}))
    parameters |= draw(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2))
    return call(f"{IO}.{method}", parameters)


@pytest.mark.parametrize("loop", LOOPS)
@given(calls=st.lists(anything_asked(), min_size=1, max_size=5))
def test_anything_that_is_asked_is_answered_and_the_settings_stay_whole(
    loop: str, calls: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def main(daemon: Daemon) -> None:
        async with daemon.serve() as client:
            await client.send(b"".join(calls))
            for _ in calls:
                answer = await client.message()
                assert answer is not None
                revision = answer["parameters"].get("revision", daemon.store.settings.revision)
                assert revision <= daemon.store.settings.revision
            told = await client.ask(f"{IO}.GetSettings")
        whole = msgspec.convert(tables_from_wire(told["settings"]), Config)
        assert whole == daemon.store.settings.config
        in_force = [settings.revision for settings in daemon.applied]
        assert in_force == list(range(2, 2 + len(in_force)))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        folder = os.fspath(tmp_path_factory.mktemp("run"))
        runner.run(_with_daemon(folder, main))


async def _with_daemon(folder: str, main: Callable[[Daemon], Awaitable[None]]) -> None:
    await main(Daemon(folder))
