"""KEY=VALUE as people type it, made into settings by their schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import msgspec
from msgspec import Struct

from memreact_schemas.config import CgroupEntry, Config
from memreact_schemas.control import tables_to_wire
from memreact_schemas.wording import values_of

__all__ = ["Misused", "key_names", "patch_from", "rule_from", "told_near", "unknown_key"]

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_BROKEN = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_BY_HAND = re.compile(r"Expected (?!`int`)(.*) for `\w+(?:\[\d+\])?`", re.DOTALL)
_RULES = "memcg.cgroup"
_ENTRY = ("memcg", "cgroup", 0)


class Misused(Exception):  # noqa: N818  # reads as what happened
    """What was typed asks for nothing that there is."""


def key_names() -> tuple[str, ...]:
    """Return every key outside of rules, as in `memcg.swap`."""
    return tuple(
        f"{table.name}.{key}"
        for table in msgspec.structs.fields(Config)
        for key in _keys_of(table.type)
        if f"{table.name}.{key}" != _RULES
    )


def _keys_of(table: object) -> tuple[str, ...]:
    return tuple(getattr(table, "__struct_fields__", ()))


def patch_from(pairs: Sequence[str]) -> dict[str, object]:
    """Return tables of settings from `memcg.swap=true` and the like.

    Raises:
        Misused: A key is not known, or does not take the value; says which one was meant.
    """
    config = Config()
    for name, text in _split(pairs):
        table, _, key = name.partition(".")
        if name not in key_names():
            raise Misused(unknown_key(name))
        kind = type(getattr(config, table))
        value = getattr(_checked(kind, (table,), key, text, name), key)
        changed = msgspec.structs.replace(getattr(config, table), **{key: value})
        config = msgspec.structs.replace(config, **{table: changed})
    return tables_to_wire(config)


def rule_from(path: str, numa: str | None, pairs: Sequence[str]) -> dict[str, object]:
    """Return one entry for a cgroup.

    Args:
        path: Of the cgroup.
        numa: Numbers of nodes with commas between; None means all.
        pairs: `swap=true` and the like.

    Raises:
        Misused: A key is not known, or does not take the value; says which one was meant.
    """
    keys = [key for key in CgroupEntry.__struct_fields__ if key not in ("path", "numa")]
    said: dict[str, object] = {"path": path}
    if numa is not None:
        said["numa"] = nodes_from(numa)
    for name, text in _split(pairs):
        key = name.removeprefix("memcg.")
        if key not in keys:
            raise Misused(f"no rule has a key {name!r}: {told_near(key, keys)}")
        said[key] = getattr(_checked(CgroupEntry, _ENTRY, key, text, name), key)
    try:
        msgspec.convert(said, CgroupEntry)
    except msgspec.ValidationError as error:
        nodes = "$.numa" in str(error)
        told = f"--numa: expected {values_of((*_ENTRY, 'numa'))}" if nodes else error
        raise Misused(f"{path}: {told}") from error
    return said


def nodes_from(text: str) -> list[int]:
    """Read node numbers with commas between.

    Raises:
        Misused: It is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise Misused(f"--numa is node numbers as in 0,1, not {text!r}")
    return [int(part[:40]) for part in parts]


def _split(pairs: Iterable[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise Misused(f"{pair!r} is not KEY=VALUE")
        name = name.strip()
        if name in seen:
            raise Misused(f"{name} is given twice")
        seen.add(name)
        yield name, text.strip()


def _checked(
    kind: type[Struct], table: tuple[str | int, ...], key: str, text: str, name: str
) -> Struct:
    """Return a table with this key in it: the first reading of the text that the schema takes."""
    others = {"path": "/"} if kind is CgroupEntry else {}
    trouble = ""
    for value in _readings(text):
        try:
            return msgspec.convert({**others, key: value}, kind)
        except msgspec.ValidationError as error:
            trouble = trouble or str(error).partition(" - at ")[0]
    found = _BY_HAND.fullmatch(trouble)  # what the schema checks itself, it says itself
    words = found[1] if found else values_of((*table, key)) or trouble
    raise Misused(f"{name}={text}: expected {words}")


def _readings(text: str) -> Iterator[object]:
    if text in ("true", "false"):
        yield text == "true"
    if _WHOLE.fullmatch(text):
        yield int(text)
    elif _BROKEN.fullmatch(text):
        yield float(text)
    yield text


def unknown_key(name: str) -> str:
    """Say that there is no such key, and which one may have been meant."""
    if name == _RULES or name.startswith(f"{_RULES}["):
        return f"{_RULES} is changed with `memreact-ctl rule`"
    keys = key_names()
    return f"no setting is named {name!r}: {told_near(name, keys)}"


def told_near(name: str, keys: Sequence[str]) -> str:
    """Say which key may have been meant: of the same last part, or spelt alike."""
    same = [key for key in keys if key.rpartition(".")[2] == name or key.replace(".", "_") == name]
    near = same or get_close_matches(name, keys, n=1)
    if not near:  # the key alone was given, and misspelt
        tails = {key.rpartition(".")[2]: key for key in keys}
        near = [tails[tail] for tail in get_close_matches(name, tails, n=1)]
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(keys)}"
