"""One key of a TOML text changed, every other byte kept.

The text is not written anew from its values: statements are found in it by their place, and one
value's characters are exchanged, one line gets back from behind its `#`, or one line is added.
What comes out is parsed again, and must differ from before in that one value.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import tomli

__all__ = [
    "CannotEdit",
    "Edit",
    "NotToml",
    "Path",
    "Statement",
    "commented_out",
    "document_of",
    "edit_for",
    "scan",
    "value_at",
]

Path: TypeAlias = tuple[str, ...]

_STRING = (
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_TOKEN = re.compile(rf"(?P<string>{_STRING})|#[^\n]*|\n|[\[\]{{}}=]|[^\"'#\n\[\]{{}}=]+", re.DOTALL)
_BLANKS = re.compile(r"[ \t]*")
_OUT = re.compile(r"([ \t]*)(#[ \t]*)(?=[\[\w\"'])")
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class CannotEdit(Exception):  # noqa: N818  # reads as what happened
    """The text has the key's place in a form that is not edited here."""


class NotToml(Exception):  # noqa: N818  # reads as what happened
    """A text that is no TOML, or more of it than is read."""


class Edit(NamedTuple):
    """Characters at one place of a text, and what comes in their stead."""

    at: int
    old: str
    new: str

    def apply(self, text: str) -> str:
        """Return the text after the edit."""
        return text[: self.at] + self.new + text[self.at + len(self.old) :]

    def undo(self, text: str) -> str:
        """Return the text that `apply` got, from what it gave."""
        return Edit(self.at, self.new, self.old).apply(text)


class Statement(NamedTuple):
    """A header, a pair, or one line of what means nothing.

    Args:
        kind: Which.
        start: Where its first line begins.
        end: Behind the end of its last line.
        table: Path of the table that it belongs to; None within arrays of tables, and for a
            comment below a header that is commented out.
        key: Of a pair, split at its dots.
        value_start: Of a pair, where its value begins.
        value_end: Of a pair, behind its value.
    """

    kind: Literal["header", "pair", "comment", "blank"]
    start: int
    end: int
    table: Path | None
    key: Path = ()
    value_start: int = 0
    value_end: int = 0


def document_of(text: str) -> dict[str, Any]:
    """Parse a text.

    Raises:
        NotToml: It is none, nests too deeply, or has a number of more digits than Python reads.
    """
    try:
        return tomli.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotToml(str(error)) from error


def scan(text: str) -> Iterator[Statement]:
    """Find the statements of a text that tomli can read, in order."""
    at = 0
    table: Path | None = ()
    arrays: set[Path] = set()
    beside: Path | None = ()  # the table that a comment's key would belong to
    while at < len(text):
        first = _behind_blanks(text, at)
        if text[first : first + 1] == "[":
            end = _line_end(text, first)
            path, is_array = _header(text[first:end])
            if is_array:
                arrays.add(path)
            table = beside = None if _within(path, arrays) else path
            yield Statement("header", at, end, table)
        elif text[first : first + 1] in ("", "\r", "\n"):
            end = _line_end(text, first)
            yield Statement("blank", at, end, beside)
        elif text[first] == "#":
            end = _line_end(text, first)
            beside = None if _header_in_comment(text[at:end]) else beside
            yield Statement("comment", at, end, beside)
        else:
            beside = table
            pair = _pair(text, at, first, table)
            end = pair.end
            yield pair
        at = end


def _behind_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _line_end(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _header(line: str) -> tuple[Path, bool]:
    """Return a header's path, and if it begins an element of an array."""
    path: list[str] = []
    value: Any = tomli.loads(line)
    while isinstance(value, dict) and value:
        ((name, value),) = value.items()
        path.append(name)
    return tuple(path), isinstance(value, list)


def _within(path: Path, arrays: set[Path]) -> bool:
    return any(path[: len(array)] == array for array in arrays)


def _header_in_comment(line: str) -> bool:
    rest = _OUT.sub("", line, count=1)
    try:
        return rest.startswith("[") and bool(document_of(rest))
    except NotToml:
        return False


def _pair(text: str, start: int, first: int, table: Path | None) -> Statement:
    equals = next(at for at, piece in _tokens(text, first) if piece == "=")
    value_start = _behind_blanks(text, equals + 1)
    value_end = _value_end(text, value_start)
    path: list[str] = []
    key: Any = tomli.loads(text[first:equals] + "= 0")
    while isinstance(key, dict):
        ((name, key),) = key.items()
        path.append(name)
    end = _line_end(text, value_end)
    return Statement("pair", start, end, table, tuple(path), value_start, value_end)


def _tokens(text: str, at: int) -> Iterator[tuple[int, str]]:
    for found in _TOKEN.finditer(text, at):
        yield found.start(), found[0]


def _value_end(text: str, at: int) -> int:
    depth = 0
    end = at
    for place, token in _tokens(text, at):
        if depth == 0 and token[0] in "#\n":
            break
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
        end = place + len(token)
    return at + len(text[at:end].rstrip(" \t\r"))


def commented_out(text: str, statement: Statement) -> tuple[str, Any] | None:
    """Return key and value of a pair that is a comment; None for any other comment."""
    line = text[statement.start : statement.end]
    rest, count = _OUT.subn("", line, count=1)
    try:
        pairs = document_of(rest) if count else {}
    except NotToml:
        return None
    if len(pairs) != 1 or rest.startswith("["):
        return None
    return next(iter(pairs.items()))


def value_at(document: dict[str, Any], path: Path) -> Any:  # noqa: ANN401  # TOML's values
    """Return the value at a path; None where there is none."""
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def edit_for(text: str, table: Path, key: str, value: str) -> Edit:
    """Say which edit gives a key this value.

    Args:
        text: TOML that tomli can read.
        table: Path of the key's table; it is made, at the end, where there is none.
        key: Its name.
        value: As TOML writes it.

    Raises:
        CannotEdit: No edit made here would change that value alone.
    """
    edit = _edit(text, list(scan(text)), (*table, key), value)
    _verify(text, edit, (*table, key), value)
    return edit


def _edit(text: str, statements: list[Statement], path: Path, value: str) -> Edit:
    table, key = path[:-1], path[-1]
    for each in statements:
        if each.kind == "pair" and _full(each) == path:
            return Edit(each.value_start, text[each.value_start : each.value_end], value)
    for each in reversed(statements):
        if each.kind == "comment" and each.table == table and _names(text, each, key):
            return _brought_back(text, each, value)
    for each in reversed(statements):
        if each.kind == "pair" and _full(each)[:-1] == table:
            return _added(text, each, (*each.key[:-1], key), value)
    for each in reversed(statements):
        if each.kind == "header" and each.table == table:
            return _added(text, each, (key,), value)
    return _appended(text, table, key, value)


def _full(pair: Statement) -> Path:
    return () if pair.table is None else pair.table + pair.key


def _names(text: str, comment: Statement, key: str) -> bool:
    pair = commented_out(text, comment)
    return pair is not None and pair[0] == key


def _brought_back(text: str, comment: Statement, value: str) -> Edit:
    line = text[comment.start : comment.end]
    rest = _OUT.sub(r"\1", line, count=1)
    pair = next(scan(rest))
    return Edit(comment.start, line, rest[: pair.value_start] + value + rest[pair.value_end :])


def _added(text: str, after: Statement, key: Path, value: str) -> Edit:
    newline = _newline_of(text)
    first = _behind_blanks(text, after.start)
    line = f"{text[after.start : first]}{_dotted(key)} = {value}"
    ended = text[: after.end].endswith("\n")
    return Edit(after.end, "", line + newline if ended else newline + line)


def _appended(text: str, table: Path, key: str, value: str) -> Edit:
    newline = _newline_of(text)
    gap = ""
    if text:
        gap = newline if text.endswith("\n") else newline * 2
    header = f"[{_dotted(table)}]{newline}" if table else ""
    if not table:  # a key of the document itself stands before every header
        return Edit(0, "", f"{key} = {value}{newline}")
    return Edit(len(text), "", f"{gap}{header}{_dotted((key,))} = {value}{newline}")


def _newline_of(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _dotted(path: Path) -> str:
    return ".".join(name if _BARE.fullmatch(name) else _quoted(name) for name in path)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _verify(text: str, edit: Edit, path: Path, value: str) -> None:
    """See that the edit changes what it should and nothing else."""
    expected = copy.deepcopy(_read(text))
    _put(expected, path, _read(f"v = {value}")["v"])
    try:
        after = _read(edit.apply(text))
    except tomli.TOMLDecodeError as error:
        raise CannotEdit(f"[{_dotted(path[:-1])}] is not written as a table of its own") from error
    if after != expected:
        raise CannotEdit(f"{_dotted(path)} cannot be set without changing something else")


def _read(text: str) -> dict[str, Any]:
    return tomli.loads(text, parse_float=str)  # NaN is not equal to itself


def _put(document: dict[str, Any], path: Path, value: object) -> None:
    for name in path[:-1]:
        document = document.setdefault(name, {})
        if not isinstance(document, dict):
            raise CannotEdit(f"{name} is not a table")
    document[path[-1]] = value
