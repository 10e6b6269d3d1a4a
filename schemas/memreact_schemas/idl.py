"""Writes an interface in Varlink's own language from the structs that its messages are.

`python -m memreact_schemas.idl` prints io.memreact; the committed file is compared with it by a
test. The daemon imports none of this.

Source: varlink.org, "Interface-Definition"
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from memreact_schemas import config, control, doctor, swap

__all__ = ["NAMES", "interface_text"]

NAMES: Mapping[object, str] = {
    config.Config: "Settings",
    config.Memcg: "MemcgSettings",
    config.CgroupEntry: "CgroupRule",
    config.Compact: "CompactSettings",
    config.Pressure: "PressureSettings",
    config.Reclaim: "ReclaimSettings",
    config.Swap: "SwapSettings",
    config.Control: "ControlSettings",
    config.Log: "LogSettings",
    config.LogLevel: "LogLevel",
    doctor.Report: "DoctorReport",
    doctor.Mglru: "MglruState",
    doctor.Psi: "PsiKind",
    doctor.Status: "FindingStatus",
    swap.Discard: "SwapDiscard",
}
"""What a type is called where its own name says too little beside the others."""

_WORD = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
_PLAIN = {bool: "bool", int: "int", float: "float", str: "string", object: "object"}
_WIDTH = 98


def interface_text(
    name: str, about: str, methods: Mapping[str, control.Method], errors: Sequence[type[Struct]]
) -> str:
    """Write an interface.

    Args:
        name: Of the interface.
        about: The comment on top.
        methods: By their names.
        errors: Each is named as its struct is.

    Raises:
        TypeError: A field is of a type that Varlink does not have.
    """
    writer = _Writer()
    parts = [f"{_comment(about)}interface {name}"]
    said = [writer.method(each, method) for each, method in methods.items()]
    said += [_comment(_summary(e)) + f"error {e.__name__} {writer.struct(e)}" for e in errors]
    writer.refuse_twice((*methods, *(error.__name__ for error in errors)))
    return "\n\n".join([*parts, *writer.types(), *said]) + "\n"


class _Writer:
    """Writes types as they are first met."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[object, str]] = {}

    def types(self) -> list[str]:
        return [text for _, (_, text) in sorted(self._written.items())]

    def refuse_twice(self, others: Sequence[str]) -> None:
        """Methods, errors and types share one space of names."""
        names = [*self._written, *others]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise TypeError(f"Varlink would have two of {', '.join(sorted(twice))}")

    def method(self, name: str, method: control.Method) -> str:
        more = "Answers in a row: call it with more. " if method.streams else ""
        text = _comment(more + _summary(method.call))
        return text + f"method {name}{self.struct(method.call)} -> {self.struct(method.answer)}"

    def struct(self, kind: type[Struct]) -> str:
        lines = []
        told = _args_of(kind)
        for field in fields(kind):
            if isinstance(field.type, type) and _is_empty(field.type):
                continue
            text = self._field(kind, field)
            comment = _comment(told[field.name], "  ") if field.name in told else ""
            lines.append(f"{comment}  {field.encode_name}: {text}")
        return "(\n" + ",\n".join(lines) + "\n)" if lines else "()"

    def _field(self, kind: type[Struct], field: FieldInfo) -> str:
        if not _WORD.fullmatch(field.encode_name):
            raise TypeError(f"{kind.__name__}.{field.name} is no name in Varlink")
        text = self._type(field.type, _camel(kind.__name__, field.name))
        may_lack = kind.__module__ == config.__name__ and not field.required
        return f"?{text}" if may_lack and not text.startswith("?") else text

    def _type(self, kind: object, enum: str) -> str:
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._named(kind, NAMES.get(kind, kind.__name__))
        if kind in _PLAIN:
            return _PLAIN[kind]
        origin, args = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._type(_meant(args), enum)
        if origin is Literal:
            return self._enum(kind, enum)
        if origin in (Union, UnionType):
            return self._union(args, enum)
        if origin in (tuple, list):
            return "[]" + self._single(args[0], enum)
        if origin is dict and args[1] is object:
            return "object"
        if origin is dict and args[0] is str:
            return "[string]" + self._single(args[1], enum)
        raise TypeError(f"{enum}: Varlink has no {kind}")

    def _single(self, kind: object, enum: str) -> str:
        text = self._type(kind, enum)
        if text[0] in "[?":  # systemd's parser knows none of these
            raise TypeError(f"{enum}: a list holds neither lists nor nothing")
        return text

    def _union(self, args: Sequence[object], enum: str) -> str:
        """Write an optional type; of several kinds of value only text can hold all."""
        kinds = {self._type(each, enum) for each in args if each is not NoneType}
        if len(kinds) > 1 and any(get_origin(each) is Literal for each in args):
            self._written.pop(enum, None)
            kinds = {"string"}
        if len(kinds) > 1:
            raise TypeError(f"{enum}: Varlink has no unions")
        return ("?" if NoneType in args else "") + kinds.pop()

    def _enum(self, kind: object, name: str) -> str:
        words = get_args(kind)
        if not all(isinstance(word, str) and _WORD.fullmatch(word) for word in words):
            return "string"
        name = NAMES.get(kind, name)
        return self._add(kind, name, f"type {name} (\n  " + ",\n  ".join(words) + "\n)")

    def _named(self, kind: type[Struct], name: str) -> str:
        if name not in self._written:
            self._written[name] = (kind, "")  # a type that holds itself ends here
            text = _comment(_summary(kind)) + f"type {name} {self.struct(kind)}"
            self._written[name] = (kind, text)
        return self._add(kind, name, self._written[name][1])

    def _add(self, kind: object, name: str, text: str) -> str:
        before = self._written.setdefault(name, (kind, text))
        if before[0] != kind:
            raise TypeError(f"two types are called {name}: name one in NAMES")
        return name


def _meant(args: Sequence[object]) -> object:
    """Look through an annotation; it may say what a table that is checked later is."""
    for note in args[1:]:
        extra = getattr(note, "extra", None)
        if extra and "of" in extra:
            return extra["of"]
    return args[0]


def _is_empty(kind: type) -> bool:
    return issubclass(kind, Struct) and not kind.__struct_fields__


def _camel(*words: str) -> str:
    return "".join(part[:1].upper() + part[1:] for word in words for part in word.split("_"))


def _summary(kind: type) -> str:
    """Take the first paragraph of a docstring, on one line, without the marks of its language."""
    text = inspect.getdoc(kind) or ""
    return _in_json(text.partition("\n\n")[0])


_ARG = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def _args_of(kind: type[Struct]) -> dict[str, str]:
    """What the docstrings of a struct and its bases say of each field."""
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        _, _, rest = (inspect.cleandoc(each.__doc__ or "")).partition("\nArgs:\n")
        said = rest.partition("\n\n")[0]
        told |= {name: _in_json(text) for name, text in _ARG.findall(said)}
    return told


def _in_json(text: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(text.split()).replace("`", ""))


def _comment(text: str, indent: str = "") -> str:
    return "".join(f"{indent}# {line}\n" for line in _lines(text, _WIDTH - len(indent)))


def _lines(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    if line:
        yield line


ABOUT = """Settings, state and decisions of memreact in one guest. Each change of settings is whole
or nothing, and in force when its answer comes. Moments are CLOCK_MONOTONIC of the guest in
microseconds."""


def memreact_text() -> str:
    """Write io.memreact."""
    return interface_text(control.INTERFACE, ABOUT, control.METHODS, control.ERRORS)


if __name__ == "__main__":
    sys.stdout.write(memreact_text())
