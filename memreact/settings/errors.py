"""What is wrong in a layer of settings, where it stands, and what would have been right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tomli
from msgspec import Struct

from memreact_schemas.config import DEFAULTS, CgroupEntry, Config
from memreact_schemas.wording import values_of

__all__ = [
    "KeyPath",
    "SettingsError",
    "explain",
    "known_key",
    "unknown_key",
    "values_of",
    "wrong_value",
]

_SHOWN_MAX = 60
_SHOWN_BITS_MAX = 200
_LOOKED_THROUGH_MAX = 4 << 20  # bytes of TOML that are parsed to find a line: half a second

KeyPath = tuple[str | int, ...]


class SettingsError(Exception):
    """A layer of settings that cannot be taken.

    Args:
        origin: The file, or whatever else the layer came from.
        expected: What would have been right.
        found: What stands there instead; empty where the expectation says it all.
        key: Path of the key, as in `memcg.cgroup[0].numa`; empty for the layer as a whole.
        line: Line in the file, from 1; None where there is none to tell.
        column: Column in that line, from 1.
    """

    def __init__(  # noqa: PLR0913  # an error says all that is known
        self,
        origin: str,
        expected: str,
        *,
        found: str = "",
        key: str = "",
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (origin, line, column) if part is not None)
        what = f"found {found}, expected {expected}" if found else expected
        super().__init__(": ".join(part for part in (place, key, what) if part))
        self.origin = origin
        self.expected = expected
        self.found = found
        self.key = key
        self.line = line
        self.column = column


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_BY_HAND = re.compile(r"Expected (.*) for `(\w+)((?:\[\d+\])?)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_ENTRY_KEY = re.compile(r"memcg\.cgroup\[/.*\](?:\.(\w+))?", re.DOTALL)
_NOTHING = object()


def explain(
    message: str,
    value: object,
    origin: str,
    text: str,
    written: Mapping[KeyPath, KeyPath] | None = None,
) -> SettingsError:
    """Turn msgspec's sentence into key, found and expected.

    Args:
        message: Of the ValidationError.
        value: What was to be converted to a `Config`.
        origin: Named in the error.
        text: The TOML that it was parsed from; empty where there is none.
        written: Where a key stands there, if elsewhere than in `value`.
    """
    what, _, at = message.rpartition(" - at `$")
    path = _path_from(at) if what else ()
    what = what or message
    if unknown := _UNKNOWN.fullmatch(what):
        return _unknown(path, unknown[1], origin, text)
    if by_hand := _BY_HAND.fullmatch(what):
        path = (*path, *_path_from(f".{by_hand[2]}{by_hand[3]}"))
    if missing := _MISSING.fullmatch(what):
        expected = f"a table with the key `{missing[1]}`"
    elif by_hand and not by_hand[1].startswith("`int`"):
        expected = by_hand[1]
    else:
        expected = values_of(path) or what.removeprefix("Expected ")
    stands = (written or {}).get(path, path)
    return wrong_value(stands, _value_at(value, path), expected, origin, text)


def wrong_value(
    path: KeyPath, value: object, expected: str, origin: str, text: str
) -> SettingsError:
    """Say what a key holds, and what would have been right.

    Args:
        path: Where the key stands.
        value: What it holds.
        expected: What would have been right.
        origin: Named in the error.
        text: The TOML that holds it; empty where there is none.
    """
    line = _line_of(text, path)
    return SettingsError(origin, expected, found=_shown(value), key=_dotted(path), line=line)


def unknown_key(path: KeyPath, known: Sequence[str], origin: str, text: str) -> SettingsError:
    """Say which key is not known, and which one may have been meant.

    Args:
        path: Where the key stands.
        known: Those that are known there.
        origin: Named in the error.
        text: The TOML that holds it; empty where there is none.
    """
    from difflib import get_close_matches  # noqa: PLC0415  # memory that only an error costs

    near = get_close_matches(str(path[-1]), known, n=1)
    expected = f"a known key: did you mean `{near[0]}`?" if near else f"one of {', '.join(known)}"
    return _unknown_at(path, expected, origin, text)


def known_key(key: str, origin: str) -> str:
    """Return a key or table, named as in `memcg`, `memcg.swap` or `memcg.cgroup[/a].swap`.

    Raises:
        SettingsError: There is no such key.
    """
    if entry := _ENTRY_KEY.fullmatch(key):
        path: KeyPath = ("memcg", "cgroup", 0)
        name = entry[1] or "path"
    else:
        table, _, name = key.partition(".")
        path = (table,) if "." in key and table in _keys_of(()) else ()
        name = name if path else table
    if name not in _keys_of(path):
        raise _unknown(path, name, origin, "")
    return key


def _unknown(path: KeyPath, key: str, origin: str, text: str) -> SettingsError:
    """Say which key is not known here, and which one may have been meant."""
    from difflib import get_close_matches  # noqa: PLC0415  # memory that only an error costs

    known = _keys_of(path)
    table = f"{path[0]}_" if path else ""
    bare = key.removeprefix(table)  # Kata's files say memcg_swap
    near = [name for name in (bare, table + key) if name in known]
    near = near or get_close_matches(bare, known, n=1)
    elsewhere = [table for table in _keys_of(()) if key in _keys_of((table,))]
    if near:
        expected = f"a known key: did you mean `{near[0]}`?"
    elif elsewhere:
        expected = f"a key of this table: `{key}` belongs to [{elsewhere[0]}]"
    else:
        expected = f"one of {', '.join(known)}"
    return _unknown_at((*path, key), expected, origin, text)


def _unknown_at(path: KeyPath, expected: str, origin: str, text: str) -> SettingsError:
    found, line = f"the unknown key {_shown(path[-1])}", _line_of(text, path)
    return SettingsError(origin, expected, found=found, key=_dotted(path[:-1]), line=line)


def _path_from(at: str) -> KeyPath:
    return tuple(name or int(index) for name, index in _STEP.findall(at))


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _table_of(path: KeyPath) -> type[Struct]:
    """Find the struct of the table that a key path leads to, or into."""
    if path[1:2] == ("cgroup",):
        return CgroupEntry
    table = getattr(DEFAULTS, str(path[0]), None) if path else DEFAULTS
    return type(table) if isinstance(table, Struct) else Config


def _keys_of(path: KeyPath) -> tuple[str, ...]:
    return _table_of(path).__struct_fields__


def _below(value: object, step: str | int) -> object:
    """Go one step down; `_NOTHING` where there is none."""
    if isinstance(value, dict):
        return value.get(step, _NOTHING)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return _NOTHING


def _value_at(value: object, path: KeyPath) -> object:
    for step in path:
        value = _below(value, step)
    return value


def _shown(value: object) -> str:
    """Write a value as its file does, on one line of bounded length."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS_MAX:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        shown = f'"{value}"' if value.isprintable() else ascii(value)
        return shown if len(shown) <= _SHOWN_MAX else f"{shown[:_SHOWN_MAX]}…"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    names = {dict: "a table", object: "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")


def _line_of(text: str, path: KeyPath) -> int | None:
    """Find the line where a key stands: the first one up to which the text has the key.

    None where the text is too large to look through, or there is no text.
    """
    search = _Search(text.replace("\r\n", "\n").split("\n"), path)
    low, high = 0, len(search.lines)  # up to line `low` the key is not there, up to `high` it is
    if not text or not path or not search.has_up_to(high):
        return None
    while high - low > 1 and search.left > 0:
        middle = (low + high) // 2
        low, high = (low, middle) if search.has_up_to(middle) else (middle, high)
    return high if search.left > 0 else None


class _Search(Struct):
    """Parses beginnings of a text that is known to be TOML, until it has parsed too much."""

    lines: list[str]
    path: KeyPath
    left: int = _LOOKED_THROUGH_MAX

    def has_up_to(self, count: int) -> bool:
        """Say if the key is in the first lines; those that end within a value are read on."""
        for end in range(count, len(self.lines) + 1):
            beginning = "\n".join(self.lines[:end])
            self.left -= len(beginning)
            if self.left <= 0:
                return False
            try:
                return _value_at(tomli.loads(beginning), self.path) is not _NOTHING
            except tomli.TOMLDecodeError:
                continue
        return False
