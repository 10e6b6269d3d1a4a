"""What crosses Varlink, and that the committed interface says the same as the structs."""

from __future__ import annotations

import os

import msgspec
import pytest
from msgspec.structs import fields

from memreact_schemas import control, idl, varlink
from memreact_schemas.config import DEFAULTS, CgroupEntry, Compact, Config, Memcg

FOLDER = os.path.dirname(control.__file__)


def _file(name: str) -> str:
    with open(os.path.join(FOLDER, f"{name}.varlink"), encoding="utf-8") as file:
        return file.read()


def test_the_committed_interface_is_what_the_structs_say() -> None:
    assert _file("io.memreact") == idl.memreact_text()


def test_every_call_refuses_a_parameter_that_it_does_not_know() -> None:
    for method in control.METHODS.values():
        with pytest.raises(msgspec.ValidationError, match="unknown field `beside`"):
            msgspec.json.decode(b'{"beside": 1}', type=method.call)


def test_every_method_is_called_as_its_struct() -> None:
    assert [method.call.__name__ for method in control.METHODS.values()] == list(control.METHODS)


def test_only_what_asks_is_no_write() -> None:
    asks = {name for name, method in control.METHODS.items() if not method.writes}
    assert asks == {
        "Explain",
        "GetSettings",
        "GetStatus",
        "GetDoctor",
        "ListSwap",
        "Look",
        "Record",
        "Watch",
        "WhatIf",
    }


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (varlink.Info, "method GetInfo() -> ("),
        (varlink.Description, "method GetInterfaceDescription("),
        (varlink.InterfaceNotFound, "error InterfaceNotFound ("),
        (varlink.MethodNotFound, "error MethodNotFound ("),
        (varlink.MethodNotImplemented, "error MethodNotImplemented ("),
        (varlink.InvalidParameter, "error InvalidParameter ("),
        (varlink.PermissionDenied, "error PermissionDenied ("),
        (varlink.ExpectedMore, "error ExpectedMore ("),
    ],
)
def test_the_service_interface_names_each_field(kind: type[msgspec.Struct], said: str) -> None:
    _, _, rest = _file("org.varlink.service").partition(said)
    named = rest.partition("\n\n")[0]
    assert all(f"{field.encode_name}: " in named for field in fields(kind))
    assert named.count(":") == len(fields(kind)) + (said.endswith("Description("))


def test_defaults_cross_whole_and_come_back_the_same() -> None:
    wire = control.tables_to_wire(DEFAULTS)
    assert wire["compact"] == {**msgspec.to_builtins(DEFAULTS.compact), "compact_order": "auto"}
    over = msgspec.json.decode(msgspec.json.encode(wire), type=dict[str, object])
    assert msgspec.convert(control.tables_from_wire(over), Config) == DEFAULTS


def test_an_order_is_text_on_the_wire_and_a_number_in_settings() -> None:
    config = Config(compact=Compact(compact_order=9))
    wire = control.tables_to_wire(config)
    assert wire == {"compact": {"compact_order": "9"}}
    assert msgspec.convert(control.tables_from_wire(wire), Config) == config


def test_an_order_that_comes_as_a_number_is_taken() -> None:
    tables = {"compact": {"compact_order": 9}}
    assert control.tables_from_wire(tables) == tables


@pytest.mark.parametrize("order", ["nine", "", "-1", "٣", "1" * 5000, None, [9], "9 "])
def test_what_is_no_order_is_left_for_the_check(order: object) -> None:
    tables = {"compact": {"compact_order": order}}
    assert control.tables_from_wire(tables) == tables


def test_a_key_that_is_not_said_does_not_cross() -> None:
    config = Config(memcg=Memcg(cgroup=(CgroupEntry(path="/a", swap=True),)))
    entry = {"path": "/a", "swap": True}
    assert control.tables_to_wire(config) == {"memcg": {"cgroup": [entry]}}


class Both(msgspec.Struct):
    """A struct that Varlink cannot have."""

    either: int | list[str]


class Under(msgspec.Struct):
    """A struct with a name that Varlink cannot have."""

    _hidden: int


class Nested(msgspec.Struct):
    """Lists of lists, that systemd does not know."""

    lists: tuple[tuple[int, ...], ...]


class Bytes(msgspec.Struct):
    """A type that JSON does not have."""

    data: bytes


class Try(msgspec.Struct):
    """Named as the method that takes it."""

    again: Try | None = None


class Takes(msgspec.Struct):
    """Holds one that is named as the method."""

    one: Try


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Both, "no unions"),
        (Under, "no name in Varlink"),
        (Nested, "neither lists"),
        (Bytes, "Varlink has no"),
        (Takes, "two of Try"),
    ],
)
def test_what_varlink_does_not_have_is_no_interface(kind: type[msgspec.Struct], says: str) -> None:
    method = control.Method(kind, control.Nothing, writes=False)
    with pytest.raises(TypeError, match=says):
        idl.interface_text("io.memreact", "", {"Try": method}, ())
