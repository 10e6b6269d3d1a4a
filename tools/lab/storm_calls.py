"""What the storm asks for, over Varlink and as Kata's client, and what has to be answered.

Each valid call changes one key to a value that it did not have, so that every one of them is a
change that can be counted. The keys of one stream are no other's.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import count, cycle, islice
from typing import Any, NamedTuple

import msgspec

from memreact_schemas import agent
from memreact_schemas.protobuf import decode, encode

__all__ = [
    "KINDS",
    "Call",
    "Caller",
    "KataStream",
    "Kind",
    "VarlinkStream",
    "invalid_kata_calls",
    "invalid_varlink_calls",
    "valid_kata_calls",
    "valid_varlink_calls",
]

_PATIENCE_S = 30.0
_CHUNK = 1 << 16
_HEADER = struct.Struct(">IIBB")
_REQUEST = 1
_AT_ONCE = 50
_TICK_S = 0.005
# One in so many touches what runs: it is broken off, and the turn planned anew.
_WORK_EVERY = 10
_INVALID_ARGUMENT, _UNKNOWN, _UNIMPLEMENTED = 3, 2, 12
_WRONG_SHOWN = 5

_decoder = msgspec.json.Decoder(dict[str, Any])


class Call(NamedTuple):
    """A call, and what its answer has to be.

    Args:
        method: Of io.memreact, or of Kata's agent with its service.
        sent: Parameters, or the payload.
        error: What has to be answered: the name of an error, or a status code; None for no error.
        says: The key that it changes, and its new value; None for a call that is refused.
    """

    method: str
    sent: Mapping[str, object] | bytes
    error: str | int | None = None
    says: tuple[str, int] | None = None


def valid_varlink_calls() -> Iterator[Call]:
    """Changes without end."""
    for number in count(1):
        value = 1 + number % 50
        if number % _WORK_EVERY == 0:
            value = 1 + number // _WORK_EVERY % 100
            key, patch = "memcg.swappiness_max", {"memcg": {"swappiness_max": value}}
        elif number % 2:
            key, patch = "log.decisions", {"log": {"decisions": 16 + value}}
            value += 16
        else:
            key, patch = "compact.compact_sec_max", {"compact": {"compact_sec_max": value}}
        yield Call("PatchSettings", {"patch": patch}, says=(key, value))


def valid_kata_calls() -> Iterator[Call]:
    """Changes without end."""
    for number in count(1):
        if number % _WORK_EVERY == 0:
            value = 1 + number // _WORK_EVERY % 100
            memcg = agent.MemAgentMemcgConfig(eviction_run_aging_count_min=value)
            call = _kata("MemAgentMemcgSet", encode(agent.MEMCG_CONFIG, memcg))
            yield call._replace(says=("memcg.eviction_run_aging_count_min", value))
        else:
            value = 1 + number % 50
            compact = agent.MemAgentCompactConfig(compact_threshold=value)
            call = _kata("MemAgentCompactSet", encode(agent.COMPACT_CONFIG, compact))
            yield call._replace(says=("compact.compact_threshold", value))


def invalid_varlink_calls() -> Iterator[Call]:
    """What has to be refused, round and round."""
    refused = "io.memreact.SettingsRefused"
    patches: list[dict[str, object]] = [
        {"memcg": {"period_secs": 0}},
        {"memcg": {"period_sex": 1}},
        {"memcg": {"swappiness_max": 2**64}},
        {"memcg": {"cgroup": [{"path": "/../etc"}]}},
        {"compact": {"compact_order": "eleven"}},
        {"no_such_table": {}},
    ]
    rule: dict[str, object] = {"path": "/no/such"}
    return cycle(
        [
            *(Call("PatchSettings", {"patch": patch}, refused) for patch in patches),
            Call("PatchSettings", {"patch": {}, "expected_revision": 0}, _own("RevisionConflict")),
            Call("AddRule", {"rule": {"path": "/init.scope"}}, _own("RuleExists")),
            Call("SetRule", {"rule": rule}, _own("NoSuchRule")),
            Call("DeleteRule", rule, _own("NoSuchRule")),
            Call("PatchSettings", {"path": {}}, "org.varlink.service.InvalidParameter"),
            Call("Pause", {"seconds": 0}, "org.varlink.service.InvalidParameter"),
            Call("Evict", {}, "org.varlink.service.MethodNotFound"),
        ]
    )


def _own(error: str) -> str:
    return f"io.memreact.{error}"


def invalid_kata_calls() -> Iterator[Call]:
    """What has to be refused, round and round."""
    memcg = agent.MemAgentMemcgConfig
    keys = (memcg(swappiness_max=201), memcg(period_secs=0), memcg(period_secs=2**64 - 1))
    percent = agent.MemAgentCompactConfig(compact_psi_percent_limit=101)
    swap = encode(agent.ADD_SWAP, agent.AddSwapRequest(pci_path=(32,)))
    set_memcg, bad = "MemAgentMemcgSet", _INVALID_ARGUMENT
    return cycle(
        [
            *(_kata(set_memcg, encode(agent.MEMCG_CONFIG, each), bad) for each in keys),
            _kata("MemAgentCompactSet", encode(agent.COMPACT_CONFIG, percent), bad),
            _kata(set_memcg, b"\x20", _UNKNOWN),  # a key without its value
            _kata("AddSwap", swap, bad),
            _kata("ListContainers", b"", _UNIMPLEMENTED),
            Call("grpc.Nobody/MemAgentMemcgSet", b"", bad),
        ]
    )


def _kata(method: str, payload: bytes, code: int | None = None) -> Call:
    return Call(f"grpc.AgentService/{method}", payload, code)


class VarlinkStream:
    """Calls of io.memreact on one connection.

    Args:
        path: Of the socket.
    """

    def __init__(self, path: str) -> None:
        self.stream = _connected(path)
        self._held = b""
        self._revision = 0

    def frame(self, call: Call) -> bytes:
        """What is sent for a call."""
        frame = {"method": f"io.memreact.{call.method}", "parameters": call.sent}
        return msgspec.json.encode(frame) + b"\0"

    def ask(self, method: str, **parameters: object) -> bytes:
        """Make one call, and give the parameters of its answer as JSON."""
        self.stream.sendall(self.frame(Call(method, parameters)))
        return msgspec.json.encode(self._answer()["parameters"])

    def check(self, call: Call) -> str | None:
        """Read the next answer, and say what is wrong with it."""
        answer = self._answer()
        right = answer.get("error") == call.error and (
            call.says is None or self._is_change(answer["parameters"], *call.says)
        )
        return None if right else f"{call}: {answer}"

    def _is_change(self, told: dict[str, Any], key: str, value: int) -> bool:
        """Whether it is this change alone, at a higher revision than any before."""
        before, self._revision = self._revision, told["revision"]
        changed = [(each["key"], each["after"]) for each in told["changed"]]
        return before < self._revision and changed == [(key, str(value))]

    def _answer(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            self._held += _received(self.stream, _CHUNK)
        frame, _, self._held = self._held.partition(b"\0")
        return _decoder.decode(frame)


class KataStream:
    """Calls of Kata's client on one connection.

    Args:
        path: Of the socket.
    """

    def __init__(self, path: str) -> None:
        self.stream = _connected(path)
        self._held = b""
        self._sent = count(1, 2)  # a client's streams are odd
        self._answered = count(1, 2)

    def frame(self, call: Call) -> bytes:
        """What is sent for a call."""
        service, _, method = call.method.partition("/")
        payload = call.sent if isinstance(call.sent, bytes) else b""
        body = _request(service, method, payload)
        return _HEADER.pack(len(body), next(self._sent), _REQUEST, 0) + body

    def check(self, call: Call) -> str | None:
        """Read the next answer, and say what is wrong with it."""
        length, stream, *_ = _HEADER.unpack(self._exactly(_HEADER.size))
        response = _response(self._exactly(length))
        code = (response.status.code if response.status else 0) or None
        right = stream == next(self._answered) and code == call.error and not response.payload
        return None if right else f"{call}: {response}"

    def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._held += _received(self.stream, _CHUNK)
        data, self._held = self._held[:size], self._held[size:]
        return data


# They are few, made and read again and again: the storm shares its processors with the daemon.
@lru_cache(maxsize=1024)
def _request(service: str, method: str, payload: bytes) -> bytes:
    return encode(agent.REQUEST, agent.Request(service=service, method=method, payload=payload))


@lru_cache(maxsize=64)
def _response(body: bytes) -> agent.Response:
    return decode(agent.RESPONSE, body)


class Kind(NamedTuple):
    """One stream of calls.

    Args:
        calls: Makes them.
        socket: The name of the socket that they go to.
        opened: Connects to it.
        valid: Whether they are answered without an error.
    """

    calls: Callable[[], Iterator[Call]]
    socket: str
    opened: Callable[[str], VarlinkStream | KataStream]
    valid: bool


KINDS: Mapping[str, Kind] = {
    "valid, Varlink": Kind(valid_varlink_calls, "io.memreact", VarlinkStream, valid=True),
    "valid, ttRPC": Kind(valid_kata_calls, "agent.sock", KataStream, valid=True),
    "invalid, Varlink": Kind(invalid_varlink_calls, "io.memreact", VarlinkStream, valid=False),
    "invalid, ttRPC": Kind(invalid_kata_calls, "agent.sock", KataStream, valid=False),
}
"""The streams that make up a storm."""


class Caller:
    """Makes calls at a rate, several at once when it is behind, and checks each answer.

    Args:
        stream: Where to.
        calls: What.
        rate: Calls a second.
    """

    def __init__(
        self, stream: VarlinkStream | KataStream, calls: Iterator[Call], rate: int
    ) -> None:
        self._stream = stream
        self._calls = calls
        self._rate = rate
        self.answered = 0
        self.said: dict[str, int] = {}
        """The keys that were set, and their last values."""
        self.wrong_total = 0
        self.wrong: list[str] = []
        """The first answers that were not right."""
        self.waited_us: list[int] = []

    def run(self, seconds: float) -> None:
        """Do so for a while; what has not been sent by then is not sent any more."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            due = min(int(passed * self._rate) + 1 - self.answered, _AT_ONCE)
            if due > 0:
                self._some(list(islice(self._calls, due)))
            else:
                time.sleep(_TICK_S)

    def _some(self, calls: list[Call]) -> None:
        frames = b"".join(map(self._stream.frame, calls))
        sent = time.monotonic_ns()
        self._stream.stream.sendall(frames)
        for call in calls:
            wrong = self._stream.check(call)
            self.waited_us.append((time.monotonic_ns() - sent) // 1000)
            if wrong:
                self.wrong_total += 1
                self.wrong = [*self.wrong, wrong][:_WRONG_SHOWN]
            if call.says:
                self.said |= (call.says,)
        self.answered += len(calls)


def _connected(path: str) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(_PATIENCE_S)
    stream.connect(path)
    return stream


def _received(stream: socket.socket, size: int) -> bytes:
    data = stream.recv(size)
    if not data:
        raise ConnectionError("the daemon hung up")
    return data
