"""Our codec on its own, and beside the official runtime."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from memreact_schemas.agent import (
    ADD_SWAP,
    ADD_SWAP_PATH,
    COMPACT_CONFIG,
    HEALTH_CHECK_RESPONSE,
    MEMCG_CONFIG,
    RESPONSE,
    AddSwapRequest,
    MemAgentCompactConfig,
    MemAgentMemcgConfig,
    Response,
    Status,
)
from memreact_schemas.protobuf import Field, ProtobufError, Table, decode, encode, raw_fields
from tests.official_protobuf import TABLES, official, parsed, said_by

U32_MAX = 2**32 - 1
NUMBERS = {
    "bool": st.booleans(),
    "uint32": st.integers(0, U32_MAX),
    "uint64": st.integers(0, 2**64 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    "bytes": st.binary(max_size=40),
}


def values(field: Field) -> st.SearchStrategy[Any]:
    """Everything that one field can hold."""
    of = field.kind
    one = messages(of) if isinstance(of, Table) else NUMBERS[of]
    if field.presence == "repeated":
        return st.lists(one, max_size=4).map(tuple)
    return st.none() | one if field.presence == "optional" or isinstance(of, Table) else one


def messages(table: Table[Any]) -> st.SearchStrategy[Any]:
    """Every message of a table."""
    held = {field.name: values(field) for field in table.fields.values()}
    return st.fixed_dictionaries(held).map(lambda kept: table.make(**kept))


def name_and_message(name: str) -> st.SearchStrategy[tuple[str, Struct]]:
    return st.tuples(st.just(name), messages(TABLES[name]))


ANY_MESSAGE = st.sampled_from(sorted(TABLES)).flatmap(name_and_message)


@given(ANY_MESSAGE)
def test_reads_back_every_message_that_it_wrote(case: tuple[str, Struct]) -> None:
    name, message = case
    assert decode(TABLES[name], encode(TABLES[name], message)) == message


@given(ANY_MESSAGE)
def test_writes_the_very_bytes_of_the_official_runtime(case: tuple[str, Struct]) -> None:
    name, message = case
    assert encode(TABLES[name], message) == official(message).SerializeToString(deterministic=True)


@given(ANY_MESSAGE)
def test_the_official_runtime_reads_what_we_wrote(case: tuple[str, Struct]) -> None:
    name, message = case
    table = TABLES[name]
    assert said_by(table, parsed(name, encode(table, message))) == message


@given(ANY_MESSAGE)
def test_reads_what_the_official_runtime_wrote(case: tuple[str, Struct]) -> None:
    name, message = case
    assert decode(TABLES[name], official(message).SerializeToString()) == message


def cut_to_32_bits(table: Table[Any], message: Struct) -> Struct:
    """What other decoders make of numbers that are too large."""
    cut: dict[str, Any] = {}
    for field in table.fields.values():
        value = getattr(message, field.name)
        if field.kind == "uint32" and isinstance(value, tuple):
            cut[field.name] = tuple(each & U32_MAX for each in value)
        elif field.kind == "uint32" and value is not None:
            cut[field.name] = value & U32_MAX
    return replace(message, **cut)


# Bytes that look like a message oftener than chance would have it.
VARINT = st.integers(0, 2**70).map(
    lambda value: bytes(
        [(value >> shift & 0x7F) | 0x80 for shift in range(0, value.bit_length() // 7 * 7, 7)]
        + [value >> value.bit_length() // 7 * 7]
    )
)
TAG = st.tuples(st.integers(0, 9), st.integers(0, 7)).map(lambda tag: bytes([tag[0] << 3 | tag[1]]))
LENGTHY = st.binary(max_size=20).map(lambda data: bytes([len(data)]) + data)
PIECES = st.lists(TAG | VARINT | LENGTHY | st.binary(max_size=9), max_size=12).map(b"".join)


CUT = st.tuples(ANY_MESSAGE, st.integers(0, 200)).map(
    lambda case: encode(TABLES[case[0][0]], case[0][1])[: case[1]]
)


@given(st.sampled_from(sorted(TABLES)), PIECES | CUT | st.binary())
def test_any_bytes_read_as_the_official_runtime_reads_them_or_are_refused(
    name: str, data: bytes
) -> None:
    table = TABLES[name]
    try:
        ours = decode(table, data)
    except ProtobufError as error:
        stricter = "a group" in str(error) or "64 bits" in str(error)
        if not stricter:
            with pytest.raises(DecodeError):
                parsed(name, data)
    else:
        assert cut_to_32_bits(table, ours) == said_by(table, parsed(name, data))


@pytest.mark.parametrize("presence", ["optional", "implicit"])
def test_only_an_optional_default_is_written(presence: Literal["optional", "implicit"]) -> None:
    table = Table(HEALTH_CHECK_RESPONSE.make, Field(1, "status", "int32", presence))
    assert encode(table, table.make(status=0)) == (b"\x08\0" if presence == "optional" else b"")


def test_an_absent_field_is_none_and_a_false_one_is_false() -> None:
    assert decode(MEMCG_CONFIG, b"\x08\x00") == MemAgentMemcgConfig(disabled=False)
    assert decode(MEMCG_CONFIG, b"") == MemAgentMemcgConfig()


def test_the_last_of_several_wins() -> None:
    assert decode(MEMCG_CONFIG, b"\x18\x01\x18\x02") == MemAgentMemcgConfig(swappiness_max=2)


def test_an_inner_message_that_comes_in_parts_is_one() -> None:
    parts = b"\x0a\x02\x08\x0d" + b"\x0a\x03\x12\x01x"
    assert decode(RESPONSE, parts) == Response(status=Status(code=13, message="x"))


def test_a_list_is_read_packed_and_unpacked_and_mixed() -> None:
    assert decode(ADD_SWAP, b"\x0a\x03\x01\xac\x02" + b"\x08\x03") == AddSwapRequest(
        pci_path=(1, 300, 3)
    )


def test_a_number_too_large_for_its_field_keeps_its_value() -> None:
    assert decode(MEMCG_CONFIG, b"\x18\xbc\x80\x80\x80\x10").swappiness_max == 2**32 + 60


def test_a_number_of_64_bits_is_read_and_one_of_65_is_not() -> None:
    most = decode(COMPACT_CONFIG, b"\x40" + b"\xff" * 9 + b"\x01")
    assert most == MemAgentCompactConfig(compact_force_times=2**64 - 1)
    with pytest.raises(ProtobufError, match="64 bits"):
        decode(COMPACT_CONFIG, b"\x40" + b"\x80" * 9 + b"\x02")


@pytest.mark.parametrize(
    "unknown",
    [
        pytest.param(b"\x78\x05", id="varint"),
        pytest.param(b"\x79" + bytes(8), id="64 bits"),
        pytest.param(b"\x7a\x02hi", id="bytes"),
        pytest.param(b"\x7d" + bytes(4), id="32 bits"),
        pytest.param(b"\x11" + bytes(8), id="known, but not as 64 bits"),
        pytest.param(b"\x12\x01\x00", id="known, but not as bytes"),
    ],
)
def test_what_a_table_does_not_know_is_passed_over(unknown: bytes) -> None:
    assert decode(MEMCG_CONFIG, unknown + b"\x10\x01" + unknown) == MemAgentMemcgConfig(swap=True)


def test_text_that_comes_as_a_number_is_passed_over() -> None:
    assert decode(ADD_SWAP_PATH, b"\x08\x01").path == ""
    assert decode(RESPONSE, b"\x08\x01").status is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x08", "ends within a number"),
        (b"\x08\x80", "ends within a number"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x00\x01", "no field has the number 0"),
        (b"\xff\xff\xff\xff\x7f\x01", "no field has the number"),
        (b"\x7a\x05hi", "5 bytes announced, 2 there"),
        (b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "announced"),
        (b"\x79\x00", "8 bytes announced, 1 there"),
        (b"\x7b\x7c", "a group"),
        (b"\x7e", "unknown wire type 6"),
        (b"\x10\x01" * 513, "more than 512 fields"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(ProtobufError, match=why):
        decode(MEMCG_CONFIG, data)


def test_the_elements_of_lists_count_as_fields() -> None:
    with pytest.raises(ProtobufError, match="more than 512 fields"):
        decode(ADD_SWAP, (b"\x0a\x7f" + b"\x01" * 127) * 5)


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ProtobufError, match="UTF-8"):
        decode(ADD_SWAP_PATH, b"\x0a\x01\xff")


def test_the_beginning_of_a_cut_message_can_be_walked_over() -> None:
    walk = raw_fields(b"\x0a\x01x" + b"\x10\x05" + b"\x1a\x7fcut")
    assert [next(walk), next(walk)] == [(1, 2, b"x"), (2, 0, 5)]
    with pytest.raises(ProtobufError):
        next(walk)


def test_every_message_is_known_to_both() -> None:
    for name, table in TABLES.items():
        assert {field.name for field in table.fields.values()} == {
            field.name for field in official(table.make()).DESCRIPTOR.fields
        }, name
