"""What is fuzzed: all that reads bytes of the kernel, of callers, of files, or of a guest.

A target takes any bytes. It may refuse them by the one error that its module documents; anything
else that it raises is a finding. What was read is put to use where there is a use for it.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import msgspec

from kernelio import (
    boot,
    buddy,
    cgroup,
    compaction,
    folio,
    inotify,
    memcg,
    meminfo,
    mglru,
    node,
    page_reporting,
    pagetypeinfo,
    process,
    psi,
    swap,
    swap_header,
    taskstats,
)
from kernelio.errors import KernelioError
from memreact import check
from memreact.control.scrape import ScrapeProtocol, Scrapes
from memreact.control.ttrpc_frames import Framer
from memreact.rules import rules_of
from memreact.settings.boot import boot_settings
from memreact.settings.errors import SettingsError
from memreact.settings.files import load_text
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, settle
from memreact_schemas import agent, recording
from memreact_schemas.config import DEFAULTS, Config
from memreact_schemas.control import METHODS, StatusAnswer, tables_from_wire
from memreact_schemas.protobuf import ProtobufError, Table, decode, encode
from memreact_schemas.trace import Stepped
from memreact_tools.address import AddressError, parse_address
from memreact_tools.ctl import varlink_client
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused
from memreact_tools.decoding import decoded
from memreact_tools.host.kata_file import KataFile, Unreadable, findings, set_option
from memreact_tools.host.kata_options import OPTIONS, BadValue
from memreact_tools.host.toml_text import CannotEdit
from tests.memreact.control.test_service import IO, Daemon
from tests.memreact.control.test_varlink import READER, Served
from tests.memreact.control.ttrpc_ends import Agent, call, calling
from tests.memreact.control.wire import serve, settled

__all__ = ["TARGETS", "Check"]

Check: TypeAlias = Callable[[bytes], None]
"""Takes any bytes; raises where there is something to mend."""

_PATH = "/fuzzed"
_PIECE = 97
_PATIENCE_S = 20.0


# ---- what the kernel prints ----------------------------------------------------------------------


def _kernel(parse: Callable[[bytes], object], data: bytes) -> None:
    with suppress(KernelioError):
        parse(data)


def _text(parse: Callable[[str, str], object]) -> Check:
    return partial(_kernel, lambda data: parse(os.fsdecode(data), _PATH))


def _bytes(parse: Callable[[bytes, str], object]) -> Check:
    return partial(_kernel, lambda data: parse(data, _PATH))


def _lru_gen(data: bytes) -> object:
    return list(mglru.parse_lru_gen(data.splitlines(keepends=True), _PATH))


KERNEL: Mapping[str, Check] = {
    "boot_release": _text(boot.parse_release),
    "boot_lockdown": _text(boot.parse_lockdown),
    "buddyinfo": _text(buddy.parse_buddyinfo),
    "capabilities": _text(process.parse_capabilities),
    "cgroup_events": _bytes(cgroup.parse_cgroup_events),
    "cpu": _text(lambda text, path: process.parse_cpu_us(text, path, 100)),
    "flat_keyed": _bytes(cgroup.parse_flat_keyed),
    "folio_choice": _text(folio.parse_choice),
    "folio_size": _text(folio.parse_size),
    "inotify": partial(_kernel, inotify.parse_events),
    "lru_gen": partial(_kernel, _lru_gen),
    "lru_gen_enabled": _bytes(mglru.parse_enabled),
    "meminfo": _text(meminfo.parse_meminfo),
    "memory_amount": _bytes(memcg.parse_amount),
    "memory_events": _bytes(memcg.parse_memory_events),
    "memory_stat": _bytes(memcg.parse_memory_stat),
    "mountinfo": _bytes(cgroup.parse_mountinfo),
    "node_list": _text(node.parse_list),
    "pagetypeinfo": _text(pagetypeinfo.parse_movable),
    "pressure": _bytes(psi.parse_pressure),
    "smaps_rollup": _text(process.parse_smaps_rollup),
    "swap_header": _bytes(swap_header.parse_swap_header),
    "swaps": _text(swap.parse_swaps),
    "switches": _text(process.parse_voluntary_switches),
    "taskstats": partial(_kernel, taskstats.parse_delays),
    "vmstat": _text(compaction.parse_counters),
    "zoneinfo": _text(page_reporting.parse_zoneinfo),
    "zram": _text(swap.parse_zram_mm_stat),
}


# ---- what people and callers write ---------------------------------------------------------------


def settings_file(data: bytes) -> None:
    """A settings file, ours or Kata's: refused with a place, or it makes rules and reads back."""
    text = data.decode(errors="replace")
    with suppress(SettingsError):
        _is_usable(load_text(text, _PATH))


def boot_line(data: bytes) -> None:
    """The kernel's command line: never refused, bad words are passed over."""
    _is_usable(boot_settings(boot.parse_cmdline(os.fsdecode(data))).config)


def patch(data: bytes) -> None:
    """The parameters of PatchSettings, as JSON."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        call = msgspec.json.decode(data, type=METHODS["PatchSettings"].call)
        tables = tables_from_wire(msgspec.to_builtins(call)["patch"])
        with suppress(SettingsError, msgspec.ValidationError):
            _is_usable(msgspec.convert(tables, Config))


def _is_usable(config: Config) -> None:
    base = Layer(DEFAULT_ORIGIN, DEFAULTS)
    whole = settle([base, Layer("fuzzed", config)])
    rules_of(whole.config, 2)
    again = load_text(check.printed(whole, show_all=True), "printed")
    assert settle([base, Layer("printed", again)]).config == whole.config


def pushed_file(data: bytes) -> None:
    """What a daemon before us pushed, in /run: taken, or set aside."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/pushed", "wb") as file:
            file.write(data)
        rules_of(Daemon(folder).store.settings.config, 2)


_TABLES: tuple[Table[Any], ...] = (
    agent.REQUEST,
    agent.RESPONSE,
    agent.MEMCG_CONFIG,
    agent.COMPACT_CONFIG,
    agent.ADD_SWAP,
    agent.ADD_SWAP_PATH,
    agent.HEALTH_CHECK_RESPONSE,
    agent.VERSION_CHECK_RESPONSE,
)


def protobuf(data: bytes) -> None:
    """Each message of Kata's: refused, or written again it reads as the same."""
    for table in _TABLES:
        with suppress(ProtobufError):
            _reads_back(table, data)


def _reads_back(table: Table[Any], data: bytes) -> None:
    message = decode(table, data)
    assert decode(table, encode(table, message)) == message


def ttrpc_frames(data: bytes) -> None:
    """Frames are the same however the bytes are cut."""
    framer = Framer()
    pieced = [frame for piece in _pieces(data) for frame in framer.feed(piece)]
    assert pieced == list(Framer().feed(data[1:]))


def recorded(data: bytes) -> None:
    """A recording that somebody sends us, and the events in it."""
    with suppress(recording.RecordingError):
        for _, line in recording.read_lines(io.BytesIO(data)):
            if isinstance(line, Stepped):
                _is_json(line.event)


def _is_json(raw: msgspec.Raw) -> None:
    """Of another shape, or too deep, perhaps; but whoever looks into it has been warned."""
    with suppress(msgspec.MsgspecError, RecursionError):
        msgspec.json.decode(raw)


def guest_answer(data: bytes) -> None:
    """What a guest answers to a tool on its host."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(_PATIENCE_S)
        theirs.sendall(data + b"\0")
        with suppress(BrokenConnection, Refused, msgspec.MsgspecError):
            raw = varlink_client.call(ours, f"{IO}.GetStatus")
            _is_json(raw)
            decoded(raw, StatusAnswer)


def address(data: bytes) -> None:
    """Where a tool is told to call."""
    with suppress(AddressError):
        parse_address(os.fsdecode(data))


def kata_edit(data: bytes) -> None:
    """A file of Kata's that is looked through and edited: refused, or the edit is that edit."""
    with suppress(Unreadable, CannotEdit):
        file = KataFile.parse(data.decode(errors="replace"))
        findings(file)
        for option in OPTIONS:
            with suppress(CannotEdit, BadValue):
                set_option(file, option, "true")


FILES: Mapping[str, Check] = {
    "address": address,
    "boot_line": boot_line,
    "guest_answer": guest_answer,
    "kata_edit": kata_edit,
    "patch": patch,
    "protobuf": protobuf,
    "pushed_file": pushed_file,
    "recording": recorded,
    "settings_file": settings_file,
    "ttrpc_frames": ttrpc_frames,
}


# ---- the servers ---------------------------------------------------------------------------------


def _pieces(data: bytes) -> Iterator[bytes]:
    size = 1 + data[0] % _PIECE if data else 1
    yield from (data[at : at + size] for at in range(1, len(data), size))


def varlink(data: bytes) -> None:
    """io.memreact with its settings behind it: the first byte is how the others are cut.

    Whatever is sent, nothing is left on the loop as an error, and the next caller is served.
    """

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            daemon = Daemon(folder)
            async with daemon.serve() as client:
                for piece in _pieces(data):
                    await client.send(piece)
                    await settled()
            async with daemon.serve() as client:
                told = await client.ask(f"{IO}.GetSettings")
            assert msgspec.convert(tables_from_wire(told["settings"]), Config)

    asyncio.run(main())


def varlink_reader(data: bytes) -> None:
    """Varlink for one who may read: half-closed at the end, all is answered and then closed."""

    async def main() -> None:
        served = Served(READER)
        async with serve(served.protocol) as client:
            for piece in _pieces(data):
                await client.send(piece)
                await settled()
            client.stream.shutdown(socket.SHUT_WR)
            served.echo.go.set()
            while (answer := await client.message()) is not None:
                assert {"parameters"} <= answer.keys() <= {"parameters", "error", "continues"}
                served.echo.numbers.items.clear()

    asyncio.run(main())


def ttrpc(data: bytes) -> None:
    """Kata's calls: half-closed at the end, all is answered and then closed."""

    async def main() -> None:
        told = Agent()
        told.may_end.set()
        async with calling(told) as caller:
            with suppress(BrokenPipeError, ConnectionResetError):
                for piece in _pieces(data):
                    await caller.sends(piece)
                caller.socket.shutdown(socket.SHUT_WR)
            await caller.receives_all()
        async with calling(told) as caller:
            assert (await caller.calls(call("MemAgentMemcgSet"))).status is not None

    asyncio.run(main())


def scrape(data: bytes) -> None:
    """Metrics: one answer that begins as HTTP does, or nothing, and then it is closed."""

    async def main() -> None:
        async with serve(ScrapeProtocol(Scrapes(lambda: iter(("# EOF\n",))))) as client:
            for piece in _pieces(data):
                await client.send(piece)
                await settled()
            with suppress(OSError):
                client.stream.shutdown(socket.SHUT_WR)
            heard = b""
            while some := await client.some():
                heard += some
            assert heard[:9] in {b"", b"HTTP/1.1 "}

    asyncio.run(main())


SERVERS: Mapping[str, Check] = {
    "scrape": scrape,
    "ttrpc": ttrpc,
    "varlink": varlink,
    "varlink_reader": varlink_reader,
}

TARGETS: Mapping[str, Check] = {**KERNEL, **FILES, **SERVERS}
"""By name, which is that of its folder in the corpus."""
