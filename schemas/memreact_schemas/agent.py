"""Messages of Kata's agent that concern us, and of ttRPC, which carries them.

A config's field that is None is not sent, and leaves what is in force as it is. Names and numbers
are those of Kata's agent.proto and health.proto, and of ttRPC's request.proto. Counts and shares
keep the value that was sent, however large: the range is checked where settings are.
"""

from __future__ import annotations

from msgspec import Struct

from memreact_schemas.protobuf import Field, Table

__all__ = [
    "ADD_SWAP",
    "ADD_SWAP_PATH",
    "COMPACT_CONFIG",
    "HEALTH_CHECK_REQUEST",
    "HEALTH_CHECK_RESPONSE",
    "MEMCG_CONFIG",
    "REQUEST",
    "RESPONSE",
    "SERVING",
    "VERSION_CHECK_RESPONSE",
    "AddSwapPathRequest",
    "AddSwapRequest",
    "Detail",
    "HealthCheckRequest",
    "HealthCheckResponse",
    "KeyValue",
    "MemAgentCompactConfig",
    "MemAgentMemcgConfig",
    "Request",
    "Response",
    "Status",
    "VersionCheckResponse",
]

SERVING = 1  # of HealthCheckResponse.ServingStatus


class MemAgentMemcgConfig(Struct, frozen=True, kw_only=True):
    """What `MemAgentMemcgSet` sends; the keys are those of `[memcg]`."""

    disabled: bool | None = None
    swap: bool | None = None
    swappiness_max: int | None = None
    period_secs: int | None = None
    period_psi_percent_limit: int | None = None
    eviction_psi_percent_limit: int | None = None
    eviction_run_aging_count_min: int | None = None


class MemAgentCompactConfig(Struct, frozen=True, kw_only=True):
    """What `MemAgentCompactSet` sends; the keys are those of `[compact]`."""

    disabled: bool | None = None
    period_secs: int | None = None
    period_psi_percent_limit: int | None = None
    compact_psi_percent_limit: int | None = None
    compact_sec_max: int | None = None
    compact_order: int | None = None
    compact_threshold: int | None = None
    compact_force_times: int | None = None


class AddSwapRequest(Struct, frozen=True, kw_only=True):
    """What `AddSwap` sends.

    Args:
        pci_path: Slot numbers from the root bus to the device.
    """

    pci_path: tuple[int, ...] = ()


class AddSwapPathRequest(Struct, frozen=True, kw_only=True):
    """What `AddSwapPath` sends.

    Args:
        path: Of a device in the guest.
    """

    path: str = ""


class HealthCheckRequest(Struct, frozen=True, kw_only=True):
    """What `Check` and `Version` send."""

    service: str = ""


class HealthCheckResponse(Struct, frozen=True, kw_only=True):
    """The answer of `Check`.

    Args:
        status: 0 unknown, 1 serving, 2 not serving.
    """

    status: int = 0


class VersionCheckResponse(Struct, frozen=True, kw_only=True):
    """The answer of `Version`."""

    grpc_version: str = ""
    agent_version: str = ""


class KeyValue(Struct, frozen=True, kw_only=True):
    """One piece of a request's metadata."""

    key: str = ""
    value: str = ""


class Request(Struct, frozen=True, kw_only=True):
    """A call.

    Args:
        service: As in `grpc.AgentService`.
        method: As in `MemAgentMemcgSet`.
        payload: The method's own message.
        timeout_nano: Nanoseconds that the caller waits; 0 means for ever.
        metadata: About the call.
    """

    service: str = ""
    method: str = ""
    payload: bytes = b""
    timeout_nano: int = 0
    metadata: tuple[KeyValue, ...] = ()


class Detail(Struct, frozen=True, kw_only=True):
    """A `google.protobuf.Any` that says more of an error."""

    type_url: str = ""
    value: bytes = b""


class Status(Struct, frozen=True, kw_only=True):
    """How a call went.

    Args:
        code: Of gRPC's; 0 is OK.
        message: Why not.
        details: More of it.
    """

    code: int = 0
    message: str = ""
    details: tuple[Detail, ...] = ()


class Response(Struct, frozen=True, kw_only=True):
    """The answer of a call.

    Args:
        status: None means OK as well.
        payload: The method's own message.
    """

    status: Status | None = None
    payload: bytes = b""


MEMCG_CONFIG = Table(
    MemAgentMemcgConfig,
    Field(1, "disabled", "bool", "optional"),
    Field(2, "swap", "bool", "optional"),
    Field(3, "swappiness_max", "uint32", "optional"),
    Field(4, "period_secs", "uint64", "optional"),
    Field(5, "period_psi_percent_limit", "uint32", "optional"),
    Field(6, "eviction_psi_percent_limit", "uint32", "optional"),
    Field(7, "eviction_run_aging_count_min", "uint64", "optional"),
)
COMPACT_CONFIG = Table(
    MemAgentCompactConfig,
    Field(1, "disabled", "bool", "optional"),
    Field(2, "period_secs", "uint64", "optional"),
    Field(3, "period_psi_percent_limit", "uint32", "optional"),
    Field(4, "compact_psi_percent_limit", "uint32", "optional"),
    Field(5, "compact_sec_max", "int64", "optional"),
    Field(6, "compact_order", "uint32", "optional"),
    Field(7, "compact_threshold", "uint64", "optional"),
    Field(8, "compact_force_times", "uint64", "optional"),
)
ADD_SWAP = Table(AddSwapRequest, Field(1, "pci_path", "uint32", "repeated"))
ADD_SWAP_PATH = Table(AddSwapPathRequest, Field(1, "path", "string"))
HEALTH_CHECK_REQUEST = Table(HealthCheckRequest, Field(1, "service", "string"))
HEALTH_CHECK_RESPONSE = Table(HealthCheckResponse, Field(1, "status", "int32"))
VERSION_CHECK_RESPONSE = Table(
    VersionCheckResponse,
    Field(1, "grpc_version", "string"),
    Field(2, "agent_version", "string"),
)
_KEY_VALUE = Table(KeyValue, Field(1, "key", "string"), Field(2, "value", "string"))
REQUEST = Table(
    Request,
    Field(1, "service", "string"),
    Field(2, "method", "string"),
    Field(3, "payload", "bytes"),
    Field(4, "timeout_nano", "int64"),
    Field(5, "metadata", _KEY_VALUE, "repeated"),
)
_DETAIL = Table(Detail, Field(1, "type_url", "string"), Field(2, "value", "bytes"))
_STATUS = Table(
    Status,
    Field(1, "code", "int32"),
    Field(2, "message", "string"),
    Field(3, "details", _DETAIL, "repeated"),
)
RESPONSE = Table(Response, Field(1, "status", _STATUS), Field(2, "payload", "bytes"))
