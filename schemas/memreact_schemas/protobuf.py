"""Protobuf's wire format: what Kata's client speaks, in as much of it as its messages need.

A message is a struct, and a `Table` says how its fields are written. A field that the table does
not know is passed over, as protobuf wants it; so is one that is not written as the table says.

Three things are stricter here. Groups, which proto3 never had, are refused, and so is a number of
more than 64 bits. And what is too large for its `uint32` keeps its value, where other decoders cut
it to 32 bits: whoever checks the range then sees what was sent, not what is left of it.

Source: protobuf's "Encoding" and "Proto3 Language Guide"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

__all__ = ["Field", "ProtobufError", "Table", "decode", "encode", "raw_fields"]

# Seven bits a byte: ten of them hold 64 bits.
_VARINT_BYTES_MAX = 10
_U32_MAX = 2**32 - 1
_U64_MAX = 2**64 - 1
# Our messages have a dozen fields. A decoder that is sent thousands would keep its loop busy.
_FIELDS_MAX = 512

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {_FIXED64: 8, _FIXED32: 4}
_GROUPS = (3, 4)

Scalar: TypeAlias = Literal["bool", "uint32", "uint64", "int32", "int64", "string", "bytes"]
_TEXTUAL = ("string", "bytes")
_Message = TypeVar("_Message", bound=Struct)
_Values: TypeAlias = dict[str, Any]


class ProtobufError(ValueError):
    """Bytes that are no message, with the offset at which that shows."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Args:
        number: Stands in the bytes.
        name: The struct's.
        kind: What it holds; a table where it is a message, which is None when absent.
        presence: "implicit" leaves out what has its default; "optional" tells a default from
            nothing, which is None; "repeated" is a tuple.
    """

    number: int
    name: str
    kind: Scalar | Table[Any]
    presence: Literal["implicit", "optional", "repeated"] = "implicit"


class Table(Generic[_Message]):
    """How a struct is written.

    Args:
        make: The struct; each field has a default.
        fields: In the order of their numbers, which is the order in which they are written.
    """

    def __init__(self, make: type[_Message], *fields: Field) -> None:
        self.make = make
        self.fields = {field.number: field for field in fields}


def decode(table: Table[_Message], data: bytes) -> _Message:
    """Read a message.

    Raises:
        ProtobufError: The bytes end too early, hold a group, a tag that cannot be, a number of
            more than 64 bits, text that is not UTF-8, or more fields than any of our messages.
    """
    values: _Values = {}
    _Decoder(_FIELDS_MAX).read(table, data, values)
    return _built(table, values)


def encode(table: Table[_Message], message: _Message) -> bytes:
    """Write a message. Numbers are in their field's range: nobody checks that here."""
    return b"".join(
        part
        for field in table.fields.values()
        for part in _encoded(field, getattr(message, field.name))
    )


def raw_fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Walk over a message without a table: number, wire type, and a number or bytes of each field.

    Raises:
        ProtobufError: As `decode`, after what came before it was given.
    """
    return _Decoder(_FIELDS_MAX).fields(data)


@dataclass(slots=True)
class _Decoder:
    """Reads one message and those within it.

    Args:
        left: How many fields and elements may still come.
    """

    left: int

    def read(self, table: Table[Any], data: bytes, values: _Values) -> None:
        """Put what a message says over what was said before, as protobuf merges."""
        for number, wire, value in self.fields(data):
            field = table.fields.get(number)
            if field is None:
                continue
            if isinstance(value, bytes):
                self._take_bytes(field, value, values)
            elif wire == _VARINT and not isinstance(field.kind, Table):
                _take_number(field, value, values)

    def fields(self, data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
        at = 0
        while at < len(data):
            self._count()
            tag, at = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            if tag > _U32_MAX or number == 0:
                raise ProtobufError(f"byte {at}: no field has the number {number}")
            value, at = _value(data, at, wire)
            yield number, wire, value

    def _take_bytes(self, field: Field, value: bytes, values: _Values) -> None:
        repeated = field.presence == "repeated"
        if isinstance(field.kind, Table):
            inner: _Values = {} if repeated else values.get(field.name, {})
            self.read(field.kind, value, inner)
            _put(field, inner, values)
        elif field.kind in _TEXTUAL:
            _put(field, _text(value) if field.kind == "string" else value, values)
        elif repeated:
            self._take_packed(field, value, values)

    def _take_packed(self, field: Field, data: bytes, values: _Values) -> None:
        at = 0
        while at < len(data):
            self._count()
            number, at = _varint(data, at)
            _take_number(field, number, values)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ProtobufError(f"more than {_FIELDS_MAX} fields")


def _take_number(field: Field, number: int, values: _Values) -> None:
    if field.kind not in _TEXTUAL:
        _put(field, _number(field.kind, number), values)


def _put(field: Field, value: object, values: _Values) -> None:
    if field.presence == "repeated":
        values.setdefault(field.name, []).append(value)
    else:
        values[field.name] = value


def _built(table: Table[_Message], values: _Values) -> _Message:
    """Make the struct, and those within it."""
    for field in table.fields.values():
        value = values.get(field.name)
        if value is None:
            continue
        if isinstance(field.kind, Table):
            of, many = field.kind, isinstance(value, list)
            value = [_built(of, each) for each in value] if many else _built(of, value)
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return table.make(**values)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of 64 bits and say where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004  # the bit that says that more follows
            if value > _U64_MAX:
                raise ProtobufError(f"byte {at}: a number of more than 64 bits")
            return value, at + index + 1
    if len(data) - at < _VARINT_BYTES_MAX:
        raise ProtobufError(f"byte {len(data)}: ends within a number")
    raise ProtobufError(f"byte {at}: a number of more than {_VARINT_BYTES_MAX} bytes")


def _value(data: bytes, at: int, wire: int) -> tuple[int | bytes, int]:
    """Read what follows a tag and say where it ends."""
    if wire == _VARINT:
        return _varint(data, at)
    if wire == _BYTES:
        size, at = _varint(data, at)
        return _cut(data, at, size), at + size
    if wire in _FIXED_SIZE:
        size = _FIXED_SIZE[wire]
        return int.from_bytes(_cut(data, at, size), "little"), at + size
    what = "a group" if wire in _GROUPS else f"the unknown wire type {wire}"
    raise ProtobufError(f"byte {at}: {what}")


def _cut(data: bytes, at: int, size: int) -> bytes:
    if size > len(data) - at:
        raise ProtobufError(f"byte {at}: {size} bytes announced, {len(data) - at} there")
    return data[at : at + size]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ProtobufError(f"text that is not UTF-8: {value[:20]!r}") from error


def _number(kind: Scalar | Table[Any], value: int) -> int | bool:
    """Read 64 bits as what they stand for."""
    if kind == "bool":
        return value != 0
    if kind in ("int32", "int64"):
        bits = 32 if kind == "int32" else 64
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    return value


def _encoded(field: Field, value: Any) -> Iterator[bytes]:  # noqa: ANN401  # what the field holds
    of_bytes = isinstance(field.kind, Table) or field.kind in _TEXTUAL
    if field.presence == "repeated" and of_bytes:
        yield from (_tagged(field, each) for each in value)
    elif field.presence == "repeated":
        packed = b"".join(map(_from_number, value))
        yield _lengthy(field.number, packed) if packed else b""
    elif value is not None and (value or _always_written(field)):
        yield _tagged(field, value)


def _always_written(field: Field) -> bool:
    return field.presence == "optional" or isinstance(field.kind, Table)


def _tagged(field: Field, value: Any) -> bytes:  # noqa: ANN401  # what the field holds
    if isinstance(field.kind, Table):
        return _lengthy(field.number, encode(field.kind, value))
    if field.kind in _TEXTUAL:
        return _lengthy(field.number, value.encode() if field.kind == "string" else value)
    return _from_number(field.number << 3 | _VARINT) + _from_number(value)


def _lengthy(number: int, data: bytes) -> bytes:
    return _from_number(number << 3 | _BYTES) + _from_number(len(data)) + data


def _from_number(value: int) -> bytes:
    """Write a number; negative ones as 64 bits of two's complement."""
    value &= _U64_MAX
    written = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits a byte
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
