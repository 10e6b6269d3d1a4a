"""The daemon's two services, as far as a client can tell: they decode with the schemas."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from memreact_schemas import doctor
from memreact_schemas.agent import (
    COMPACT_CONFIG,
    HEALTH_CHECK_RESPONSE,
    MEMCG_CONFIG,
    REQUEST,
    RESPONSE,
    VERSION_CHECK_RESPONSE,
    HealthCheckResponse,
    Request,
    Response,
    Status,
    VersionCheckResponse,
)
from memreact_schemas.config import DEFAULTS
from memreact_schemas.control import (
    INTERFACE,
    METHODS,
    Changed,
    ChangedKey,
    Doctor,
    Explained,
    Nothing,
    Paused,
    SettingsInForce,
    SqueezeItem,
    tables_to_wire,
)
from memreact_schemas.protobuf import Table, decode, encode
from memreact_schemas.swap import SwapAdded, SwapArea, SwapAreas, SwapRemoved
from memreact_schemas.varlink import Call, Reply
from tests.able import ABLE
from tests.tools.ctl.statuses import EXPLANATION, STATUS

ROOT = Path(__file__).parents[3]
IMPORTABLE = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'schemas'), str(ROOT / 'tools')]}"
START = f"{IMPORTABLE}\nfrom memreact_tools.ctl.__main__ import main\nsys.exit(main())"

__all__ = ["AREA", "IMPORTABLE", "START", "AgentDouble", "Failure", "VarlinkDouble"]

REPORT = doctor.Report(
    version="1.0",
    capabilities=replace(ABLE, page_reporting=False, reporting_order=None, swap=False),
    findings=(
        doctor.Finding(
            job="to the host", status="missing", backend="none", detail="no balloon", remedy="add"
        ),
    ),
    reaches_host=False,
)
SETTINGS = SettingsInForce(
    settings=tables_to_wire(DEFAULTS),
    revision=4,
    origins={"memcg.swap": "pushed by root", "memcg.cgroup[/init.scope].disabled": "default"},
    unsaved="/run/memreact/pushed is not written: No space left on device",
    warnings=("memcg.swap has no effect: there is no swap",),
)
AREA = SwapArea(
    path="/dev/vdc",
    kind="partition",
    size_bytes=1 << 30,
    used_bytes=300 << 20,
    priority=7,
    serial="memreact-swap0",
    pci_path="01/00",
    uuid="2f1c4f43-0c2a-4a0f-8a1b-0123456789ab",
    ours=True,
)
FILE = SwapArea(path="/swap", kind="file", size_bytes=8 << 20, used_bytes=0, priority=-2, lost=True)
ANSWERS: Mapping[str, Struct] = {
    "GetSettings": SETTINGS,
    "GetStatus": msgspec.defstruct("Said", [("status", object)])(STATUS),
    "Explain": Explained(explanation=EXPLANATION),
    "GetDoctor": Doctor(report=REPORT),
    "Pause": Paused(until_us=9),
    "Resume": Nothing(),
    "RunNow": Nothing(),
    "HostHolds": Nothing(),
    "Squeeze": SqueezeItem(),
    "ReleaseSqueeze": Nothing(),
    "ListSwap": SwapAreas(areas=(AREA, FILE), available_bytes=500 << 20, kept_bytes=50 << 20),
    "AddSwap": SwapAdded(area=AREA, made=True, waited_us=120_000, took_us=150_000),
    "RemoveSwap": SwapRemoved(area=AREA, took_us=2_000_000),
}
CHANGED = Changed(
    revision=5,
    changed=(ChangedKey(key="memcg.swap", before="false", after="true", origin="pushed by root"),),
    notes=("it has no effect here",),
)


@dataclass
class Failure:
    """An error that is answered."""

    name: str
    parameters: object = None


@dataclass
class VarlinkDouble:
    """Answers every call of io.memreact that its schema takes, and keeps it.

    Args:
        answers: By the method's name, instead of the usual ones; a list is a stream's.
        calls: What was called.
    """

    answers: Mapping[str, object] = field(default_factory=dict)
    calls: list[tuple[str, Struct]] = field(default_factory=list)

    def __call__(self, stream: socket.socket) -> None:
        """Serve one connection."""
        for frame in _frames(stream):
            call = msgspec.json.decode(frame, type=Call)
            interface, _, name = call.method.rpartition(".")
            assert interface == INTERFACE
            raw = bytes(call.parameters) or b"{}"
            self.calls.append((name, msgspec.json.decode(raw, type=METHODS[name].call)))
            answer = self.answers.get(name, ANSWERS.get(name, CHANGED))
            for reply in _replies(answer):
                stream.sendall(msgspec.json.encode(reply) + b"\0")


def _frames(stream: socket.socket) -> list[bytes]:
    held = b""
    while not held.endswith(b"\0"):
        chunk = stream.recv(1 << 16)
        if not chunk:
            return []
        held += chunk
    return held.split(b"\0")[:-1]


def _replies(answer: object) -> list[Reply]:
    if isinstance(answer, Failure):
        return [Reply(error=answer.name, parameters=Raw(msgspec.json.encode(answer.parameters)))]
    items = answer if isinstance(answer, list) else [answer]
    return [
        Reply(parameters=Raw(msgspec.json.encode(item)), continues=at < len(items) - 1 or None)
        for at, item in enumerate(items)
    ]


HEADER = struct.Struct(">IIBB")
TABLES: Mapping[str, Table[Any]] = {
    "MemAgentMemcgSet": MEMCG_CONFIG,
    "MemAgentCompactSet": COMPACT_CONFIG,
}
HEALTH = {
    "Check": encode(HEALTH_CHECK_RESPONSE, HealthCheckResponse(status=1)),
    "Version": encode(
        VERSION_CHECK_RESPONSE, VersionCheckResponse(grpc_version="0.0.1", agent_version="9")
    ),
}


@dataclass
class AgentDouble:
    """Answers what Kata's agent does, and keeps it.

    Args:
        refuse: Codes by method, answered instead.
        calls: Each request, and its message where it is one of the settings'.
        connections: How many there were.
    """

    refuse: Mapping[str, Status] = field(default_factory=dict)
    calls: list[tuple[Request, Struct | None]] = field(default_factory=list)
    connections: int = 0

    def __call__(self, stream: socket.socket) -> None:
        """Serve one connection."""
        self.connections += 1
        expected = 1
        while header := _exactly(stream, HEADER.size):
            size, number, kind, flags = HEADER.unpack(header)
            assert (number, kind, flags) == (expected, 1, 0)
            expected += 2
            request = decode(REQUEST, _exactly(stream, size))
            table = TABLES.get(request.method)
            self.calls.append((request, decode(table, request.payload) if table else None))
            data = encode(RESPONSE, self._answer(request))
            # What is not for this call comes first, as it may.
            stream.sendall(HEADER.pack(2, number + 100, 2, 0) + b"\x0a\x00")
            stream.sendall(HEADER.pack(len(data), number, 2, 0) + data)

    def _answer(self, request: Request) -> Response:
        if request.method in self.refuse:
            return Response(status=self.refuse[request.method])
        if request.service == "grpc.Health":
            return Response(status=Status(), payload=HEALTH[request.method])
        if request.method in TABLES:
            return Response(status=Status())
        return Response(status=Status(code=12, message=f"{request.method} method"))


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = stream.recv(size - len(data))
        if not chunk:
            return b""
        data += chunk
    return data
