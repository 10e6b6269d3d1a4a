"""Which values a setting takes, in words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import fields

from memreact_schemas.config import U64_MAX, Config

__all__ = ["values_of"]


@lru_cache(maxsize=128)
def values_of(path: tuple[str | int, ...]) -> str:
    """Say which values a key takes, as in "a whole number from 0 to 200"; "" for no such key."""
    kind: object = Config
    for step in path:
        kind = _kind_below(kind, step)
    return " or ".join(_in_words(kind))


def _kind_below(kind: object, step: str | int) -> object:
    if isinstance(step, int):
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        return get_args(kind)[0] if get_origin(kind) is tuple else None
    if isinstance(kind, type) and issubclass(kind, Struct):
        return next((field.type for field in fields(kind) if field.name == step), None)
    return None


def _in_words(kind: object, meta: Meta | None = None) -> Iterator[str]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _in_words(parts[0], parts[1])
    elif origin is Literal:
        yield from (f'"{word}"' for word in parts)
    elif origin in (Union, UnionType):
        for part in parts:
            yield from _in_words(part)
    elif origin is tuple:
        (each,) = _in_words(parts[0])
        limit = f" of at most {meta.max_length}" if meta else ""
        yield f"a list{limit}, each {each}"
    elif kind is int or kind is float:
        yield ("a whole number" if kind is int else "a number") + _range(meta or Meta())
    elif isinstance(kind, type) and kind is not NoneType:
        yield {bool: "true or false", str: "text"}.get(kind, "a table")


def _range(meta: Meta) -> str:
    upper = U64_MAX if meta.le is None else meta.le
    return f" over {meta.gt}, up to {upper}" if meta.ge is None else f" from {meta.ge} to {upper}"
