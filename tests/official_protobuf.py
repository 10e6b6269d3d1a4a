"""The official protobuf runtime, taught our messages at run time: what ours is compared with."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessages
from msgspec import Struct

from memreact_schemas import agent
from memreact_schemas.protobuf import Field, Table

__all__ = ["TABLES", "official", "parsed", "said_by"]

# Written from the .proto files and from nothing of ours: a wrong number in a table shows.
_PROTO = {
    "MemAgentMemcgConfig": """
        optional bool disabled = 1
        optional bool swap = 2
        optional uint32 swappiness_max = 3
        optional uint64 period_secs = 4
        optional uint32 period_psi_percent_limit = 5
        optional uint32 eviction_psi_percent_limit = 6
        optional uint64 eviction_run_aging_count_min = 7""",
    "MemAgentCompactConfig": """
        optional bool disabled = 1
        optional uint64 period_secs = 2
        optional uint32 period_psi_percent_limit = 3
        optional uint32 compact_psi_percent_limit = 4
        optional int64 compact_sec_max = 5
        optional uint32 compact_order = 6
        optional uint64 compact_threshold = 7
        optional uint64 compact_force_times = 8""",
    "AddSwapRequest": "repeated uint32 pci_path = 1",
    "AddSwapPathRequest": "implicit string path = 1",
    "HealthCheckRequest": "implicit string service = 1",
    "HealthCheckResponse": "implicit int32 status = 1",
    "VersionCheckResponse": """
        implicit string grpc_version = 1
        implicit string agent_version = 2""",
    "KeyValue": """
        implicit string key = 1
        implicit string value = 2""",
    "Request": """
        implicit string service = 1
        implicit string method = 2
        implicit bytes payload = 3
        implicit int64 timeout_nano = 4
        repeated KeyValue metadata = 5""",
    "Detail": """
        implicit string type_url = 1
        implicit bytes value = 2""",
    "Status": """
        implicit int32 code = 1
        implicit string message = 2
        repeated Detail details = 3""",
    "Response": """
        implicit Status status = 1
        implicit bytes payload = 2""",
}
TABLES: dict[str, Table[Any]] = {
    table.make.__name__: table
    for table in (
        agent.MEMCG_CONFIG,
        agent.COMPACT_CONFIG,
        agent.ADD_SWAP,
        agent.ADD_SWAP_PATH,
        agent.HEALTH_CHECK_REQUEST,
        agent.HEALTH_CHECK_RESPONSE,
        agent.VERSION_CHECK_RESPONSE,
        agent.REQUEST,
        agent.RESPONSE,
    )
}


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="agent.proto", package="t", syntax="proto3")
    for name, lines in _PROTO.items():
        message = file.message_type.add(name=name)
        for line in lines.strip().splitlines():
            _add_field(message, line.split())
    pool = DescriptorPool()
    pool.Add(file)
    made = GetMessages([file], pool=pool)
    return {name.removeprefix("t."): each for name, each in made.items()}


def _add_field(message: Any, words: list[str]) -> None:  # noqa: ANN401  # protobuf has no types
    presence, kind, name, _, number = words
    field = message.field.add(name=name, number=int(number))
    repeated = presence == "repeated"
    field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else 1
    if kind in _PROTO:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".t.{kind}"
    else:
        field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    if presence == "optional":
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


_CLASSES = _classes()


def official(message: Struct) -> Any:  # noqa: ANN401  # protobuf has no types
    """Make the official runtime's object that says the same as one of our messages."""
    made = _CLASSES[type(message).__name__]()
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, tuple):
            getattr(made, name).extend(
                official(each) if isinstance(each, Struct) else each for each in value
            )
        elif isinstance(value, Struct):
            getattr(made, name).CopyFrom(official(value))
        elif value is not None:
            setattr(made, name, value)
    return made


def parsed(name: str, data: bytes) -> Any:  # noqa: ANN401  # protobuf has no types
    """Let the official runtime read a message; its own DecodeError where it cannot."""
    return _CLASSES[name].FromString(data)


def said_by(table: Table[Any], message: Any) -> Any:  # noqa: ANN401  # protobuf has no types
    """Make our message of what the official runtime read."""
    return table.make(**{field.name: _value_of(field, message) for field in table.fields.values()})


def _value_of(field: Field, message: Any) -> Any:  # noqa: ANN401  # protobuf has no types
    value = getattr(message, field.name)
    if field.presence == "repeated":
        of = field.kind
        return tuple(said_by(of, each) if isinstance(of, Table) else each for each in value)
    if isinstance(field.kind, Table):
        return said_by(field.kind, value) if message.HasField(field.name) else None
    if field.presence == "optional" and not message.HasField(field.name):
        return None
    return value
