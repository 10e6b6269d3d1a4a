"""Callers of a chaos run: settings storms, clients that die, floods, and a pause that is obeyed.

Every request has to be answered or its connection closed: one that is neither for _HANGS_S counts.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections import Counter
from typing import Any, NamedTuple

from lab.workloads.lines import monotonic_us, say
from memreact_schemas import agent
from memreact_schemas.protobuf import decode, encode

__all__ = [
    "DOORS",
    "FLOOD",
    "PORTS",
    "Connection",
    "Doors",
    "flood",
    "hold",
    "in_force",
    "is_whole",
    "leave",
    "storm",
    "whole",
]

FLOOD = 300
PORTS = (1050, 1051, 1052)
_AF_VSOCK = 40  # <linux/socket.h>; a Python that was built without vsock lacks the name
_CID_LOCAL = 1
_HANGS_S = 45.0
_PATIENCE = struct.pack("@ll", int(_HANGS_S), 0)
_CHUNK = 1 << 16
_HEADER = struct.Struct(">IIBB")
_REQUEST = 1
_LONG_US = 5_000_000
_BASE_KEYS = ("swappiness_max", "period_secs", "eviction_run_aging_count_min")
_WHOLES = 50


class Doors(NamedTuple):
    """Where the daemon listens: vsock ports of this guest, or unix sockets.

    Args:
        varlink: io.memreact, for whoever storms.
        ttrpc: Kata's calls.
        metrics: HTTP.
        root: io.memreact, for whoever must be served all the same.
    """

    varlink: int | str = PORTS[0]
    ttrpc: int | str = PORTS[1]
    metrics: int | str = PORTS[2]
    root: str = "/run/memreact/io.memreact"


DOORS = Doors()


def whole(number: int) -> dict[str, int]:
    """Three keys of `[memcg]` that belong together: each tells the two others."""
    number = 1 + number % _WHOLES
    values = (number, 2 + number % 4, 1 + number % 3)
    return dict(zip(_BASE_KEYS, values, strict=True))


def is_whole(memcg: dict[str, Any], base: dict[str, Any]) -> bool:
    """Whether what is in force is one of the wholes, or what the files say."""
    found = {key: memcg[key] for key in _BASE_KEYS}
    return found in ({key: base[key] for key in _BASE_KEYS}, whole(found["swappiness_max"] - 1))


class Connection:
    """One connection to the daemon.

    Args:
        where: A vsock port of this guest, or a unix socket.

    Raises:
        OSError: Nobody listens.
    """

    def __init__(self, where: int | str) -> None:
        family = socket.AF_UNIX if isinstance(where, str) else _AF_VSOCK
        self.stream = socket.socket(family, socket.SOCK_STREAM)
        try:
            if isinstance(where, str):
                # A socket that does not block is refused while the listener's queue is full.
                self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
                self.stream.connect(where)
                self.stream.settimeout(_HANGS_S)
            else:
                self.stream.settimeout(_HANGS_S)
                self.stream.connect((_CID_LOCAL, where))
        except BaseException:
            self.stream.close()
            raise
        self._held = b""
        self._number = 1

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Make a Varlink call, and give its answer.

        Raises:
            ConnectionError: The daemon hung up.
            TimeoutError: It did neither.
        """
        self.stream.sendall(varlink(method, parameters))
        while b"\0" not in self._held:
            self._held += self._received(_CHUNK)
        frame, _, self._held = self._held.partition(b"\0")
        answer: dict[str, Any] = json.loads(frame)
        return answer

    def set(self, keys: dict[str, int]) -> int:
        """Set keys of `[memcg]` as Kata's client does, and give the status code.

        Raises:
            ConnectionError: The daemon hung up.
            TimeoutError: It did neither.
        """
        self.stream.sendall(kata(self._number, keys))
        self._number += 2
        length, *_ = _HEADER.unpack(self._exactly(_HEADER.size))
        status = decode(agent.RESPONSE, self._exactly(length)).status
        return status.code if status is not None else 0

    def drop(self) -> None:
        """Hang up."""
        self.stream.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._received(size - len(data))
        return data

    def _received(self, size: int) -> bytes:
        data = self.stream.recv(size)
        if not data:
            raise ConnectionError("the daemon hung up")
        return data


def varlink(method: str, parameters: dict[str, Any], *, more: bool = False) -> bytes:
    """A call as it is sent."""
    call = {"method": f"io.memreact.{method}", "parameters": parameters}
    return json.dumps({**call, "more": True} if more else call).encode() + b"\0"


def kata(stream: int, keys: dict[str, int]) -> bytes:
    """MemAgentMemcgSet as it is sent."""
    config = agent.MemAgentMemcgConfig(
        swappiness_max=keys["swappiness_max"],
        period_secs=keys["period_secs"],
        eviction_run_aging_count_min=keys["eviction_run_aging_count_min"],
    )
    payload = encode(agent.MEMCG_CONFIG, config)
    request = agent.Request(service="grpc.AgentService", method="MemAgentMemcgSet", payload=payload)
    body = encode(agent.REQUEST, request)
    return _HEADER.pack(len(body), stream, _REQUEST, 0) + body


def in_force(doors: Doors = DOORS) -> dict[str, Any]:
    """Ask root's way for the settings of `[memcg]`."""
    client = Connection(doors.root)
    try:
        memcg: dict[str, Any] = client.ask("GetSettings")["parameters"]["settings"]["memcg"]
    finally:
        client.drop()
    return memcg


def storm(seconds: float, share: int, base: dict[str, Any], doors: Doors = DOORS) -> dict[str, int]:
    """Push wholes and read what is in force, on connections that are made anew when they end."""
    told: Counter[str] = Counter(answered=0, closed=0, hung=0, half=0, refused=0)
    until = time.monotonic() + seconds
    number = share
    while time.monotonic() < until:
        try:
            number = _push(doors, until, number, base, told)
        except TimeoutError:
            told["hung"] += 1
        except OSError:
            told["closed"] += 1
            time.sleep(0.1)
    return dict(told)


def _push(doors: Doors, until: float, number: int, base: dict[str, Any], told: Counter[str]) -> int:
    """Push and read on one pair of connections, until the end; answers with the next number."""
    with contextlib.ExitStack() as undo:
        ours = Connection(doors.varlink)
        undo.callback(ours.drop)
        katas = Connection(doors.ttrpc)
        undo.callback(katas.drop)
        while time.monotonic() < until:
            number += 1
            if number % 2:
                answer = ours.ask("PatchSettings", patch={"memcg": whole(number)})
                told["refused"] += "error" in answer
            else:
                told["refused"] += bool(katas.set(whole(number)))
            found = ours.ask("GetSettings")
            told["answered"] += 2
            told["half"] += not is_whole(found["parameters"]["settings"]["memcg"], base)
    return number


def leave(seconds: float, share: int, doors: Doors = DOORS) -> dict[str, int]:
    """Clients that die in mid-call, one after the other."""
    until = time.monotonic() + seconds
    left = 0
    while time.monotonic() < until:
        door, sent = _MID_CALLS[(share + left) % len(_MID_CALLS)]
        with contextlib.suppress(OSError):
            client = Connection(getattr(doors, door))
            client.stream.sendall(sent)
            client.drop()
        left += 1
    return {"left": left}


_SQUEEZE = varlink("Squeeze", {"target_bytes": 32 << 20, "deadline_seconds": 20}, more=True)
_WATCH = varlink("Watch", {"status": True}, more=True)
_PATCH = varlink("PatchSettings", {"patch": {"memcg": {}}})
_SET = kata(1, whole(7))
_MID_CALLS = (
    ("varlink", _PATCH[:40]),
    ("varlink", _SQUEEZE),
    ("root", _WATCH),
    ("root", varlink("GetStatus", {}) * 20),
    ("varlink", b"\0" * 100 + b"{" * 1000),
    ("ttrpc", _SET[:7]),
    ("ttrpc", _SET[:-3]),
    ("ttrpc", b"\xff" * 500),
    ("metrics", b"GET /metrics HTTP/1.1\r\n"),
    ("metrics", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 5),
)
"""What is sent of a call, to which of the doors, before whoever sent it dies."""


def flood(
    seconds: float, share: int, connections: int = FLOOD, doors: Doors = DOORS
) -> dict[str, int]:
    """Fill one port with silent connections; meanwhile a caller of root and a new one are served.

    Returns:
        How many were connected, how many calls of root over the unix socket and of newcomers over
        vsock were answered meanwhile, how many connections were closed instead, and how many of the
        calls were neither.
    """
    door = doors[share % len(PORTS)]
    told: Counter[str] = Counter(connected=0, root=0, newcomers=0, closed=0, hung=0)
    until = time.monotonic() + seconds
    with contextlib.ExitStack() as undo:
        for _ in range(connections):
            with contextlib.suppress(OSError):
                undo.callback(Connection(door).drop)
                told["connected"] += 1
        while True:
            told[_outcome(doors.root, "root")] += 1
            told[_outcome(doors.varlink, "newcomers")] += 1
            if time.monotonic() >= until:
                break
            time.sleep(0.2)
    return dict(told)


def _outcome(where: int | str, answered: str) -> str:
    try:
        _one_call(where)
    except TimeoutError:
        return "hung"
    except OSError:
        return "closed"
    return answered


def _one_call(where: int | str) -> None:
    client = Connection(where)
    try:
        client.ask("GetSettings")
    finally:
        client.drop()


def hold(seconds: float, _share: int, doors: Doors = DOORS) -> dict[str, int]:
    """Pause it, and let it go on; the kernel tells afterwards whether it wrote meanwhile."""
    try:
        client = Connection(doors.varlink)
        client.ask("Pause", seconds=600, reason="chaos")
        from_us = monotonic_us()
        time.sleep(seconds)
        until_us = monotonic_us()
        client.ask("Resume")
    except TimeoutError:
        return {"hung": 1}
    except OSError:
        return {"closed": 1}
    client.drop()
    return {"from_us": from_us, "until_us": until_us}


def served(doors: Doors = DOORS) -> bool:
    """Whether a caller of root is answered now."""
    began_us = monotonic_us()
    try:
        _one_call(doors.root)
    except OSError:
        return False
    if monotonic_us() - began_us > _LONG_US:
        say("slow", us=monotonic_us() - began_us)
    return True
